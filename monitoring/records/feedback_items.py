"""One item of feedback, checked strictly: nothing is guessed, because feedback decides which cases are failures.

`{"id": …, "label" | "labels" | "truth" | "score": …, "comment"?: …, "source"?: …}`; serving and the monitor's API read
the same items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from export.contracts.errors import InvalidRequest
from monitoring.records.record import Feedback

MAX_ID_BYTES = 128  # what the record log accepts
MAX_LABEL_CHARS = 256
MAX_LABELS = 256
MAX_COMMENT_CHARS = 4096
MAX_SOURCE_CHARS = 64
MAX_TRUTH_ITEMS = 4096  # labels, numbers or boxes of one item of feedback, over all rows

_FIELDS = frozenset({"id", "label", "labels", "truth", "score", "comment", "source"})
_TRUTHS = ("label", "labels", "truth", "score")


def read_item(item: Any, path: str, model: str, time_ns: int) -> Feedback:
    """An item as a record of feedback.

    Args:
        item: Decoded JSON.
        path: Where it stands, for messages: "" or "[3].".
        model: That it is about.
        time_ns: When it came in.

    Raises:
        InvalidRequest: names the field.
    """
    if not isinstance(item, dict):
        raise InvalidRequest(f"feedback {path.rstrip('.') or 'body'} must be an object")
    for name in item:
        if name not in _FIELDS:
            raise InvalidRequest(f"unknown field '{path}{name[:64]}'; known are {', '.join(sorted(_FIELDS))}")
    truths = [name for name in _TRUTHS if item.get(name) is not None]
    if len(truths) > 1:
        raise InvalidRequest(f"'{path}{truths[0]}' and '{path}{truths[1]}' exclude each other")
    comment = _text(item, "comment", path, MAX_COMMENT_CHARS)
    if not truths and comment is None:
        known = ", ".join(f"'{path}{name}'" for name in _TRUTHS)
        raise InvalidRequest(f"{known} or '{path}comment' is needed")
    return Feedback(
        record_id=_record_id(item, path),
        model=model,
        time_ns=time_ns,
        label=_label(item.get("label"), f"{path}label"),
        labels=_labels(item.get("labels"), f"{path}labels"),
        truth=_truth(item.get("truth"), f"{path}truth"),
        score=_score(item.get("score"), f"{path}score"),
        comment=comment,
        source=_text(item, "source", path, MAX_SOURCE_CHARS),
    )


def _record_id(item: dict[str, Any], path: str) -> str:
    value = item.get("id")
    if not isinstance(value, str) or not 1 <= len(value.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES:
        raise InvalidRequest(f"'{path}id' must be the id of an answer: a string of 1 to {MAX_ID_BYTES} bytes")
    return value


def _text(item: dict[str, Any], name: str, path: str, max_chars: int) -> str | None:
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= max_chars:
        raise InvalidRequest(f"'{path}{name}' must be a string of 1 to {max_chars} characters")
    return value


def _label(value: Any, path: str) -> str | int | float | None:
    if value is None:
        return None
    if isinstance(value, str) and 1 <= len(value) <= MAX_LABEL_CHARS:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise InvalidRequest(f"'{path}' must be a string of 1 to {MAX_LABEL_CHARS} characters or a finite number")


def _labels(value: Any, path: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_LABELS:
        raise InvalidRequest(f"'{path}' must be a list of at most {MAX_LABELS} strings")
    for i, label in enumerate(value):
        if not isinstance(label, str) or not 1 <= len(label) <= MAX_LABEL_CHARS:
            raise InvalidRequest(f"'{path}[{i}]' must be a string of 1 to {MAX_LABEL_CHARS} characters")
    return tuple(value)


def _truth(value: Any, path: str) -> list[Any] | None:
    """One entry a row: a label or a number, a list of them, or a list of `{"box": [4 numbers], "class"?: label}`."""
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"'{path}' must be a list with one entry a row")
    many = sum(len(entry) if isinstance(entry, list) else 1 for entry in value)
    if len(value) + many > MAX_TRUTH_ITEMS:
        raise InvalidRequest(f"'{path}' must hold at most {MAX_TRUTH_ITEMS} labels, numbers or boxes")
    return [_truth_entry(entry, f"{path}[{row}]") for row, entry in enumerate(value)]


def _truth_entry(entry: Any, path: str) -> Any:
    if not isinstance(entry, list):
        return _known(_label(entry, path), path)
    return [
        _box(x, f"{path}[{i}]") if isinstance(x, dict) else _known(_label(x, f"{path}[{i}]"), f"{path}[{i}]")
        for i, x in enumerate(entry)
    ]


def _box(value: dict[str, Any], path: str) -> dict[str, Any]:
    for name in value:
        if name not in ("box", "class"):
            raise InvalidRequest(f"unknown field '{path}.{name[:64]}'; known are box, class")
    corners = value.get("box")
    if not isinstance(corners, list) or len(corners) != 4:
        raise InvalidRequest(f"'{path}.box' must be a list of 4 numbers")
    box: dict[str, Any] = {"box": [_known(_score(x, f"{path}.box[{i}]"), path) for i, x in enumerate(corners)]}
    if value.get("class") is not None:
        box["class"] = _label(value["class"], f"{path}.class")
    return box


def _known(value: Any, path: str) -> Any:
    if value is None:
        raise InvalidRequest(f"'{path}' must not be null")
    return value


def _score(value: Any, path: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequest(f"'{path}' must be a finite number")
    return float(value)
