"""The trainer contract: what a training program is given, what it says while it works, what it leaves.

A trainer is any program. It is started with the path of a request file as its last argument, writes events to standard
output as JSON objects, one a line (other lines are kept as its log), and leaves a package folder at
`output / PACKAGE_FOLDER`. Its exit status 0 says that the package is whole. SIGTERM asks it to stop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

REQUEST_SCHEMA_VERSION = 1
REQUEST_FILE = "request.json"
PACKAGE_FOLDER = "package"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRequest:
    """What a trainer is asked for. Paths are absolute folders, readable where the trainer runs.

    Attributes:
        id: Of the training; the same id is never trained twice.
        model: Name of the model.
        version: Which the package must have.
        snapshot: Folder of the data set snapshot (`export.dataset`).
        snapshot_digest: What the snapshot must have: a trainer that reads another one must fail.
        parent: Package folder of the version to start from; None for a training from scratch.
        parent_version: Its version.
        output: Folder of this training: package, checkpoints, other artefacts.
        seed: Of everything random. The same request with the same seed shall give the same package digest.
        budget_s: The program is ended after so many seconds.
        parameters: The trainer's own; hyper-parameters for one.
        reason: Why, in one sentence.
        asked_at: When, RFC 3339. The package's `created_at`: so a repetition makes the same bytes.
    """

    id: str
    model: str
    version: str
    snapshot: str
    snapshot_digest: str
    output: str
    seed: int
    budget_s: float
    parent: str | None = None
    parent_version: str | None = None
    parameters: dict[str, str | int | float | bool] = field(default_factory=dict)
    reason: str = ""
    asked_at: str = ""
    schema_version: int = REQUEST_SCHEMA_VERSION


class EventKind(StrEnum):
    """What a line of a trainer says."""

    PROGRESS = "progress"  # {"event": "progress", "step": 3, "of": 20, "text": "epoch 3"}
    METRIC = "metric"  # {"event": "metric", "name": "val_accuracy", "value": 0.93, "step": 3}
    NOTE = "note"  # {"event": "note", "text": "..."}
    ARTEFACT = "artefact"  # {"event": "artefact", "path": "curves.png", "text": "..."}: relative to output
    DONE = "done"  # {"event": "done", "metrics": {...}}: the package lies there


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingEvent:
    """One line of a trainer, checked. Which fields are set depends on the kind."""

    kind: EventKind
    step: int | None = None
    of: int | None = None
    name: str | None = None
    value: float | None = None
    text: str = ""
    path: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
