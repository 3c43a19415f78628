"""Answers beside labels: the two tables of a quality report, and which of its figures have a threshold.

The reference's table is spread out from its confusion matrix: labels and answers of the held-out rows that the version
was compiled with. A regression's held-out answers are not kept row by row, so its report has no reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.reference import ReferenceProfile
from monitoring.report_frames import MIN_ROWS, Column, Frame, finite_frame
from monitoring.report_shelf import ColumnResult, ReportKind

TARGET, PREDICTION = "target", "prediction"
CHANCE = 3.29  # standard errors: exceeded by chance in 0.1 % of healthy windows, two-sided
Pairs: TypeAlias = Sequence[tuple[float, float]]


def class_frames(
    profile: ReferenceProfile | None, names: Sequence[str], pairs: Pairs, total: int
) -> tuple[Frame, Frame]:
    """(reference, current) of a classification.

    Args:
        profile: Whose confusion matrix is the reference; None, or without one: no reference.
        names: Of the classes.
        pairs: (true class, predicted class) of labelled answers.
        total: Labelled answers before sampling.
    """
    columns = tuple(Column(name=n, categories=tuple(names)) for n in (TARGET, PREDICTION))
    confusion = None if profile is None or profile.classes is None else profile.classes.confusion
    known = (
        np.zeros((0, 2))
        if confusion is None
        else np.repeat(np.argwhere(confusion >= 0).astype(np.float64), confusion.ravel(), axis=0)
    )
    return finite_frame(columns, known, len(known)), finite_frame(columns, _table(pairs), total)


def value_frames(pairs: Pairs, total: int) -> tuple[Frame, Frame]:
    """(reference, current) of a regression: (truth, answer) of labelled answers; the reference is empty."""
    columns = (Column(name=TARGET), Column(name=PREDICTION))
    return finite_frame(columns, np.zeros((0, 2)), 0), finite_frame(columns, _table(pairs), total)


def figure(name: str, method: str, value: float | None, reference: Frame, current: Frame) -> ColumnResult:
    """A figure as it is kept. Only accuracy has a threshold: the reference's, less what chance explains."""
    threshold = None
    if method == "accuracy" and reference.rows:
        p, n, known = _accuracy(reference), current.rows, reference.rows
        pooled = (p * known + (value or 0.0) * n + 1.0) / (known + n + 2.0)
        threshold = round(p - CHANCE * math.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / known)), 4)
    drifted = threshold is not None and value is not None and value < threshold
    return ColumnResult(column=name, method=method, threshold=threshold, value=value, drifted=drifted)


def _accuracy(frame: Frame) -> float:
    return float((frame.values[:, 0] == frame.values[:, 1]).mean())


def _table(pairs: Pairs) -> npt.NDArray[np.float64]:
    return np.asarray(pairs, dtype=np.float64).reshape(len(pairs), 2)


def too_little(kind: ReportKind, reference: Frame, current: Frame) -> str:
    """Why there can be no report, or ""."""
    what = "labelled rows" if kind is ReportKind.QUALITY else "rows"
    if current.rows < MIN_ROWS:
        return f"not enough data: {current.rows} {what} in the window, {MIN_ROWS} are needed"
    if reference.rows < MIN_ROWS and kind is not ReportKind.QUALITY:
        return f"not enough data: {reference.rows} rows in the reference, {MIN_ROWS} are needed"
    return ""
