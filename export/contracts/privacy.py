"""What is kept of a model's requests: one policy a model, the same in the replica that records and in the monitor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

REDACTED = "[redacted]"
PLACES = ("inputs", "outputs", "parameters", "tags", "feedback", "trace_id")


class Keep(StrEnum):
    """How much of a request is kept."""

    FULL = "full"  # inputs and outputs
    THUMBNAIL = "thumbnail"  # outputs, and of a case's pictures a small one; inputs leave the log once consumed
    EMBEDDING = "embedding"  # outputs (the embedding among them); no input is ever written
    NOTHING = "nothing"  # how the request ended and how long it took; no input, output or parameter is ever written


_SAID = {
    Keep.FULL: "Inputs and outputs are kept",
    Keep.THUMBNAIL: "Outputs are kept, and a small picture with each case; inputs leave the log once consumed",
    Keep.EMBEDDING: "Outputs are kept; no input is ever written",
    Keep.NOTHING: "Only how a request ended is kept; no input, output or parameter is ever written",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyPolicy:
    """What is kept of one model's requests.

    Attributes:
        model: Its name; empty: every model that has no policy of its own.
        redact: JSON pointers into the record: `/inputs/NAME`, `/outputs/NAME`, `/parameters/…`, `/tags/…`,
            `/feedback/comment`, `/feedback/source`, `/trace_id`. A tensor is left out; a value becomes "[redacted]".
        input_days: Days that inputs are kept with cases and in the log; None: as long as the case, and the log.
        snapshot_days: Days that inputs of records stay in data set snapshots and sets of gates; None: the shorter of
            `input_days` and `case_days`.
        record_days: Days that records are kept, in the index, the log and the archive.
        case_days: Days that cases are kept.
        feedback_days: Days that feedback is kept.
    """

    model: str = ""
    keep: Keep = Keep.FULL
    redact: tuple[str, ...] = ()
    input_days: float | None = None
    snapshot_days: float | None = None
    record_days: float | None = None
    case_days: float | None = None
    feedback_days: float | None = None

    def __post_init__(self) -> None:
        for pointer in self.redact:
            parts = pointer.split("/")
            if parts[0] or len(parts) < 2 or parts[1] not in PLACES or (parts[1] != "trace_id") == (len(parts) < 3):
                raise ValueError(f"'{pointer}' names nothing in a record: it begins with one of /{', /'.join(PLACES)}")

    @property
    def keeps_inputs(self) -> bool:
        """Whether a replica writes inputs at all."""
        return self.keep in (Keep.FULL, Keep.THUMBNAIL)

    @property
    def writes_everything(self) -> bool:
        """Whether a replica records as if there were no policy."""
        return self.keeps_inputs and not self.redact

    @property
    def keeps_everything(self) -> bool:
        """Whether records stay as they were recorded."""
        return self.keep is Keep.FULL and not self.redact

    @property
    def text(self) -> str:
        """The policy in a sentence."""
        said = _SAID[self.keep]
        if self.redact:
            said += f"; never written: {', '.join(self.redact)}"
        for name in ("input", "record", "case", "feedback"):
            days = getattr(self, f"{name}_days")
            if days is not None:
                said += f"; {name}s for {days:g} days"
        if self.days_in_snapshots is not None:
            said += f"; inputs in data sets for {self.days_in_snapshots:g} days"
        return said + "."

    @property
    def days_in_snapshots(self) -> float | None:
        """Days that inputs stay in data sets: what is said of them, else as with cases; None: no limit."""
        if self.snapshot_days is not None:
            return self.snapshot_days
        return min((d for d in (self.input_days, self.case_days) if d is not None), default=None)

    def keeps_input(self, name: str) -> bool:
        """Whether an input may be written by a replica."""
        return self.keeps_inputs and f"/inputs/{_escape(name)}" not in self.redact

    def keeps_output(self, name: str) -> bool:
        """Whether an output may be written."""
        return self.keep is not Keep.NOTHING and f"/outputs/{_escape(name)}" not in self.redact

    @property
    def keeps_trace(self) -> bool:
        """Whether trace ids may be written."""
        return self.keep is not Keep.NOTHING and "/trace_id" not in self.redact

    def redactor(self, place: str) -> Callable[[bytes | None], bytes | None] | None:
        """What to do to the JSON of `parameters` or `tags`; None: leave it as it is."""
        if self.keep is Keep.NOTHING:
            return lambda _: None
        pointers = [_steps(p)[1:] for p in self.redact if _steps(p)[0] == place]
        if not pointers:
            return None
        return lambda text: None if text is None else _redact(text, pointers)

    def keeps_feedback(self, field: str) -> bool:
        """Whether `comment` or `source` of feedback may be written."""
        return f"/feedback/{field}" not in self.redact and not (self.keep is Keep.NOTHING and field == "comment")


def policy_of(policies: Sequence[PrivacyPolicy], model: str) -> PrivacyPolicy:
    """The policy of a model: its own, else the one for every model, else keep everything.

    Example:
        >>> policy_of([PrivacyPolicy(model="faces", keep=Keep.NOTHING)], "digits").keep.value
        'full'
    """
    found = {policy.model: policy for policy in policies}
    return found.get(model) or found.get("") or PrivacyPolicy(model=model)


def _steps(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _redact(text: bytes, pointers: list[list[str]]) -> bytes:
    """JSON with the values at the pointers (RFC 6901) replaced. What is no JSON goes as a whole."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(REDACTED).encode()
    for steps in pointers:
        value = _replaced(value, steps)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _replaced(value: Any, steps: list[str]) -> Any:
    if not steps:
        return REDACTED
    if isinstance(value, dict) and steps[0] in value:
        return {**value, steps[0]: _replaced(value[steps[0]], steps[1:])}
    if isinstance(value, list) and steps[0].isdigit() and int(steps[0]) < len(value):
        at = int(steps[0])
        return [*value[:at], _replaced(value[at], steps[1:]), *value[at + 1 :]]
    return value
