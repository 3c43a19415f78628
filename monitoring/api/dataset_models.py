"""What the API asks and answers about data set snapshots and lineage."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from monitoring.api.fields import Answer, Asked, Label, Name, Time
from monitoring.datasets.diff import Change
from monitoring.datasets.rows import SnapshotState

RowKey = Annotated[str, StringConstraints(max_length=64)]


class DatasetBuild(Asked):
    """A snapshot to be made. The same log, acts and recipe give the one that is there."""

    model: Name
    recipe: dict[str, Any] = Field(
        default_factory=dict, description="Fields of a recipe; what is left out has its default."
    )


class DatasetQuery(Asked):
    """Which snapshots."""

    model: Name | None = None
    limit: int = Field(100, ge=1, le=500)


class DatasetRowQuery(Asked):
    """Which rows of a snapshot."""

    split: str | None = Field(None, pattern="^(train|validation|test)$")
    after: RowKey = ""
    limit: int = Field(100, ge=1, le=1000)


class DatasetDiffQuery(Asked):
    """How much of a difference."""

    limit: int = Field(200, ge=0, le=5000, description="Rows that are listed; counts are of all.")


class Dataset(Answer):
    """A data set snapshot: immutable, named by the digest of its content."""

    id: str
    digest: str
    name: str
    model: str
    rows: int
    splits: dict[str, int]
    sources: dict[str, int]
    classes: dict[str, int]
    base: str | None = Field(description="Digest of the snapshot whose rows it carries on.")
    recipe: dict[str, Any]
    notes: list[str]
    newest_at: Time = Field(description="Time of its newest row.")
    created_at: Time
    created_by: str
    state: SnapshotState
    erased: int = Field(description="Rows of it that had to go since: erased, or past their time limit.")
    successor: str | None = Field(description="The snapshot that has what was left after that.")
    versions: list[str] = Field(description="Versions whose package names it.")


class Datasets(Answer):
    """Newest first."""

    datasets: list[Dataset]


class DatasetRow(Answer):
    """A row of a snapshot, without its inputs."""

    row_id: str
    split: str
    source: str
    group: str
    weight: float
    label: Label
    predicted: Label
    author: str
    time: Time | None
    case: str | None
    record_id: str | None
    version: str | None
    slices: list[str]


class DatasetRows(Answer):
    """A page of rows, by their ids."""

    rows: list[DatasetRow]
    next: str | None = Field(description="Give it as `after` for the page behind this one.")


class DatasetChange(Answer):
    """A row that differs."""

    row_id: str
    change: Change
    before: Label = Field(description="Label, or split of a row that moved.")
    after: Label
    label: Label
    source: str
    case: str | None


class DatasetDiff(Answer):
    """From one snapshot to another."""

    before: Dataset
    after: Dataset
    same: int
    counts: dict[str, int]
    by_label: dict[str, dict[str, int]]
    by_source: dict[str, dict[str, int]]
    rows: list[DatasetChange]


class DatasetSuspect(Answer):
    """A label that looks wrong: the model was confident of another class, and inputs like it have other labels."""

    row_id: str
    case: str
    author: str
    given: str | int
    suggested: str | int
    probability: float = Field(description="That the model gave to what is suggested.")
    agreeing: int = Field(description="Nearest labelled inputs with the label that was given.")
    neighbours: int = Field(description="... of so many.")


class DatasetSuspects(Answer):
    """The surest first."""

    suspects: list[DatasetSuspect]
    asked: int = Field(description="Rows that could be asked about.")


class DatasetCheck(Answer):
    """Whether its folder still holds what its digest names."""

    id: str
    whole: bool
    problem: str | None


class LineageRecord(Answer):
    """An answer that was given."""

    record_id: str
    model: str
    version: str
    time: Time
    case: str | None
    predicted: str | None
    label: str | None


class LineageSaid(Answer):
    """What somebody said about a case."""

    case: str
    actor: str
    what: str
    label: Label
    time: Time
    act: int | None


class LineageItem(Answer):
    """A row of a snapshot."""

    snapshot: str
    row_id: str
    split: str
    source: str
    case: str
    label: Label


class LineageSnapshot(Answer):
    """A snapshot, and how many rows of it this is about."""

    dataset: Dataset
    rows: int


class LineageMlflow(Answer):
    """A version in MLflow."""

    name: str = Field(description="Of the registered model there.")
    number: str = Field(description="Of its version.")
    url: str = Field(description="Its page; empty where no MLflow server is configured any more.")
    run: str
    run_url: str = Field(description="Of the run of its turn of the loop; empty where there is none.")


class LineageVersion(Answer):
    """A version that was trained on a snapshot, how it came about, and what became of it."""

    model: str
    version: str
    snapshot: str = Field(description="Empty where its package names none that is known here.")
    parent: str | None
    champion: bool
    training: str = Field("", description="Id of its turn of the loop.")
    stage: str = Field("", description="Of that turn.")
    gate: str = Field("", description="Id of its newest gate.")
    gate_outcome: str = ""
    rollout: str = Field("", description="Id of its newest roll-out.")
    rollout_state: str = ""
    mlflow: LineageMlflow | None = None


class Lineage(Answer):
    """Records, what was said about them, snapshots that hold them, versions trained on those."""

    about: str
    records: list[LineageRecord]
    said: list[LineageSaid]
    items: list[LineageItem]
    snapshots: list[LineageSnapshot]
    versions: list[LineageVersion]
    total: int = Field(description="Rows of snapshots; `items` lists the first of them.")


class LineageVersionQuery(Asked):
    """Which version."""

    version: Name


class LineageRecordQuery(Asked):
    """Of which model the record is."""

    model: Name | None = None
