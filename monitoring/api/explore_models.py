"""What the API asks and answers about selections, the map, and requests to try."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from monitoring.api.fields import Answer, Asked, Label, Name, Time
from monitoring.api.finding_models import Neighbour

CaseName = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]
SelectionName = Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")]


class SelectionStart(Asked):
    """Cases to keep together."""

    model: Name
    cases: list[CaseName] = Field(min_length=1, max_length=50_000)
    title: Annotated[str, StringConstraints(max_length=200)] = ""


class Selection(Answer):
    """Cases that somebody gathered."""

    id: str
    model: str
    title: str
    actor: str
    time: Time
    cases: int = Field(description="When it was made.")
    left: int = Field(description="How many of them are still kept.")
    href: str = Field(description="The case list with only these.")


class Selections(Answer):
    """Selections, newest first."""

    selections: list[Selection]


class SelectionQuery(Asked):
    """Whose selections."""

    model: Name | None = None
    limit: int = Field(50, ge=1, le=500)


class SelectionCases(Answer):
    """Ids of a selection's cases, most probably wrong first."""

    cases: list[str]


class MapQuery(Asked):
    """Which version's map."""

    version: Name | None = Field(None, description="Default: the champion, or the version seen last.")
    limit: int = Field(50_000, ge=100, le=50_000, description="Points at most.")


class TryInput(Asked):
    """One input: `data` (numbers or texts, flat or nested) or `base64` (raw little-endian elements, or a file)."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    shape: list[int] | None = Field(None, max_length=16)
    data: Any = None
    base64: str | None = None


class TryStart(Asked):
    """A request to try. It is recorded with the parameter `origin=try` and counts as no traffic."""

    version: Name | None = Field(None, description="Default: whichever the traffic plan gives.")
    inputs: list[TryInput] = Field(min_length=1, max_length=64)
    neighbours: int = Field(8, ge=0, le=50)


class TriedTensor(Answer):
    """An output as answered; `data` is flat, and left out when it has more than 4,096 elements."""

    name: str
    datatype: str
    role: str
    shape: list[int]
    data: list[Any] | None


class TriedRow(Answer):
    """What the monitor makes of a row of the answer; the same scores that a record gets."""

    predicted: int | None
    predicted_label: str | None
    probabilities: list[float | None] | None
    answer: Label
    value: float | None
    confidence: float | None
    p_wrong: float | None
    reasons: list[str] = Field(description="Why such a request would be looked at.")
    scores: dict[str, float | None]
    place: tuple[float, float] | None = Field(description="Where it lies on the map.")


class Tried(Answer):
    """What came of a request to try."""

    id: str
    model: str
    version: str
    milliseconds: float = Field(description="From here to the service and back.")
    class_names: list[str]
    outputs: list[TriedTensor]
    rows: list[TriedRow]
    neighbours: list[Neighbour] = Field(description="Recorded inputs that are most like the first row.")
    missing: str | None = Field(description="Why there are no scores, place or neighbours, in words.")
    curl: str
    python: str


class Example(Answer):
    """An input to begin with."""

    name: str
    source: str = Field(description='"case", or "reference".')
    case: str | None
    label: str
    picture: str | None
    inputs: list[TryInput]


class Examples(Answer):
    """Inputs to begin with: newest cases, and rows of the reference where its columns are the whole input."""

    examples: list[Example]
