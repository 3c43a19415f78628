"""What moved between two samples, most first, each with its distributions: the ranking behind the Drift page.

Sizes are in units of the threshold, so that an input, a class and the embedding can stand in one list: above 1 is more
than chance and the floor explain. Signals answer "is it more than chance", moves "what, which way, and how far".

References:
    as `monitoring.drift`; shares of classes: two-proportion z-test with pooled variance (Agresti 2013, section 2.1.4),
    Bonferroni over the classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.reference import MMD_LEVELS
from export.contracts.scores import ScoreName
from monitoring.baseline import Baseline, QuantityKind
from monitoring.distance_tables import group_table, ks_table, psi_table, wasserstein_table
from monitoring.distances import ks_chance, psi_chance, wasserstein_chance
from monitoring.drift import NAMED_FEATURES, Method
from monitoring.options import DriftOptions
from monitoring.sides import Side, Spread, spreads

CLASS_FLOOR = 0.02  # a class whose share moves by less than two points is not worth a line
Ints: TypeAlias = npt.NDArray[np.int64]
Float64s: TypeAlias = npt.NDArray[np.float64]


class MoveKind(StrEnum):
    """What moved."""

    INPUT = "input"  # a feature or a descriptor
    MISSING = "missing"  # the share of values that are NaN or infinite
    ANSWER = "answer"  # what the model answers: a value, a number of boxes
    SCORE = "score"  # how sure the model is
    PREDICTION = "prediction"  # how often a class is predicted
    EMBEDDING = "embedding"  # where the penultimate features lie


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """How far one thing is from where it was.

    Attributes:
        kind: What it is.
        subject: Stable name: a quantity's, a class's or the embedding output's.
        method: Which distance `value` is.
        value: The distance.
        threshold: What chance and the floor explain.
        size: Distance in thresholds, by which moves are ranked (squared distances by their root).
        before: Rows it was compared with.
        after: Rows compared.
        row: Row of the quantity, or index of the class; -1 for the embedding.
        spread_before: Quantiles of a quantity.
        spread_after: Quantiles of a quantity.
        share_before: Share of a class, or of values that are not finite.
        share_after: The same now.
        towards: Class whose embeddings the window's moved towards.
        away: Class whose embeddings it moved away from.
        moved_of: Of many nameless features that stand in one line: how many moved, and how many there are.
        farthest: The one of them that the figures are of.
    """

    kind: MoveKind
    subject: str
    method: Method
    value: float
    threshold: float
    size: float
    before: int
    after: int
    row: int = -1
    spread_before: Spread | None = None
    spread_after: Spread | None = None
    share_before: float | None = None
    share_after: float | None = None
    towards: str | None = None
    away: str | None = None
    moved_of: tuple[int, int] | None = None
    farthest: str | None = None

    @property
    def moved(self) -> bool:
        """Whether it is more than chance and the floor explain."""
        return self.size > 1.0


KINDS = {
    QuantityKind.FEATURE: MoveKind.INPUT,
    QuantityKind.DESCRIPTOR: MoveKind.INPUT,
    QuantityKind.ANSWER: MoveKind.ANSWER,
    QuantityKind.SCORE: MoveKind.SCORE,
}


def moves(
    baseline: Baseline, before: Side, after: Side, options: DriftOptions, *, each: bool = False
) -> tuple[Move, ...]:
    """Everything that can be compared, what moved most first. Empty where one side has too few rows.

    Args:
        baseline: Whose bins both sides were counted in.
        before: Where things were.
        after: Where they are.
        options: Floors, and the chance of a false line.
        each: List features without names, such as pixels, one by one; otherwise many of one input share a line.
    """
    quantities = _quantities(baseline, before, after, options)
    found = [
        *(quantities if each else _gathered(baseline, quantities)),
        *_missing(baseline, before, after, options),
        *_classes(baseline, before, after, options),
        *_embedding(baseline, before, after, options),
    ]
    return tuple(sorted(found, key=lambda m: (-m.size, m.kind.value, m.subject)))


def _gathered(baseline: Baseline, found: list[Move]) -> list[Move]:
    """Many features without names become one line an input: nobody reads 64 pixels."""
    groups: dict[str, list[Move]] = {}
    for move in found:
        quantity = baseline.quantities[move.row]
        if quantity.kind is QuantityKind.FEATURE and quantity.name.endswith("]"):
            groups.setdefault(quantity.group, []).append(move)
    many = {name: members for name, members in groups.items() if len(members) > NAMED_FEATURES}
    lost = {id(move) for members in many.values() for move in members}
    kept = [move for move in found if id(move) not in lost]
    for name, members in many.items():
        farthest = max(members, key=lambda m: (m.size, m.subject))
        counts = (sum(m.moved for m in members), len(members))
        kept.append(replace(farthest, subject=f"{name}[*]", moved_of=counts, farthest=farthest.subject))
    return kept


def _quantities(baseline: Baseline, before: Side, after: Side, options: DriftOptions) -> list[Move]:
    chosen = _comparable(baseline, before, after, options)
    if not len(chosen):
        return []
    live, past = after.counts[chosen], before.counts[chosen]
    edges, scale = baseline.edges[chosen], baseline.scale[chosen]
    inputs = np.array([baseline.quantities[q].kind is not QuantityKind.SCORE for q in chosen])
    w1 = wasserstein_table(live, past, edges, scale, np.abs(after.excess - before.excess)[chosen])
    groups, bins = group_table(past)
    psi = psi_table(live, past, groups, bins)
    ks = ks_table(live, past)
    quantiles = [spreads(side.counts[chosen], edges) for side in (before, after)]
    alpha = _alphas(baseline, chosen, options)
    made = []
    for i, q in enumerate(chosen.tolist()):
        quantity, n, known = baseline.quantities[q], int(after.rows[q]), int(before.rows[q])
        a = float(alpha[i])
        if inputs[i]:
            far = max(
                wasserstein_chance(past[i], edges[i], float(scale[i]), n, a, reference_rows=known),
                options.wasserstein_floor,
            )
            shape = max(psi_chance(int(bins[i]), n, known, a), options.psi_floor)
            options_ = (
                (float(w1[i]) / far, Method.WASSERSTEIN, float(w1[i]), far),
                (math.sqrt(float(psi[i]) / shape), Method.PSI, float(psi[i]), shape),
            )
        else:
            limit = max(ks_chance(n, known, a), options.ks_floor)
            options_ = ((float(ks[i]) / limit, Method.KS, float(ks[i]), limit),) * 2
        size, method, value, threshold = max(options_, key=lambda x: x[0])
        made.append(
            Move(
                kind=KINDS[quantity.kind],
                subject=quantity.name,
                method=method,
                value=value,
                threshold=threshold,
                size=size,
                before=known,
                after=n,
                row=q,
                spread_before=quantiles[0][i],
                spread_after=quantiles[1][i],
            )
        )
    return made


def _comparable(baseline: Baseline, before: Side, after: Side, options: DriftOptions) -> Ints:
    """Rows of the quantities with enough values on both sides. P(wrong) never: see `monitoring.drift`."""
    enough = (after.rows >= options.min_rows) & (before.rows > 0) & (before.counts.sum(axis=1) > 0)
    named = np.array([q.name != ScoreName.P_WRONG.value for q in baseline.quantities], dtype=bool)
    return np.flatnonzero(enough & named)


def _alphas(baseline: Baseline, chosen: Ints, options: DriftOptions) -> Float64s:
    """Chance of each comparison by itself: features that are many share one, as their signal does."""
    feature = np.array([baseline.quantities[q].kind is QuantityKind.FEATURE for q in chosen], dtype=bool)
    many = feature & (int(feature.sum()) > NAMED_FEATURES)
    return np.where(many, options.false_signal_rate / max(int(feature.sum()), 1), options.false_signal_rate)


def _missing(baseline: Baseline, before: Side, after: Side, options: DriftOptions) -> list[Move]:
    """Features whose values stopped arriving. Inputs with descriptors have one that says the same."""
    made = []
    for q, quantity in enumerate(baseline.quantities):
        n, known = int(after.rows[q] + after.not_finite[q]), int(before.rows[q] + before.not_finite[q])
        if quantity.kind is not QuantityKind.FEATURE or n < options.min_rows or not known:
            continue
        if not (after.not_finite[q] or before.not_finite[q]):
            continue
        found = _share(int(before.not_finite[q]), known, int(after.not_finite[q]), n, options.false_signal_rate)
        made.append(Move(kind=MoveKind.MISSING, subject=quantity.name, row=q, **found))
    return made


def _classes(baseline: Baseline, before: Side, after: Side, options: DriftOptions) -> list[Move]:
    if before.predicted is None or after.predicted is None or len(before.predicted) != len(after.predicted):
        return []
    known, n = int(before.predicted.sum()), int(after.predicted.sum())
    if n < options.min_rows or not known:
        return []
    alpha = options.false_signal_rate / len(before.predicted)
    made = []
    for c, (a, b) in enumerate(zip(before.predicted.tolist(), after.predicted.tolist(), strict=True)):
        name = baseline.class_names[c] if c < len(baseline.class_names) else str(c)
        made.append(Move(kind=MoveKind.PREDICTION, subject=name, row=c, **_share(a, known, b, n, alpha)))
    return made


def _share(a: int, known: int, b: int, n: int, alpha: float) -> dict[str, Any]:
    """The difference of two shares, with the threshold of a pooled z-test that allows for few counts."""
    from scipy.stats import norm

    pooled = (a + b + 1.0) / (known + n + 2.0)
    chance = float(norm.isf(alpha / 2)) * math.sqrt(pooled * (1 - pooled) * (1 / known + 1 / n)) + 0.5 / n
    value, threshold = abs(b / n - a / known), max(chance, CLASS_FLOOR)
    return {
        "method": Method.SHARE,
        "value": value,
        "threshold": threshold,
        "size": value / threshold,
        "before": known,
        "after": n,
        "share_before": a / known,
        "share_after": b / n,
    }


def _embedding(baseline: Baseline, before: Side, after: Side, options: DriftOptions) -> list[Move]:
    embedding = None if baseline.profile is None else baseline.profile.embedding
    if embedding is None or before.features is None or after.features is None:
        return []
    n, known = after.feature_rows, before.feature_rows
    if n < options.min_rows or not known or not np.isfinite(embedding.mmd_scaled).all():
        return []
    gap = after.features - before.features
    value = float(gap @ gap)
    wanted = 1.0 - options.false_signal_rate
    level = min((x for x in MMD_LEVELS if x >= wanted - 1e-9), default=max(MMD_LEVELS))
    scaled = float(embedding.mmd_scaled[MMD_LEVELS.index(level)])
    threshold = max(scaled * (1.0 / n + 1.0 / known), 1e-12)
    towards, away = _directions(baseline, gap)
    return [
        Move(
            kind=MoveKind.EMBEDDING,
            subject=embedding.output,
            method=Method.MMD,
            value=value,
            threshold=threshold,
            size=math.sqrt(value / threshold),
            before=known,
            after=n,
            towards=towards,
            away=away,
        )
    ]


def _directions(baseline: Baseline, gap: Float64s) -> tuple[str | None, str | None]:
    """The classes whose mean features lie most along the movement and most against it, seen from the reference.

    `gap @ (mean of the class - mean of all)` is the change of the mean kernel similarity to the class, less that to the
    reference as a whole.
    """
    embedding = None if baseline.profile is None else baseline.profile.embedding
    if embedding is None or embedding.class_features is None:
        return None, None
    along = (np.asarray(embedding.class_features, dtype=np.float64) - embedding.feature_mean) @ gap
    if not np.isfinite(along).any():
        return None, None
    names = baseline.class_names
    best, worst = int(np.nanargmax(along)), int(np.nanargmin(along))

    def name(c: int) -> str:
        return names[c] if c < len(names) else str(c)

    return (name(best) if along[best] > 0 else None), (name(worst) if along[worst] < 0 else None)
