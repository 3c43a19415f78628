"""Every way to say how accurate a version is over some windows, each with its interval and with what it cannot see.

| method | needs | blind to |
|---|---|---|
| confidence | calibrated probabilities | everything that the model is wrongly sure of |
| p_wrong | the fused P(wrong) | the same, less so |
| atc | a threshold of the reference | changes that move confidence and accuracy differently |
| transport | the reference's class shares | other class shares |
| rehearsal | windows rehearsed at export | changes unlike all that were rehearsed |
| audit | audited labels | nothing: the only one with a guarantee |

All but `audit` are blind to concept drift: what the right answer is changed, and the inputs did not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.special import ndtri, stdtrit

from export.contracts import accuracy as a
from monitoring.accuracy.audit import MIN_LABELS, Floats, error_rate
from monitoring.baseline import Baseline
from monitoring.windows import WindowStats

MIN_ROWS = 50
TRUSTED_ERROR = 0.04  # an estimate that was off by more than this on similar windows is not trusted
MOVED_CLASSES = 0.2
LEAST_REACH = 0.9
TRUSTED_REACH = 0.5
LEVEL = 0.95


class Method(StrEnum):
    """How an estimate was made."""

    CONFIDENCE = "confidence"  # mean calibrated confidence
    P_WRONG = "p_wrong"  # 1 - mean P(wrong)
    ATC = "atc"  # share of rows above the average-thresholded confidence
    TRANSPORT = "transport"  # optimal transport of the probabilities to the reference's class shares
    REHEARSAL = "rehearsal"  # transport, less what it was off by on the most similar rehearsed windows
    AUDIT = "audit"  # audited labels, sharpened by P(wrong)
    AUDIT_ERROR = "audit_error"  # mean absolute error of audited values


class Measure(StrEnum):
    """What an estimate is an estimate of."""

    ACCURACY = "accuracy"  # share of right answers
    ABSOLUTE_ERROR = "absolute_error"  # mean absolute error of a regression, in the unit of its answer


class AccuracyScope(StrEnum):
    """Over what time."""

    WINDOW = "window"  # one window
    ROLLING = "rolling"  # the latest windows together
    DAY = "day"  # the 24 hours until the end of the newest window; audited labels only


PREFERRED = (Method.AUDIT, Method.REHEARSAL, Method.TRANSPORT, Method.ATC, Method.P_WRONG, Method.CONFIDENCE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """One answer to "how accurate is it".

    Attributes:
        value: None: `missing` says why.
        low, high: Interval; None where the method gives none.
        level: Share of cases in which the interval holds: nominal for audits, over similar rehearsed windows otherwise.
        rows: Rows that it speaks of.
        labels: Audited records behind it.
        trusted: Whether anything speaks against it; `caveat` says what.
        best: The one to show where there is room for one.
    """

    method: Method
    value: float | None = None
    measure: Measure = Measure.ACCURACY
    low: float | None = None
    high: float | None = None
    level: float | None = None
    rows: int = 0
    labels: int = 0
    trusted: bool = False
    missing: str = ""
    caveat: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Audited:
    """Audited records with labels, (n,) each.

    Attributes:
        wrong: Share of the record's rows that were answered wrong; NaN where the label cannot be compared.
        proxy: P(wrong) of a record of one row, else NaN.
        weight: Rows over the chance of having been drawn.
        even: Whether capture kept every record with the same chance: only then is the windows' mean P(wrong) the mean
            over the traffic.
        error: Absolute error of a regression, or NaN.
        starts: Starts of the windows that they lie in, in seconds.
    """

    wrong: Floats
    proxy: Floats
    weight: Floats
    even: bool
    error: Floats
    starts: frozenset[int] = frozenset()

    @classmethod
    def nothing(cls) -> Audited:
        """No labels."""
        none = np.zeros(0)
        return cls(wrong=none, proxy=none, weight=none, even=True, error=none)


def label_free(baseline: Baseline, stats: WindowStats, p_wrong_sum: float, rows: int) -> list[Estimate]:
    """What can be said without labels. Empty for a task without class probabilities.

    Args:
        baseline: Of the version.
        stats: Merged over the windows.
        p_wrong_sum: Sum of P(wrong) over their rows.
        rows: Scored rows.
    """
    if not baseline.classes:
        return []
    methods = (Method.CONFIDENCE, Method.P_WRONG, Method.ATC, Method.TRANSPORT, Method.REHEARSAL)
    reference = baseline.accuracy
    counted = int(stats.sureness[0]) if len(stats.sureness) else 0
    missing = ""
    if rows < MIN_ROWS:
        missing = f"not enough data: {rows} of {MIN_ROWS} rows"
    elif reference is None or counted < MIN_ROWS:
        missing = "the version's reference has nothing to estimate accuracy with: export it again with this release"
    made = {method: Estimate(method=method, rows=rows, missing=missing) for method in methods}
    if rows >= MIN_ROWS:
        made[Method.P_WRONG] = _plain(Method.P_WRONG, 1.0 - p_wrong_sum / rows, rows)
    if missing or reference is None:
        return list(made.values())
    sure = stats.sureness
    made[Method.CONFIDENCE] = _plain(Method.CONFIDENCE, a.mean_confidence(sure), counted)
    made[Method.ATC] = _plain(Method.ATC, a.above_threshold(reference, sure), counted)
    features = a.describe(
        reference, {name: stats.counts[baseline.index[name]] for name in reference.scores}, sure, _gap(baseline, stats)
    )
    if a.cells_of(reference.classes):
        made[Method.TRANSPORT] = _plain(Method.TRANSPORT, float(a.base_of(reference, features)), counted)
    else:
        why = f"more than {a.MAX_TRANSPORT_CLASSES} classes"
        made[Method.TRANSPORT] = Estimate(method=Method.TRANSPORT, rows=counted, missing=why)
    found = a.read(reference, features) if len(features) == reference.features.shape[-1] else None
    if found is None:
        why = "nothing was rehearsed at export: too few labelled rows, or inputs that cannot be changed"
        made[Method.REHEARSAL] = Estimate(method=Method.REHEARSAL, rows=counted, missing=why)
        return [_unjudged(estimate) for estimate in made.values()]
    made[Method.REHEARSAL] = _rehearsed(found, counted)
    moved = _moved(reference, stats)
    return [_judged(estimate, found, moved) for estimate in made.values()]


def audited(found: Audited, rows: int, p_wrong_mean: float | None, level: float = LEVEL) -> Estimate:
    """The accuracy from audited labels, sharpened by P(wrong) where that is fair (prediction-powered inference).

    Args:
        found: Labels.
        rows: Rows that the labels were drawn from.
        p_wrong_mean: Mean P(wrong) over these rows; None: the labels alone.
        level: Nominal coverage.
    """
    known = np.isfinite(found.wrong)
    wrong, proxy, weight = found.wrong[known], found.proxy[known], found.weight[known]
    usable = found.even and p_wrong_mean is not None and np.isfinite(proxy).all()
    rate = error_rate(wrong, proxy if usable else None, p_wrong_mean, level, weights=weight)
    if rate.value is None or rate.low is None or rate.high is None:
        return Estimate(method=Method.AUDIT, rows=rows, labels=rate.labels, missing=rate.missing)
    return Estimate(
        method=Method.AUDIT,
        value=1.0 - rate.value,
        low=1.0 - rate.high,
        high=1.0 - rate.low,
        level=level,
        rows=rows,
        labels=rate.labels,
        trusted=True,
        caveat="" if found.even else "capture kept records with different chances: the labels alone, weighted",
    )


def audited_error(found: Audited, rows: int, level: float = LEVEL) -> Estimate | None:
    """The mean absolute error from audited values, with Student's interval; None for a task without values."""
    known = np.isfinite(found.error)
    error, weight, n = found.error[known], found.weight[known], int(known.sum())
    if n == 0:
        return None
    base = Estimate(method=Method.AUDIT_ERROR, measure=Measure.ABSOLUTE_ERROR, rows=rows, labels=n)
    if n < MIN_LABELS:
        return replace(base, missing=f"not enough data: {n} of {MIN_LABELS} audited labels")
    mean = float((weight * error).sum() / weight.sum())
    spread = math.sqrt(float((weight**2 * (error - mean) ** 2).sum()) / float(weight.sum()) ** 2 * n / (n - 1))
    half = float(stdtrit(n - 1, 0.5 + level / 2.0)) * spread
    return replace(base, value=mean, low=max(0.0, mean - half), high=mean + half, level=level, trusted=True)


def with_reach(estimate: Estimate, reach: float) -> Estimate:
    """Say when labels have come for only a share of the answers, `reach`; for less than half it is not trusted."""
    if estimate.value is None or reach >= LEAST_REACH:
        return estimate
    said = f"labels have come for windows with {100 * reach:.0f} % of the answers only"
    caveat = f"{estimate.caveat}; {said}" if estimate.caveat else said
    return replace(estimate, trusted=estimate.trusted and reach >= TRUSTED_REACH, caveat=caveat)


def choose(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Mark the best one of each measure.

    The rule: audited labels if there are enough of them and they reach half of the answers, because nothing else comes
    with a guarantee; without them the rehearsal, the transport, ATC, P(wrong), confidence, in this order; trusted ones
    first.
    """
    out = list(estimates)
    for measure in Measure:
        there = [e for e in out if e.measure is measure and e.value is not None]
        order = {method: i for i, method in enumerate((*PREFERRED, Method.AUDIT_ERROR))}
        if there:
            best = min(there, key=lambda e: (not e.trusted, order[e.method]))
            out[out.index(best)] = replace(best, best=True)
    return out


def _plain(method: Method, value: float, rows: int) -> Estimate:
    return Estimate(method=method, value=min(max(value, 0.0), 1.0), rows=rows)


def _gap(baseline: Baseline, stats: WindowStats) -> float | None:
    embedding = None if baseline.profile is None else baseline.profile.embedding
    mean = stats.feature_mean()
    return None if embedding is None or mean is None or not len(mean) else embedding.mmd_squared(mean)


def _moved(reference: a.AccuracyReference, stats: WindowStats) -> float:
    """How far the predicted classes' shares moved, in total variation."""
    total = int(stats.predicted.sum())
    if not total or len(stats.predicted) != len(reference.prior):
        return 0.0
    return float(np.abs(stats.predicted / total - reference.prior).sum() / 2.0)


def _rehearsed(found: a.Read, rows: int) -> Estimate:
    p = found.accuracy
    chance = ndtri(0.5 + a.INTERVAL_SHARE / 2.0) * math.sqrt(max(p * (1.0 - p), 1.0 / rows) / rows)
    half = math.hypot(found.spread, float(chance))
    return Estimate(
        method=Method.REHEARSAL,
        value=p,
        low=max(0.0, p - half),
        high=min(1.0, p + half),
        level=a.INTERVAL_SHARE,
        rows=rows,
    )


def _judged(estimate: Estimate, found: a.Read, moved: float) -> Estimate:
    """Whether an estimate is to be trusted on a window like this one, and why not."""
    if estimate.value is None:
        return estimate
    error = found.error[estimate.method.value]
    like = "unchanged rows" if found.like == "none" else f"'{found.like}'"
    said = f"off by {100 * error:.1f} points on the rehearsed windows most like this one ({like})"
    against = []
    if found.distance > 1.0:
        against.append("the window is unlike everything that was rehearsed")
    if not error <= TRUSTED_ERROR:
        against.append(said)
    if estimate.method is Method.TRANSPORT and moved > MOVED_CLASSES:
        against.append(
            f"{100 * moved:.0f} % of the answers moved to other classes: if the truth did too, this is too low"
        )
    return replace(estimate, trusted=not against, caveat="; ".join(against) if against else said)


def _unjudged(estimate: Estimate) -> Estimate:
    """Without rehearsed windows nobody knows how far off an estimate is."""
    if estimate.value is None:
        return estimate
    return replace(
        estimate, caveat="nothing was rehearsed for this version: how far off this is under change is not known"
    )
