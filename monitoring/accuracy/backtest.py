"""How well each estimate would have done on a labelled history: error, bias, and how often intervals held the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.contracts.accuracy import count_sureness
from export.contracts.scores import ScoreName
from monitoring.accuracy.audit import MIN_LABELS, error_rate
from monitoring.accuracy.estimate import LEVEL, MIN_ROWS, Estimate, Method, label_free
from monitoring.baseline import Baseline
from monitoring.windows import WindowStats, count_values, sum_features

DRAWS = 20  # audits drawn from each window: one would say little about coverage
WINDOW_ROWS = 500
AUDIT_LABELS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One window of the history: what was true, and what would have been said.

    Attributes:
        start: Number of its first row, or its start in seconds since the epoch.
        rows: Labelled rows.
        truth: Share of right answers among them.
        estimates: What was said without labels.
        audits: What audits of a few rows would have said; drawn again and again.
    """

    start: int
    rows: int
    truth: float
    estimates: tuple[Estimate, ...]
    audits: tuple[Estimate, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodScore:
    """How one method did. Shares of rows, so 0.02 is two points.

    Attributes:
        said: Windows (draws, for audits) for which it gave an estimate, of `tried`.
        error: Mean absolute error; None when it never gave one.
        bias: Mean of estimate minus truth: above 0 is too rosy.
        worst: Largest absolute error.
        coverage: Share of intervals that held the truth; None without intervals.
        level: What the intervals promise.
        width: Mean width of the intervals.
        error_trusted: Mean absolute error where the estimate was marked as trusted; `trusted` says how often.
    """

    method: Method
    said: int
    tried: int
    error: float | None
    bias: float | None
    worst: float | None
    coverage: float | None
    level: float | None
    width: float | None
    trusted: int
    error_trusted: float | None


def backtest(
    baseline: Baseline,
    output: npt.NDArray[np.floating],
    embedding: npt.NDArray[np.floating] | None,
    labels: npt.NDArray[np.int64],
    *,
    window_rows: int = WINDOW_ROWS,
    audit_labels: int = AUDIT_LABELS,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Tried]:
    """Go through a history in the order of time, window by window.

    Args:
        baseline: Of the version, with a reference.
        output: Class scores as the model answers them, (rows, classes).
        embedding: (rows, features), if the version has one.
        labels: True class indices, (rows,).
        window_rows: Rows of a window; a rest that is shorter than half of it is left out.
        audit_labels: Labels that each audit has.
        seed: Of the audits.
        advance: Told the number of rows done.

    Raises:
        ValueError: the version has no reference, or arrays do not fit together.
    """
    profile = baseline.profile
    if profile is None or profile.classes is None:
        raise ValueError("the version has no reference profile of a classifier: nothing can be estimated")
    if output.ndim != 2 or output.shape[1] != baseline.classes or len(labels) != len(output):
        raise ValueError(f"{list(output.shape)} class scores and {len(labels)} labels for {baseline.classes} classes")
    rng = np.random.default_rng(seed)
    tried = []
    for first in range(0, len(labels), window_rows):
        part = slice(first, min(first + window_rows, len(labels)))
        rows = part.stop - part.start
        if rows < max(window_rows // 2, MIN_ROWS):
            break
        scores = profile.scores(output[part], None if embedding is None else embedding[part])
        values = np.full((rows, len(baseline.quantities)), np.nan, dtype=np.float32)
        for name, column in scores.items():
            if name in baseline.index:
                values[:, baseline.index[name]] = column
        wrong = (output[part].argmax(axis=1) != labels[part]).astype(np.float64)
        p_wrong = np.asarray(scores[ScoreName.P_WRONG.value], dtype=np.float64)
        stats = _stats(baseline, output[part], None if embedding is None else embedding[part], values)
        tried.append(
            Tried(
                start=first,
                rows=rows,
                truth=1.0 - float(wrong.mean()),
                estimates=tuple(label_free(baseline, stats, float(np.nansum(p_wrong)), rows)),
                audits=draw_audits(wrong, p_wrong, audit_labels, rng),
            )
        )
        advance(rows)
    return tried


def draw_audits(
    wrong: npt.NDArray[np.float64], p_wrong: npt.NDArray[np.float64], labels: int, rng: np.random.Generator
) -> tuple[Estimate, ...]:
    """What audits of `labels` rows drawn at random would have said of these rows, `DRAWS` times."""
    if min(labels, len(wrong)) < MIN_LABELS:
        missing = f"not enough data: {min(labels, len(wrong))} of {MIN_LABELS} labels"
        return (Estimate(method=Method.AUDIT, rows=len(wrong), missing=missing),)
    made = []
    for _ in range(DRAWS):
        # With replacement: from a window of a few hundred rows, drawing without would make the intervals look too good.
        chosen = rng.integers(0, len(wrong), labels)
        rate = error_rate(wrong[chosen], p_wrong[chosen], float(p_wrong.mean()), LEVEL)
        assert rate.value is not None  # there are enough labels
        assert rate.low is not None
        assert rate.high is not None
        made.append(
            Estimate(
                method=Method.AUDIT,
                value=1.0 - rate.value,
                low=1.0 - rate.high,
                high=1.0 - rate.low,
                level=LEVEL,
                rows=len(wrong),
                labels=labels,
                trusted=True,
            )
        )
    return tuple(made)


def score_methods(tried: Sequence[Tried]) -> list[MethodScore]:
    """How each method did over the windows, the audits first, then by error."""
    pairs: dict[Method, list[tuple[Estimate, float]]] = {}
    for window in tried:
        for estimate in (*window.estimates, *window.audits):
            pairs.setdefault(estimate.method, []).append((estimate, window.truth))
    scores = [_score(method, found) for method, found in pairs.items()]
    return sorted(scores, key=lambda s: (s.method is not Method.AUDIT, s.error is None, s.error or 0.0))


def _score(method: Method, found: list[tuple[Estimate, float]]) -> MethodScore:
    said = [(e, truth) for e, truth in found if e.value is not None]
    off = np.array([e.value - truth for e, truth in said if e.value is not None])
    spans = [(e.low, e.high, truth) for e, truth in said if e.low is not None and e.high is not None]
    trusted = np.array([e.trusted for e, _ in said], dtype=bool)
    return MethodScore(
        method=method,
        said=len(said),
        tried=len(found),
        error=float(np.abs(off).mean()) if len(off) else None,
        bias=float(off.mean()) if len(off) else None,
        worst=float(np.abs(off).max()) if len(off) else None,
        coverage=sum(low <= truth <= high for low, high, truth in spans) / len(spans) if spans else None,
        level=next((e.level for e, _ in said if e.level is not None), None),
        width=float(np.mean([high - low for low, high, _ in spans])) if spans else None,
        trusted=int(trusted.sum()),
        error_trusted=float(np.abs(off[trusted]).mean()) if trusted.any() else None,
    )


def _stats(
    baseline: Baseline,
    output: npt.NDArray[np.floating],
    embedding: npt.NDArray[np.floating] | None,
    values: npt.NDArray[np.float32],
) -> WindowStats:
    """The window as the monitor would have counted it."""
    profile = baseline.profile
    assert profile is not None
    assert profile.classes is not None
    made: dict[str, Any] = dict(count_values(baseline, values))
    made["predicted"] = np.bincount(output.argmax(axis=1), minlength=baseline.classes)
    if baseline.accuracy is not None:
        made["sureness"] = count_sureness(baseline.accuracy, profile.classes.probabilities(output))
    if profile.embedding is not None and embedding is not None and baseline.embedding_size:
        total, count = sum_features(profile.embedding.features(embedding))
        made |= {"features": total, "feature_rows": np.array([count], dtype=np.int64)}
    return replace(WindowStats.empty(baseline), **made)
