"""What a page shows of a case's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class InputKindShown(StrEnum):
    """How an input is shown."""

    PICTURE = "picture"  # as PNG, drawn by the signature
    TABLE = "table"  # value by value, with what is usual
    TEXT = "text"  # as text
    HEAT = "heat"  # a tensor, as a heat map
    NOTHING = "nothing"  # not kept, or nothing that can be shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A value of an input, beside what is usual in the reference.

    Attributes:
        usual: The middle 98 % of the reference, in words; "" where there is none.
        level: "far below usual" or "far above usual"; "" where it is usual, or nobody knows.
    """

    name: str
    value: str
    usual: str
    level: str


@dataclass(frozen=True, kw_only=True, slots=True)
class InputView:
    """One input of a case.

    Attributes:
        src: Address of the picture; a side can be asked for with `?side=`.
        note: Datatype, shape and size.
        width: Of the picture in its own pixels; 0 where that is not known.
        cells: Values; what is unusual stands first.
        hidden: Usual values that are left out.
        text: For text.
        download: Address of the bytes, or "".
        why: Why there is nothing to see.
    """

    name: str
    kind: InputKindShown
    note: str
    src: str = ""
    width: int = 0
    height: int = 0
    cells: tuple[Cell, ...] = ()
    hidden: int = 0
    text: str = ""
    cut: bool = False
    download: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputsBlock:
    """All inputs of a case, and what of them, watched as a whole, is unlike the reference."""

    views: tuple[InputView, ...]
    unusual: tuple[Cell, ...]
