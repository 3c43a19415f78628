"""Answers of regression, multi-label and detection models for the case page."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.contracts.answers.boxes import match
from export.contracts.answers.truth import box_truth
from export.contracts.manifest import Manifest, TaskKind
from export.contracts.signature import InputSpec
from export.contracts.task import BoxRules, BoxUnits
from monitoring.api import models as m
from monitoring.console.answer_parts import AnswerPart, Interval, Mark, Overlay
from monitoring.console.build import Builder

NOTES = {
    TaskKind.REGRESSION: "The band holds the truth in 9 of 10 rows like the reference's; the line is the answer.",
    TaskKind.DETECTION: "P(right) of a box is its score, calibrated on the reference.",
}


def answer_part(builder: Builder, case: m.CaseDetail) -> AnswerPart:
    """What there is to show of the case's answer besides the class probabilities."""
    manifest = builder.view.manifest(case.model, case.version)
    if manifest is None:
        return AnswerPart()
    kind = manifest.task.kind
    if kind is TaskKind.MULTI_LABEL:
        return AnswerPart(bars_title="Label probabilities")
    if kind is TaskKind.REGRESSION and isinstance(case.answer, dict):
        return AnswerPart(intervals=_intervals(manifest, case), note=NOTES[kind])
    if kind is TaskKind.DETECTION and isinstance(case.answer, list):
        size = picture_size(builder.view.picture_of(case.model, case.version), case)
        return AnswerPart(overlay=_overlay(manifest, case, size), note=NOTES[kind])
    return AnswerPart()


def label_roles(case: m.CaseDetail) -> tuple[set[int], set[str]] | None:
    """Indices of the labels given and names of the true ones, of a multi-label case; None for other tasks."""
    if case.task != TaskKind.MULTI_LABEL or not isinstance(case.answer, list):
        return None
    truth = case.truth if isinstance(case.truth, list) else []
    names = case.class_names
    return set(case.answer), {names[t] if isinstance(t, int) and t < len(names) else str(t) for t in truth}


def picture_size(spec: InputSpec | None, case: m.CaseDetail) -> tuple[float, float] | None:
    """Width and height that boxes in pixels refer to: of the model's tensor; None when it is not known."""
    if spec is None:
        return None
    layout = spec.behind().display.layout or ""
    shape = list(spec.behind().shape[1:])
    if spec.preprocess is None:
        kept = [t for t in case.tensors if t.direction == "in" and t.name == spec.name]
        shape = kept[0].shape[1:] if kept else shape
    if "H" not in layout or "W" not in layout or len(shape) < len(layout):
        return None
    inner = dict(zip(layout, shape[-len(layout) :], strict=True))
    return (float(inner["W"]), float(inner["H"])) if min(inner["W"], inner["H"]) > 0 else None


def _overlay(manifest: Manifest, case: m.CaseDetail, size: tuple[float, float] | None) -> Overlay | None:
    rules = manifest.task.boxes or BoxRules()
    relative = rules.units is BoxUnits.RELATIVE
    if not case.picture or (size is None and not relative):
        return None
    width, height = size or (1.0, 1.0)
    sx, sy = (width, height) if relative else (1.0, 1.0)
    names = manifest.task.class_names
    answer: Any = case.answer
    corners = np.array([b["box"] for b in answer], dtype=np.float64).reshape(-1, 4)
    labels = np.array([b["class"] for b in answer], dtype=np.int64)
    known = case.truth is not None
    try:
        true_corners, true_labels = box_truth(case.truth if known else [], rules, names)
    except ValueError:
        known, (true_corners, true_labels) = False, box_truth([], rules, names)
    found = match(corners, labels, true_corners, true_labels, rules.iou)
    marks = []
    for i, label in enumerate(true_labels.tolist()):
        role = "truth" if i in found.tolist() else "missed"
        marks.append(_mark(true_corners[i], _name(label, names), role, sx, sy))
    for i, label in enumerate(labels.tolist()):
        role = ("matched" if found[i] >= 0 else "spurious") if known else "predicted"
        box = answer[i]
        marks.append(_mark(corners[i], _name(label, names), role, sx, sy, box.get("score"), box.get("right")))
    return Overlay(width=width, height=height, marks=tuple(marks), known=known)


def _mark(
    corners: Any, label: str, role: str, sx: float, sy: float, score: float | None = None, right: float | None = None
) -> Mark:
    left, top, far, low = (float(v) for v in corners)
    return Mark(
        label=label,
        role=role,
        x=round(left * sx, 4),
        y=round(top * sy, 4),
        width=round(max(far - left, 0.0) * sx, 4),
        height=round(max(low - top, 0.0) * sy, 4),
        score=score,
        right=right,
    )


def _intervals(manifest: Manifest, case: m.CaseDetail) -> tuple[Interval, ...]:
    answer: Any = case.answer
    values = answer.get("value", [])
    lows, highs = answer.get("low") or [None] * len(values), answer.get("high") or [None] * len(values)
    truth = case.truth if isinstance(case.truth, list) else [case.truth]
    truths = truth if len(truth) == len(values) else [None] * len(values)
    tolerances = manifest.task.tolerance or (None,)
    made = []
    for i, (value, low, high, true) in enumerate(zip(values, lows, highs, truths, strict=True)):
        tolerance = tolerances[i] if len(tolerances) == len(values) else tolerances[0]
        name = "answer" if len(values) == 1 else f"value {i + 1}"
        made.append(_interval(name, value, low, high, _plain(true), tolerance))
    return tuple(made)


def _interval(
    name: str, value: float | None, low: float | None, high: float | None, truth: float | None, tolerance: float | None
) -> Interval:
    known = [x for x in (value, low, high, truth) if x is not None]
    least, most = (min(known), max(known)) if known else (0.0, 1.0)
    margin = (most - least) * 0.08 or max(abs(most) * 0.1, 1.0)
    start, end = least - margin, most + margin

    def at(x: float) -> float:
        return round(100.0 * (x - start) / (end - start), 3)

    return Interval(
        name=name,
        value=value,
        low=low,
        high=high,
        truth=truth,
        tolerance=tolerance,
        axis_low=start,
        axis_high=end,
        value_at=None if value is None else at(value),
        band_at=None if low is None else at(low),
        band_width=0.0 if low is None or high is None else round(at(high) - at(low), 3),
        truth_at=None if truth is None else at(truth),
    )


def _plain(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _name(label: int, names: tuple[str, ...]) -> str:
    return names[label] if label < len(names) else f"class {label}"
