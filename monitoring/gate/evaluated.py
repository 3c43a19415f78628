"""What two versions said to a set → what the decision is made of, and what a report shows of each input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.contracts.manifest import TaskKind
from monitoring.gate.contracts import EvaluatedSet, Mask
from monitoring.gate.job import GateSet, SetResult
from monitoring.gate.judge import Judged, truth_text
from monitoring.gate.metrics import metrics_of

MOST_CLASSES = 50  # slices by class: with more, each is too small to say anything and all are corrected for the many


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A set as it was read, without its inputs: a list entry an input.

    Attributes:
        records: Id of the record behind each; "" where there is none.
        left_out: A version was trained on it.
    """

    digest: str
    ids: Sequence[str]
    records: Sequence[str]
    truths: Sequence[Any]
    slices: Sequence[Sequence[str]]
    left_out: Sequence[bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class InputLine:
    """An input in the report and in `inputs.csv`.

    Attributes:
        row: Its place in the set as it lies in the folder.
    """

    set: str
    row: int
    id: str
    record: str
    truth: str
    champion: str
    candidate: str
    champion_sure: float | None
    candidate_sure: float | None
    champion_good: float
    candidate_good: float
    slices: tuple[str, ...]

    @property
    def change(self) -> float:
        """How much better the candidate is here."""
        return self.candidate_good - self.champion_good


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """A set on which both versions were judged."""

    evaluated: EvaluatedSet
    result: SetResult
    lines: list[InputLine]
    not_finite: tuple[int, int]  # of champion and candidate


def compare(
    given: GateSet,
    asked: Asked,
    champion: Judged,
    candidate: Judged,
    kind: TaskKind,
    names: Sequence[str],
    slice_names: Mapping[str, str],
) -> Compared:
    """Put two versions' answers to a set side by side.

    Inputs whose label neither version's answer can be compared with are left out of both; a label that only one of
    them knows counts as wrong for the other.

    Args:
        given: The set.
        asked: What it holds.
        champion: Judged answers, in the order of the set.
        candidate: The same.
        kind: Of the task.
        names: Class names.
        slice_names: {slice id: what people call it}.
    """
    pairs = zip(champion.goodness, candidate.goodness, asked.left_out, strict=True)
    kept = [i for i, (a, b, out) in enumerate(pairs) if not out and (a is not None or b is not None)]
    left_out = sum(asked.left_out)
    lines = [_line(given.name, i, asked, champion, candidate, names, slice_names) for i in kept]
    evaluated = EvaluatedSet(
        name=given.name,
        kind=given.kind,
        ids=tuple(line.id for line in lines),
        champion=np.array([line.champion_good for line in lines], dtype=np.float64),
        candidate=np.array([line.candidate_good for line in lines], dtype=np.float64),
        slices=_slices(lines, kind),
        used=given.used,
    )
    facts = [[side.facts[i] for i in kept] for side in (champion, candidate)]
    result = SetResult(
        name=given.name,
        kind=given.kind,
        source=given.source or given.name,
        digest=asked.digest,
        inputs=len(kept),
        unusable=len(asked.ids) - len(kept) - left_out,
        trained_on=left_out,
        used=given.used,
        note=given.note,
        champion=metrics_of(kind, evaluated.champion.tolist(), facts[0]),
        candidate=metrics_of(kind, evaluated.candidate.tolist(), facts[1]),
    )
    broken = tuple(sum(not side.finite[i] for i in kept) for side in (champion, candidate))
    return Compared(evaluated=evaluated, result=result, lines=lines, not_finite=(broken[0], broken[1]))


def _line(
    name: str,
    i: int,
    asked: Asked,
    champion: Judged,
    candidate: Judged,
    names: Sequence[str],
    slice_names: Mapping[str, str],
) -> InputLine:
    return InputLine(
        set=name,
        row=i,
        id=asked.ids[i],
        record=asked.records[i],
        truth=truth_text(asked.truths[i], names),
        champion=champion.answers[i],
        candidate=candidate.answers[i],
        champion_sure=champion.confidence[i],
        candidate_sure=candidate.confidence[i],
        champion_good=champion.goodness[i] or 0.0,
        candidate_good=candidate.goodness[i] or 0.0,
        slices=tuple(slice_names.get(s, s) for s in asked.slices[i]),
    )


def _slices(lines: Sequence[InputLine], kind: TaskKind) -> dict[str, Mask]:
    """Slices that inputs were in; of a classification also each true class, and each class that was answered.

    "Answered X" holds the inputs that *either* version calls X. Those that one of the two calls X would favour that
    one: it is right there by selection, and of two equals the other would look worse.
    """
    found: dict[str, list[int]] = {}
    classes = {line.truth for line in lines} if kind is TaskKind.CLASSIFICATION else set()
    by_class = 1 < len(classes) <= MOST_CLASSES
    for i, line in enumerate(lines):
        for name in line.slices:
            found.setdefault(f"slice {name}", []).append(i)
        if by_class:
            found.setdefault(f"class {line.truth}", []).append(i)
            for answer in {line.champion, line.candidate} & classes:
                found.setdefault(f"answered {answer}", []).append(i)
    masks: dict[str, Mask] = {}
    for name, members in found.items():
        if len(members) == len(lines):
            continue  # the whole set again
        masks[name] = np.zeros(len(lines), dtype=bool)
        masks[name][members] = True
    return masks
