"""Drift signals: how far a window is from the reference, with a threshold whose source is named. Signals never page.

Each threshold is the larger of a floor (a difference too small to matter) and what a healthy window of that size
exceeds with the stated chance, given that the reference is a sample too (`monitoring.distances`).

References:
    Rabanser, Gunnemann & Lipton, "Failing Loudly", NeurIPS 2019 (KS on softmax outputs).
    Gretton et al., "A Kernel Two-Sample Test", JMLR 2012 (MMD; threshold from permutations, compiled at export).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

import numpy as np

from export.contracts.reference import MMD_LEVELS
from export.contracts.scores import ScoreName
from monitoring.baseline import Baseline, QuantityKind
from monitoring.distances import (
    decile_groups,
    jensen_shannon,
    jensen_shannon_chance,
    kolmogorov_smirnov,
    ks_chance,
    psi,
    psi_chance,
    wasserstein,
    wasserstein_chance,
)
from monitoring.options import DriftOptions
from monitoring.windows import WindowStats

NAMED_FEATURES = 32  # up to so many features get signals of their own; more are judged together


class Scope(StrEnum):
    """What a signal was computed over."""

    WINDOW = "window"  # one window
    ROLLING = "rolling"  # that window and the ones before it


class SignalKind(StrEnum):
    """Which side of the model is compared."""

    INPUT = "input"  # features and descriptors
    PREDICTION = "prediction"  # predicted classes
    SCORE = "score"  # how sure the model is
    EMBEDDING = "embedding"  # penultimate features


class Method(StrEnum):
    """How two distributions are compared. The values are label values of metrics."""

    PSI = "psi"  # population stability index over the reference's deciles
    WASSERSTEIN = "wasserstein"  # Wasserstein-1 in standard deviations of the reference
    JENSEN_SHANNON = "jensen_shannon"  # distance (root of the divergence), natural logarithm
    KS = "ks"  # Kolmogorov-Smirnov: largest gap between the distribution functions
    SHARE = "share"  # difference of two shares, such as that of a predicted class
    MMD = "mmd"  # squared maximum mean discrepancy over random Fourier features


class SignalState(StrEnum):
    """Whether there is a value."""

    OK = "ok"  # value and threshold can be compared
    NOT_ENOUGH_DATA = "not_enough_data"  # fewer rows than drift.min_rows
    NO_REFERENCE = "no_reference"  # the version's package has nothing to compare with


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One comparison. `value` and `threshold` are None unless `state` is OK."""

    kind: SignalKind
    method: Method
    subject: str
    rows: int
    state: SignalState = SignalState.OK
    value: float | None = None
    threshold: float | None = None
    threshold_source: str = ""
    detail: str | None = None

    @property
    def exceeded(self) -> bool:
        """Whether the difference is larger than chance and the floor explain."""
        return self.value is not None and self.threshold is not None and self.value > self.threshold


def signals(baseline: Baseline, stats: WindowStats, options: DriftOptions) -> tuple[Signal, ...]:
    """Every signal that the baseline allows, for the rows counted in `stats`."""
    if baseline.profile is None or stats.layout != baseline.layout:
        rows = int(stats.rows[0])
        return (_absent(SignalKind.INPUT, Method.PSI, "*", rows, SignalState.NO_REFERENCE),)
    return (
        *_inputs(baseline, stats, options),
        *_many_features(baseline, stats, options),
        *_scores(baseline, stats, options),
        *_predictions(baseline, stats, options),
        *_embedding(baseline, stats, options),
    )


def _inputs(baseline: Baseline, stats: WindowStats, options: DriftOptions) -> Iterator[Signal]:
    """PSI and Wasserstein-1 of each descriptor, and of each feature while they are few."""
    many = _feature_count(baseline) > NAMED_FEATURES
    alpha = options.false_signal_rate
    for i, quantity in enumerate(baseline.quantities):
        live, reference, edges, scale = stats.counts[i], baseline.counts[i], baseline.edges[i], float(baseline.scale[i])
        n, counted = int(live.sum()), int(baseline.counted[i])
        if counted == 0 or quantity.kind is QuantityKind.SCORE or (many and quantity.kind is QuantityKind.FEATURE):
            continue
        if n < options.min_rows:
            yield _absent(SignalKind.INPUT, Method.PSI, quantity.name, n)
            yield _absent(SignalKind.INPUT, Method.WASSERSTEIN, quantity.name, n)
            continue
        groups = decile_groups(reference)
        bins = int(groups.max()) + 1
        a, b = (np.bincount(groups, weights=h, minlength=bins).astype(np.int64) for h in (live, reference))
        yield Signal(
            kind=SignalKind.INPUT,
            method=Method.PSI,
            subject=quantity.name,
            rows=n,
            value=psi(a, b),
            **_threshold(psi_chance(bins, n, counted, alpha), options.psi_floor, f"chi-squared({bins - 1})", alpha),
        )
        chance = wasserstein_chance(reference, edges, scale, n, alpha)
        yield Signal(
            kind=SignalKind.INPUT,
            method=Method.WASSERSTEIN,
            subject=quantity.name,
            rows=n,
            value=wasserstein(live, reference, edges, scale, int(stats.below[i]), int(stats.above[i])),
            **_threshold(chance, options.wasserstein_floor, "Brownian bridges over the reference", alpha),
        )


def _many_features(baseline: Baseline, stats: WindowStats, options: DriftOptions) -> Iterator[Signal]:
    """One signal per input with many features: the largest KS of them, against the largest of so many by chance."""
    groups: dict[str, list[int]] = {}
    for i, quantity in enumerate(baseline.quantities):
        if quantity.kind is QuantityKind.FEATURE and baseline.counted[i]:
            groups.setdefault(quantity.group, []).append(i)
    if _feature_count(baseline) <= NAMED_FEATURES:
        return
    for name, members in groups.items():
        subject, n = f"{name}[*]", int(stats.counts[members].sum(axis=1).max(initial=0))
        if n < options.min_rows:
            yield _absent(SignalKind.INPUT, Method.KS, subject, n)
            continue
        gaps = [kolmogorov_smirnov(stats.counts[i], baseline.counts[i]) for i in members]
        worst = int(np.argmax(gaps))
        alpha = options.false_signal_rate
        chance = ks_chance(n, int(baseline.counted[members].min()), alpha / len(members))
        yield Signal(
            kind=SignalKind.INPUT,
            method=Method.KS,
            subject=subject,
            rows=n,
            value=gaps[worst],
            detail=f"farthest: {baseline.quantities[members[worst]].name}",
            **_threshold(chance, options.ks_floor, f"Kolmogorov, Bonferroni over {len(members)} features", alpha),
        )


def _scores(baseline: Baseline, stats: WindowStats, options: DriftOptions) -> Iterator[Signal]:
    """KS of each score: a shift that the model notices.

    P(wrong) is left out. It is a function of the other scores, fitted on the reference: its values there come from
    other fits (out of fold) than its values here, and a monotone difference between fits is a large KS without drift.
    """
    alpha = options.false_signal_rate
    for i, quantity in enumerate(baseline.quantities):
        n, counted = int(stats.counts[i].sum()), int(baseline.counted[i])
        if quantity.kind is not QuantityKind.SCORE or counted == 0 or quantity.name == ScoreName.P_WRONG.value:
            continue
        if n < options.min_rows:
            yield _absent(SignalKind.SCORE, Method.KS, quantity.name, n)
            continue
        yield Signal(
            kind=SignalKind.SCORE,
            method=Method.KS,
            subject=quantity.name,
            rows=n,
            value=kolmogorov_smirnov(stats.counts[i], baseline.counts[i]),
            **_threshold(ks_chance(n, counted, alpha), options.ks_floor, "Kolmogorov", alpha),
        )


def _predictions(baseline: Baseline, stats: WindowStats, options: DriftOptions) -> Iterator[Signal]:
    """Jensen-Shannon distance of the predicted classes."""
    if baseline.profile is None or baseline.profile.classes is None or not baseline.classes:
        return
    reference = np.asarray(baseline.profile.classes.predicted_counts, dtype=np.int64)
    n, alpha = int(stats.predicted.sum()), options.false_signal_rate
    if n < options.min_rows:
        yield _absent(SignalKind.PREDICTION, Method.JENSEN_SHANNON, "predicted class", n)
        return
    # To two digits: the chance hardly moves between them, and the simulation is kept.
    rounded = int(float(f"{n:.1e}"))
    chance = jensen_shannon_chance(tuple(reference.tolist()), rounded, alpha)
    yield Signal(
        kind=SignalKind.PREDICTION,
        method=Method.JENSEN_SHANNON,
        subject="predicted class",
        rows=n,
        value=jensen_shannon(stats.predicted, reference),
        **_threshold(chance, options.jensen_shannon_floor, "gamma fitted to resamples of the reference", alpha),
    )


def _embedding(baseline: Baseline, stats: WindowStats, options: DriftOptions) -> Iterator[Signal]:
    """MMD of the embeddings."""
    embedding = None if baseline.profile is None else baseline.profile.embedding
    if embedding is None:
        return
    n, mean = int(stats.feature_rows[0]), stats.feature_mean()
    too_small = not np.isfinite(embedding.mmd_scaled).all()  # the reference had too few rows to permute
    if mean is None or n < options.min_rows or too_small:
        yield _absent(SignalKind.EMBEDDING, Method.MMD, embedding.output, n)
        return
    # The compiled level next to the one that is asked for, on the side of fewer signals where it exists.
    wanted = 1.0 - options.false_signal_rate
    level = min((x for x in MMD_LEVELS if x >= wanted - 1e-9), default=max(MMD_LEVELS))
    threshold = embedding.mmd_threshold(n, level)
    yield Signal(
        kind=SignalKind.EMBEDDING,
        method=Method.MMD,
        subject=embedding.output,
        rows=n,
        value=embedding.mmd_squared(mean),
        **_threshold(threshold, 0.0, "random splits of the reference", 1.0 - level),
    )


def _feature_count(baseline: Baseline) -> int:
    return sum(quantity.kind is QuantityKind.FEATURE for quantity in baseline.quantities)


class _Threshold(TypedDict):
    threshold: float
    threshold_source: str


def _threshold(chance: float, floor: float, source: str, alpha: float) -> _Threshold:
    where = (
        f"{source}, exceeded by chance in {alpha:.3g} of healthy windows" if chance >= floor else f"floor of {floor:g}"
    )
    return {"threshold": max(chance, floor), "threshold_source": where}


def _absent(
    kind: SignalKind, method: Method, subject: str, rows: int, state: SignalState = SignalState.NOT_ENOUGH_DATA
) -> Signal:
    return Signal(kind=kind, method=method, subject=subject, state=state, rows=rows)
