"""What is exchanged: items out, labels and problems in, and what a format is.

A label travels with the id of its case, whatever a tool does to file names, numbers and order; what cannot be led back
to a case is a problem, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from export.contracts.task import TaskKind

Progress: TypeAlias = Callable[[int], None]
"""Called with how many items were written since the last call."""


class ExchangeError(ValueError):
    """A file cannot be written or read as this format at all; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A box on a picture: left, top, right, bottom in pixels of the picture, four decimals at most."""

    x0: float
    y0: float
    x1: float
    y1: float
    label: str = ""
    score: float | None = None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        return tidy(self.x1 - self.x0), tidy(self.y1 - self.y0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What somebody or a model says of an input; exactly one is given.

    Attributes:
        label: A class name or a number.
        labels: Class names, none of them twice; or several numbers. Empty: none applies.
        boxes: Empty: there is nothing to find.
    """

    label: str | int | float | None = None
    labels: tuple[str | int | float, ...] | None = None
    boxes: tuple[Box, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in it, each once."""
        if self.boxes is not None:
            return tuple(dict.fromkeys(box.label for box in self.boxes))
        return tuple(str(x) for x in ((self.label,) if self.label is not None else self.labels or ()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A case as tools see it.

    Attributes:
        case: Its id, 16 hex digits.
        time: RFC 3339.
        predicted: What the model said; None where it said nothing.
        truth: What is known; None while nobody has said.
        picture: PNG; None where the input is none, is not kept, or was not asked for.
        width: Of the picture in pixels; 0 without one.
        text: Of a text input.
        values: Of a tabular input, by name.
    """

    case: str
    model: str
    version: str
    time: str
    predicted: Truth | None = None
    truth: Truth | None = None
    p_wrong: float | None = None
    comment: str = ""
    tags: tuple[str, ...] = ()
    picture: bytes | None = None
    width: int = 0
    height: int = 0
    text: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Name of its picture; every reader knows the case by it."""
        return f"{self.case}.png"


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What holds for all items of an export."""

    task: TaskKind
    classes: tuple[str, ...] = ()
    title: str = "Hardcase"


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """A label that was read. `where` names the file and the line or entry, for people."""

    case: str
    truth: Truth
    where: str
    comment: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that cannot be imported, and why."""

    where: str
    text: str


Read: TypeAlias = Labelled | Problem


class Format(Protocol):
    """A file format of labelling tools."""

    name: str
    title: str
    tasks: frozenset[TaskKind]

    def write(self, header: Header, items: Iterable[Item], folder: Path, progress: Progress) -> int:
        """Write items into an empty or new folder, one after the other; returns how many.

        Raises:
            ExchangeError: the format cannot carry an item; the text names it.
        """

    def read(self, path: Path) -> Iterator[Read]:
        """Labels and problems of a file, or of everything in a folder that this format makes.

        Raises:
            ExchangeError: there is no such file, or it is another format.
        """


def tidy(number: float) -> float:
    """Four decimals: sums and differences of such numbers come out the same again."""
    return round(float(number), 4) + 0.0


def plain_truth(truth: Truth) -> dict[str, Any]:
    """As JSON: one of `label`, `labels`, `boxes`.

    Example:
        >>> plain_truth(Truth(boxes=(Box(x0=1, y0=2, x1=3, y1=4.5, label="bee"),)))
        {'boxes': [{'box': [1, 2, 3, 4.5], 'label': 'bee'}]}
    """
    if truth.boxes is not None:
        return {"boxes": [_plain_box(box) for box in truth.boxes]}
    return {"label": truth.label} if truth.label is not None else {"labels": list(truth.labels or ())}


def truth_of(plain: Mapping[str, Any]) -> Truth | None:
    """From JSON with one of `label`, `labels`, `boxes`; None where it has none of them.

    Raises:
        ExchangeError: more than one, or not what it should be.
    """
    given = [name for name in ("label", "labels", "boxes") if plain.get(name) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise ExchangeError(f"'{given[0]}' and '{given[1]}' exclude each other")
    value = plain[given[0]]
    if given[0] == "label":
        return Truth(label=_scalar(value))
    if not isinstance(value, list):
        raise ExchangeError(f"'{given[0]}' is no list")
    if given[0] == "labels":
        return Truth(labels=tuple(_scalar(x) for x in value))
    return Truth(boxes=tuple(_box_of(x) for x in value))


def _plain_box(box: Box) -> dict[str, Any]:
    made: dict[str, Any] = {"box": [box.x0, box.y0, box.x1, box.y1], "label": box.label}
    return made if box.score is None else made | {"score": box.score}


def _box_of(value: Any) -> Box:
    corners = value.get("box") if isinstance(value, dict) else None
    if not isinstance(corners, list) or len(corners) != 4:  # left, top, right, bottom
        raise ExchangeError('a box is {"box": [left, top, right, bottom], "label": name}')
    label = value.get("label", "")
    if not isinstance(label, str):
        raise ExchangeError("the label of a box is no text")
    return make_box(corners, label)


def make_box(corners: Iterable[Any], label: str, score: float | None = None) -> Box:
    """A box of what a file holds.

    Raises:
        ExchangeError: four finite numbers in order are needed.
    """
    try:
        x0, y0, x1, y1 = (tidy(float(x)) for x in corners)
    except (TypeError, ValueError, OverflowError):
        raise ExchangeError("the corners of a box are four numbers") from None
    if not all(abs(x) < 1e9 for x in (x0, y0, x1, y1)):  # also refuses NaN
        raise ExchangeError("the corners of a box are four finite numbers")
    if x1 < x0 or y1 < y0:
        raise ExchangeError("a box ends before it begins")
    return Box(x0=x0, y0=y0, x1=x1, y1=y1, label=label, score=score)


def _scalar(value: Any) -> str | int | float:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ExchangeError("a label is a text that is not empty, or a number")
    return value
