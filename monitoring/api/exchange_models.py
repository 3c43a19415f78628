"""What the exchange of cases asks and answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from export.contracts.cases import CaseState, FlagReason
from export.contracts.task import TaskKind
from monitoring.api.fields import Answer, Asked, AskedTime, Name, Share
from monitoring.exchange.source import LIMIT

Key = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9._:-]+$")]


class ExportQuery(Asked):
    """Which cases to export, in the order of the queue; or those of a batch, in its order."""

    model: Name | None = None
    version: Name | None = None
    reason: FlagReason | None = None
    state: CaseState | None = None
    correct: bool | None = None
    min_score: Share | None = Field(None, description="Lowest P(wrong).")
    start: AskedTime | None = Field(None, alias="from")
    end: AskedTime | None = Field(None, alias="to")
    grouped: bool = Field(False, description="Leave out cases that another one stands for.")
    tag: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    batch: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")] | None = Field(
        None, description="Id of a batch."
    )
    inputs: bool = Field(False, description="With pictures (PNG, base64), texts and values of the inputs.")
    limit: int = Field(LIMIT, ge=1, le=LIMIT)


class ImportQuery(Asked):
    """How to import."""

    key: Key = Field(description="Names this import: the same again with the same labels changes nothing.")
    source: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        "file", description="Where the labels come from; stays in the trail."
    )
    dry_run: bool = Field(False, description="Only say what would happen.")


class ImportProblem(Answer):
    """What cannot be imported, and where it stands."""

    where: str
    text: str


class Imported(Answer):
    """What became of an import. With a problem, nothing is imported."""

    dry_run: bool
    labels: int = Field(description="Labels that were read.")
    changed: int = Field(description="Cases that were changed.")
    skipped: dict[str, int] = Field(description="Labels that changed nothing, by why.")
    acts: list[int] = Field(description="Acts of the trail, each to be undone as one.")
    problem_count: int
    problems: list[ImportProblem] = Field(description="The first of them.")


class ExportHeader(Answer):
    """First line of an export; a line for each case follows."""

    model: str
    task: TaskKind
    classes: list[str]
    count: int
