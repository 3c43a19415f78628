"""How a case is decided with keys: which key says what, by the kind of task."""

from __future__ import annotations

import json
from typing import Any

from export.contracts.manifest import Manifest, TaskKind
from export.contracts.task import BoxFormat, BoxRules
from monitoring.api import models as m
from monitoring.console import words
from monitoring.console.review_parts import Choice, Pad

VERDICT_KEYS = "cwuds"  # correct, wrong, unclear, dismiss, skip
PAGE_KEYS = "zegol"  # undo, comment, all like this, open the case, find a class
DIGITS = "1234567890"
LETTERS = "".join(c for c in "abcdefghijklmnopqrstuvwxyz" if c not in VERDICT_KEYS + PAGE_KEYS)
KEYS = DIGITS + LETTERS
WORDS = {
    w: str(i) for i, w in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"))
}
TOP = 10  # classes with keys where there are more classes than keys: the most probable


def pad_of(manifest: Manifest | None, case: m.CaseDetail) -> Pad:
    """The keys for a case."""
    if manifest is None:
        return Pad(mode="plain")
    kind, names = manifest.task.kind, manifest.task.class_names
    if kind is TaskKind.CLASSIFICATION:
        return _classes(names or _numbered(case), case)
    if kind is TaskKind.MULTI_LABEL:
        return _labels(names, case)
    if kind is TaskKind.REGRESSION:
        return _numbers(case)
    if kind is TaskKind.DETECTION and isinstance(case.answer, list):
        return _boxes(manifest.task.boxes or BoxRules(), names, case.answer)
    return Pad(mode="plain")


def keys_for(names: tuple[str, ...]) -> list[str]:
    """A key for each class: its own name where that is one free key, else the digits from 1 on, then free letters.

    A class that is named by the word of a digit has that digit's key: whoever sees a seven shall not press 8.

    Example:
        >>> keys_for(("0", "1", "x")), keys_for(("cat", "dog")), keys_for(("zero", "one"))
        (['0', '1', 'x'], ['1', '2'], ['0', '1'])
    """
    keys = ["" for _ in names]
    free = list(KEYS)
    for i, name in enumerate(names):
        own = WORDS.get(name.lower(), name.lower())
        if own in free:
            keys[i] = own
            free.remove(own)
    for i, key in enumerate(keys):
        if not key and free:
            keys[i] = free.pop(0)
    return keys


def _classes(names: tuple[str, ...], case: m.CaseDetail) -> Pad:
    shares = case.probabilities or []
    notes = [words.percent(shares[i], 0) if i < len(shares) else "" for i in range(len(names))]
    if len(names) <= len(KEYS):
        keys = keys_for(names)
        order = range(len(names))
    else:
        order_by = sorted(range(len(shares)), key=lambda i: -(shares[i] or 0.0))[:TOP]
        order = order_by or range(TOP)  # type: ignore[assignment]  # both give indices
        keys = list(DIGITS)
    picked = [
        Choice(key=keys[place], text=names[i], value=_label(names, i), chosen=i == case.predicted, note=notes[i])
        for place, i in enumerate(order)
        if i < len(names)
    ]
    return Pad(mode="pick", choices=tuple(picked), more=len(names) - len(picked))


def _label(names: tuple[str, ...], index: int) -> str | int:
    """A class as a label: its name where only one class has it, as in what is taken over from "correct"."""
    return names[index] if names.count(names[index]) == 1 else index


def _labels(names: tuple[str, ...], case: m.CaseDetail) -> Pad:
    given = set(case.answer) if isinstance(case.answer, list) else set()
    shares = case.probabilities or []
    count = max(len(names), len(shares))
    named = tuple(names[i] if i < len(names) else str(i) for i in range(count))
    order = sorted(range(count), key=lambda i: (i not in given, -(shares[i] or 0.0) if i < len(shares) else 0.0))
    shown = sorted(order[: len(KEYS)])
    keys = keys_for(tuple(named[i] for i in shown))
    choices = tuple(
        Choice(
            key=key,
            text=named[i],
            value=i,
            chosen=i in given,
            note=words.percent(shares[i], 0) if i < len(shares) else "",
        )
        for key, i in zip(keys, shown, strict=True)
    )
    said = ", ".join(named[i] for i in sorted(given) if i < count) or "nothing"
    return Pad(mode="toggle", choices=choices, more=count - len(shown), given=said, noun="label")


def _numbers(case: m.CaseDetail) -> Pad:
    answer: Any = case.answer
    values = answer.get("value", []) if isinstance(answer, dict) else []
    given = ", ".join(words.figure(v) for v in values)
    return Pad(mode="number", values=max(len(values), 1), given=given, noun="value")


def _boxes(rules: BoxRules, names: tuple[str, ...], answer: list[Any]) -> Pad:
    choices = []
    for i, box in enumerate(answer[: len(KEYS)]):
        label = int(box["class"])
        name = names[label] if label < len(names) else f"class {label}"
        score = words.figure(box.get("score")) if box.get("score") is not None else ""
        value = {"box": as_given(box["box"], rules.format), "class": label}
        choices.append(Choice(key=KEYS[i], text=name, value=value, chosen=True, note=score))
    said = f"{len(answer)} box{'' if len(answer) == 1 else 'es'}"
    return Pad(mode="toggle", choices=tuple(choices), more=max(len(answer) - len(KEYS), 0), given=said, noun="box")


def as_given(corners: list[float], form: BoxFormat) -> list[float]:
    """A box in the form in which the model's feedback has it, from left, top, right, bottom.

    Example:
        >>> as_given([1.0, 2.0, 4.0, 8.0], BoxFormat.XYWH), as_given([1.0, 2.0, 4.0, 8.0], BoxFormat.CXCYWH)
        ([1.0, 2.0, 3.0, 6.0], [2.5, 5.0, 3.0, 6.0])
    """
    left, top, right, low = (float(v) for v in corners)
    if form is BoxFormat.XYWH:
        return [left, top, right - left, low - top]
    if form is BoxFormat.CXCYWH:
        return [(left + right) / 2, (top + low) / 2, right - left, low - top]
    return [left, top, right, low]


def _numbered(case: m.CaseDetail) -> tuple[str, ...]:
    """Names for classes that have none: their numbers."""
    return tuple(str(i) for i in range(len(case.probabilities or ())))


def json_text(value: Any) -> str:
    """A value for a `data-` attribute."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
