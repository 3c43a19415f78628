"""How good each answer of a version is: one number in [0, 1] an input, by the rules of the version it competes with.

A candidate answers by its own manifest (its thresholds, its class order); it is judged by the champion's: the overlap
that makes a box right, the tolerance of a value. Else a package could make itself good by declaring so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.answers import boxes as bx
from export.contracts.answers.truth import box_truth, value_truth
from export.contracts.manifest import Manifest, TaskKind
from export.contracts.reference import ReferenceProfile
from export.contracts.task import BoxRules, Task
from monitoring.batches import Batch
from monitoring.options import CaseOptions
from monitoring.records.record import Outcome
from monitoring.tasks.classification import class_index
from monitoring.tasks.kinds import task_of
from monitoring.tasks.protocol import Answered, Said, Verdict
from monitoring.tasks.tensors import number

Array: TypeAlias = npt.NDArray[Any]
MAX_TEXT = 200  # characters of an answer or truth as shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What a version did on some inputs, a list entry each.

    Attributes:
        goodness: In [0, 1]; None: the label cannot be compared with this version's answer.
        finite: No number of the answer is NaN or infinite.
        confidence: How sure the answer is; None where not known.
        answers: As people read it.
        facts: What the task's metrics are made of, see `monitoring.gate.metrics`.
    """

    goodness: list[float | None]
    finite: list[bool]
    confidence: list[float | None]
    answers: list[str]
    facts: list[dict[str, Any]]

    def extended(self, other: Judged) -> Judged:
        """This with `other` behind it."""
        return Judged(
            goodness=self.goodness + other.goodness,
            finite=self.finite + other.finite,
            confidence=self.confidence + other.confidence,
            answers=self.answers + other.answers,
            facts=self.facts + other.facts,
        )


class Judge:
    """Judges answers of one version.

    Args:
        own: Manifest of the version that answers.
        profile: Its reference profile, by which confidence is calibrated.
        rules: Manifest of the version whose rules hold.
        rules_profile: Its profile: the tolerance of a regression that declares none.
    """

    def __init__(
        self, own: Manifest, profile: ReferenceProfile | None, rules: Manifest, rules_profile: ReferenceProfile | None
    ) -> None:
        self._manifest = replace(own, task=_ruled(own.task, rules.task))
        self._task = task_of(self._manifest, profile)
        regression = own.task.kind is TaskKind.REGRESSION
        self._judge = task_of(self._manifest, rules_profile) if regression else self._task
        self._kind, self._names = own.task.kind, own.task.class_names

    def judge(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], truths: Sequence[Any]) -> Judged:
        """Judge a batch of answers.

        Args:
            inputs: By name, (rows, ...).
            outputs: By name, (rows, ...).
            truths: What is right, decoded, one a row.

        Raises:
            ValueError: the answers do not fit the version's signature.
        """
        batch = self._batch(inputs, outputs, len(truths))
        answered = self._task.answer(batch)
        finite = _finite(outputs, len(truths))
        goodness, texts, facts = list[float | None](), list[str](), list[dict[str, Any]]()
        for row, truth in enumerate(truths):
            record = _record(answered, row)
            said = Said(truth=[row_truth(truth)])
            given = self._judge.truth(said, record)
            verdict = Verdict() if given is None else self._judge.judge(given, record, CaseOptions().value_error_factor)
            readable = finite[row] and verdict.rows > 0
            if not finite[row]:
                goodness.append(0.0)
            else:
                goodness.append(_goodness(self._kind, verdict) if readable else None)
            texts.append(self._text(answered, row) if finite[row] else "not a number")
            facts.append(self._facts(answered, row, row_truth(truth), verdict) if readable else {})
        sure = [number(x) if there else None for x, there in zip(answered.confidence, finite, strict=True)]
        return Judged(goodness=goodness, finite=finite, confidence=sure, answers=texts, facts=facts)

    def _batch(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], rows: int) -> Batch:
        signature, one = self._manifest.signature, np.ones(rows, dtype=np.int64)
        types = {f"in.{s.name}": s.datatype for s in signature.inputs}
        types |= {f"out.{s.name}": s.datatype for s in signature.outputs}
        return Batch(
            model=self._manifest.name,
            version=self._manifest.version,
            digest="",
            variant="",
            outcome=Outcome.OK,
            pieces=[],
            ids=[""] * rows,
            time_ns=one * 0,
            rows=one,
            queue_us=one * 0,
            compute_us=one * 0,
            total_us=one * 0,
            probability=np.ones(rows),
            row_record=np.arange(rows),
            inputs=dict(inputs),
            outputs=dict(outputs),
            datatypes=types,
        )

    def _text(self, answered: Answered, row: int) -> str:
        predicted = int(answered.predicted[row])
        if answered.details is None and predicted >= 0:
            return self._name(predicted)[
                :MAX_TEXT
            ]  # what `show` says, without the probabilities that nobody reads here
        return (self._task.show(answered, row).predicted_label or "")[:MAX_TEXT]

    def _facts(self, answered: Answered, row: int, truth: Any, verdict: Verdict) -> dict[str, Any]:
        if self._kind is TaskKind.CLASSIFICATION and verdict.classes:
            right, index = verdict.classes[0], int(answered.predicted[row])
            p = answered.probabilities
            known = p is not None and right < p.shape[1]
            chance = number(p[row, right]) if known and p is not None else None
            return {"truth": self._name(right), "answer": self._name(index), "p": chance}
        if self._kind is TaskKind.REGRESSION and answered.details is not None:
            values = np.array(answered.details[row]["value"], dtype=np.float64)
            wanted = value_truth(truth, len(values))
            miss = values - wanted
            return {
                "absolute": float(np.abs(miss).mean()),
                "squared": float((miss**2).mean()),
                "truth": float(wanted.mean()),
            }
        counts: dict[str, Any] = {"matched": verdict.matched, "missed": verdict.missed, "spurious": verdict.spurious}
        if self._kind is TaskKind.DETECTION and answered.details is not None:
            counts |= self._boxes(answered.details[row] or [], truth)
        return counts | {"exact": verdict.correct or 0}

    def _boxes(self, given: list[Any], truth: Any) -> dict[str, Any]:
        """Of each box given: class, score, whether it is right; of each true box: its class."""
        rules = self._manifest.task.boxes or BoxRules()
        corners, label = box_truth(truth, rules, self._names)
        boxes = np.array([b["box"] for b in given], dtype=np.float64).reshape(-1, 4)
        classes = np.array([b["class"] for b in given], dtype=np.int64)
        hits = bx.match(boxes, classes, corners, label, rules.iou) >= 0
        found = zip(given, hits.tolist(), strict=True)
        return {
            "boxes": [[self._name(b["class"]), b["score"], hit] for b, hit in found],
            "true": [self._name(int(i)) for i in label],
        }

    def _name(self, index: int) -> str:
        return self._names[index] if 0 <= index < len(self._names) else str(index)


def row_truth(label: Any) -> Any:
    """The truth of one row, of a stored label: that of a record of one row is wrapped in `rows`."""
    if (
        isinstance(label, dict)
        and set(label) == {"rows"}
        and isinstance(label["rows"], list)
        and len(label["rows"]) == 1
    ):
        return label["rows"][0]
    return label


def truth_text(label: Any, names: Sequence[str] = ()) -> str:
    """A truth as people read it.

    Example:
        >>> truth_text("3"), truth_text(1, ("ant", "bee")), truth_text(["a", "b"]), truth_text({"rows": [2.5]})
        ('3', 'bee', 'a, b', '2.5')
    """
    truth = row_truth(label)
    if isinstance(truth, str):
        return truth[:MAX_TEXT]
    index = class_index(truth, tuple(names), len(names)) if isinstance(truth, int | float) else None
    if index is not None:
        return names[index]
    if isinstance(truth, list) and all(isinstance(x, str | int | float) for x in truth):
        return ", ".join(str(x) for x in truth)[:MAX_TEXT]
    if isinstance(truth, list) and all(isinstance(x, dict) for x in truth):
        return f"{len(truth)} boxes"
    return json.dumps(truth)[:MAX_TEXT]


def _ruled(own: Task, rules: Task) -> Task:
    """A task that answers as its own package says, and is judged as the other's does."""
    if own.kind is not rules.kind:
        return own
    if own.kind is TaskKind.REGRESSION:
        return replace(own, tolerance=rules.tolerance)
    if own.kind is TaskKind.DETECTION:
        mine, theirs = own.boxes or BoxRules(), rules.boxes or BoxRules()
        return replace(own, boxes=replace(mine, iou=theirs.iou, missed=theirs.missed, spurious=theirs.spurious))
    return own


def _goodness(kind: TaskKind, verdict: Verdict) -> float:
    """1 or 0 where an answer is right or wrong; the F1 of its labels or boxes where it has several."""
    if kind in (TaskKind.DETECTION, TaskKind.MULTI_LABEL):
        there = 2 * verdict.matched + verdict.missed + verdict.spurious
        return 2 * verdict.matched / there if there else 1.0
    return float(verdict.correct == verdict.rows)


def _record(answered: Answered, row: int) -> dict[str, Any]:
    """The fields of a row of `records` that tasks judge."""
    predicted = int(answered.predicted[row])
    value = None if answered.value is None else number(answered.value[row])
    return {
        "rows": 1,
        "predicted": predicted if predicted >= 0 else None,
        "predicted_rows": None,
        "value": value,
        "answer": None if answered.details is None else [answered.details[row]],
    }


def _finite(outputs: Mapping[str, Array], rows: int) -> list[bool]:
    there = np.ones(rows, dtype=bool)
    for array in outputs.values():
        if np.issubdtype(array.dtype, np.floating) and len(array) == rows:
            there &= np.isfinite(array.reshape(rows, -1)).all(axis=1)
    return [bool(x) for x in there]
