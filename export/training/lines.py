"""What a trainer prints, taken apart: events, checked, and everything else, which is its log.

A trainer is somebody else's program. Whatever it prints, this stays within bounds: an endless line is cut, a line that
only looks like an event is log, numbers must be finite, texts and names are short.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from export.contracts.training import EventKind, TrainingEvent

MAX_LINE_BYTES = 64 << 10
MAX_TEXT = 2000
MAX_METRICS = 100
MAX_STEP = 1 << 53
CUT = b" [cut]"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./ -]{0,63}")
_FIELDS = {
    EventKind.PROGRESS: ("step", "of", "text"),
    EventKind.METRIC: ("name", "value", "step"),
    EventKind.NOTE: ("text",),
    EventKind.ARTEFACT: ("path", "text"),
    EventKind.DONE: ("metrics", "text"),
}
_REQUIRED = {EventKind.METRIC: ("name", "value"), EventKind.ARTEFACT: ("path",), EventKind.NOTE: ("text",)}


class LineSplitter:
    r"""Pieces of a stream to lines without their ends. Holds at most `limit` bytes, however long a line is.

    Example:
        >>> splitter = LineSplitter(limit=8)
        >>> splitter.feed(b"one\ntw"), splitter.feed(b"o\r\n12345678901234"), splitter.feed(b"56\nlast")
        ([b'one'], [b'two'], [b'12345678 [cut]'])
        >>> splitter.rest()
        [b'last']
    """

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._held = bytearray()
        self._cut = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes."""
        lines = []
        *whole, last = piece.split(b"\n")
        for part in whole:
            self._keep(part)
            lines.append(self._take())
        self._keep(last)
        return lines

    def rest(self) -> list[bytes]:
        """What stands there without an end, once the stream is at its end."""
        return [self._take()] if self._held or self._cut else []

    def _keep(self, part: bytes) -> None:
        room = self._limit - len(self._held)
        if len(part.rstrip(b"\r")) > room:
            self._cut = True
        self._held += part[: max(room, 0)]

    def _take(self) -> bytes:
        line = bytes(self._held).rstrip(b"\r") + (CUT if self._cut else b"")
        self._held.clear()
        self._cut = False
        return line


def parse_event(line: bytes) -> TrainingEvent | None:
    """The event that a line is, or None: it is log.

    Example:
        >>> parse_event(b'{"event": "metric", "name": "val_accuracy", "value": 0.5, "step": 3}').value
        0.5
        >>> parse_event(b'{"event": "metric", "name": "loss", "value": NaN}') is None
        True
        >>> parse_event(b"Epoch 3/20") is None
        True
    """
    if not line.startswith(b"{") or len(line) > MAX_LINE_BYTES:
        return None
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event_of(plain)


def event_of(plain: Any) -> TrainingEvent | None:
    """The event that a JSON object is, or None."""
    if not isinstance(plain, dict) or not isinstance(plain.get("event"), str):
        return None
    try:
        kind = EventKind(plain["event"])
        return TrainingEvent(kind=kind, **dict(_checked(kind, plain)))
    except (ValueError, OverflowError):
        return None


def to_line(event: TrainingEvent) -> bytes:
    """The line that `parse_event` reads back as an equal event."""
    plain: dict[str, Any] = {"event": event.kind.value}
    for name in _FIELDS[event.kind]:
        value = getattr(event, name)
        if value not in (None, "", {}) or name in _REQUIRED.get(event.kind, ()):
            plain[name] = value
    return json.dumps(plain, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _checked(kind: EventKind, plain: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _FIELDS[kind]:
        value = plain.get(name)
        if value is None:
            if name in _REQUIRED.get(kind, ()):
                raise ValueError(name)
            continue
        yield name, _CHECKS[name](value)


def _step(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_STEP:
        raise ValueError("step")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("value")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    shown = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in value[:MAX_TEXT])
    # A lone surrogate can stand in JSON and not in a file.
    return shown.encode("utf-8", "replace").decode()


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("name")
    return value


def _path(value: Any) -> str:
    """A path inside of the output folder."""
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        raise ValueError("path")
    parts = value.split("/")
    if "\\" in value or any(part in ("", ".", "..") for part in parts):
        raise ValueError("path")
    return value.encode("utf-8").decode()


def _metrics(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or len(value) > MAX_METRICS:
        raise ValueError("metrics")
    return {_name(key): _number(number) for key, number in value.items()}


_CHECKS: dict[str, Any] = {
    "step": _step,
    "of": _step,
    "value": _number,
    "text": _text,
    "name": _name,
    "path": _path,
    "metrics": _metrics,
}
