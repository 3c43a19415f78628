"""One input that two versions have answered, and what the truth says of both answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from monitoring.baseline import Baseline
from monitoring.tasks.protocol import Said


class Source(StrEnum):
    """How both versions came to answer the same input."""

    REQUEST = "request"  # one request, answered by one and shown to the other as a shadow
    CONTENT = "content"  # two requests with the same input
    CASE = "case"  # a stored case that was sent to a version again


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """What a version said. `correct` is None while the truth is not known."""

    predicted: int | None
    confidence: float | None
    p_wrong: float | None
    value: float | None
    answer: Any
    rows: tuple[Any, ...] = ()
    correct: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One input.

    Attributes:
        case_id: The case of one of the answers, or None.
        shown: The case whose input is kept, or None.
        seq: Number of the record whose input the log may have, 0 where there is none.
    """

    source: Source
    record_id: str
    time_ns: int
    place: tuple[int, int]
    case_id: str | None
    shown: str | None
    seq: int
    label: Any
    left: Side
    right: Side

    @property
    def differs(self) -> bool:
        """Whether they say something else."""
        a, b = self.left, self.right
        if a.rows or b.rows:
            return a.rows != b.rows
        if a.predicted is not None or b.predicted is not None:
            return a.predicted != b.predicted
        return (a.value, a.answer) != (b.value, b.answer)

    @property
    def flip(self) -> int:
        """1: the right version repairs it; -1: it breaks it; 0: neither, or not known."""
        if self.left.correct is None or self.right.correct is None:
            return 0
        return int(self.right.correct) - int(self.left.correct)


def judged(pair: Pair, left: Baseline, right: Baseline, factor: float) -> Pair:
    """With the truth applied to both sides, also where it came with one of them only."""
    if pair.label is None:
        return pair
    return replace(
        pair,
        left=_judge(pair.left, pair.label, left, factor),
        right=_judge(pair.right, pair.label, right, factor),
    )


def _judge(side: Side, label: Any, baseline: Baseline, factor: float) -> Side:
    if side.correct is not None:
        return side
    row = {
        "rows": len(side.rows) or 1,
        "predicted": side.predicted,
        "predicted_rows": list(side.rows) or None,
        "value": side.value,
        "answer": side.answer if isinstance(side.answer, list) or side.answer is None else [side.answer],
    }
    truth = baseline.task.truth(Said.stored(label), row)
    verdict = None if truth is None else baseline.task.judge(truth, row, factor)
    if verdict is None or verdict.correct is None or not verdict.rows:
        return side
    return replace(side, correct=verdict.correct == verdict.rows)
