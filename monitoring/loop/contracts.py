"""What the loop is made of, and what `deploy` hands in so that it can act: jobs, packages, traffic plans.

One row of `trainings` is one turn of the loop. It moves through `Stage` forwards only, one transaction a step, and
every port is idempotent by the id it is given: after a crash at any point the step is simply done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from export.contracts.manifest import Manifest
from export.contracts.traffic import TrafficPlan
from export.contracts.training import TrainingEvent


class Stage(StrEnum):
    """Where a turn of the loop stands."""

    ASKED = "asked"  # a person must approve
    REQUESTED = "requested"  # decided; the snapshot is not made yet
    TRAINING = "training"  # the job runs
    TRAINED = "trained"  # the package lies there
    GATING = "gating"  # registered as a candidate; the gate's job runs
    GATED = "gated"  # passed
    ROLLING_OUT = "rolling_out"
    PROMOTED = "promoted"  # ended: it is the champion
    REJECTED = "rejected"  # ended: the gate said no, or could not tell
    ROLLED_BACK = "rolled_back"  # ended: the roll-out withdrew it
    FAILED = "failed"  # ended: no package, or one that admission refused
    CANCELLED = "cancelled"  # ended: a person stopped it, or did not approve

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self in _ENDED


_ENDED = frozenset({Stage.PROMOTED, Stage.REJECTED, Stage.ROLLED_BACK, Stage.FAILED, Stage.CANCELLED})


class JobKind(StrEnum):
    """What a job does."""

    TRAIN = "train"  # request: `export.contracts.training.TrainingRequest`
    GATE = "gate"  # request: `monitoring.gate.job.GateRequest`


class JobState(StrEnum):
    """How a job stands."""

    UNKNOWN = "unknown"  # never started here
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A piece of work outside the monitor.

    Attributes:
        id: Idempotency key: of jobs with one id at most one ever runs, also over crashes of both sides.
        program: Which trainer of the settings; "" for the gate's own.
        request: The request file, written whole before the start.
        output: Folder that the job may write to.
        budget_s: It is ended after so many seconds.
        silence_s: ... or when it has said nothing for so long.
    """

    id: str
    kind: JobKind
    model: str
    request: Path
    output: Path
    budget_s: float
    silence_s: float
    program: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobReport:
    """What is known of a job.

    Attributes:
        reason: Why it failed, in a sentence fit for people; "" otherwise.
        events: From `since` on (see `Jobs.look`), oldest first.
        next: To be given as `since` next time.
        started_at: RFC 3339; None before.
        ended_at: RFC 3339; None before.
        where: Process id, Ray job id, or address of the run: for people.
    """

    state: JobState
    reason: str = ""
    events: Sequence[TrainingEvent] = ()
    next: int = 0
    started_at: str | None = None
    ended_at: str | None = None
    where: str = ""


class Jobs(Protocol):
    """Runs jobs. No method blocks for longer than a second."""

    def start(self, job: Job) -> None:
        """Start it, unless a job of this id was started before."""
        ...

    def look(self, job_id: str, since: int = 0) -> JobReport:
        """How it stands, and what it has said since."""
        ...

    def cancel(self, job_id: str) -> None:
        """End it. Idempotent."""
        ...

    def log(self, job_id: str, lines: int = 200) -> str:
        """The end of what it has printed."""
        ...


class Candidates(Protocol):
    """Packages that trainings leave."""

    def admit(self, folder: Path) -> Manifest:
        """Check the package in a child process with limits and add it to the registry. Idempotent.

        Raises:
            HardcaseError: refused; the text is fit for people.
        """
        ...

    def folder(self, model: str, version: str) -> Path | None:
        """Where a registered package lies."""
        ...

    def next_version(self, model: str, taken: Sequence[str] = ()) -> str:
        """A version that the registry and `taken` do not have."""
        ...


class Plans(Protocol):
    """Traffic plans, to be changed. Every change names the revision that was seen; `Conflict` when it is another."""

    def read(self, model: str) -> TrafficPlan | None:
        """The plan in force."""
        ...

    def write(self, plan: TrafficPlan, *, expected_revision: int) -> TrafficPlan:
        """Write the next revision.

        Raises:
            Conflict: the plan has another revision by now.
            HardcaseError: it cannot be followed.
        """
        ...

    def rollback(self, model: str, *, author: str, reason: str) -> TrafficPlan:
        """Return to the champion before the present one, and withdraw any challenger."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Letter:
    """What a job that runs elsewhere has sent, with the headers of Standard Webhooks.

    Attributes:
        id: `webhook-id`; each is taken once.
        timestamp: `webhook-timestamp`, seconds since the epoch.
        signature: `webhook-signature`.
    """

    id: str
    timestamp: str
    signature: str
    body: bytes


class Inbox(Protocol):
    """Takes what jobs that run elsewhere have to say."""

    def take(self, job_id: str, letter: Letter) -> int:
        """Check it and keep it for the job; how many events were in it.

        Raises:
            Unauthenticated: no such job, a wrong signature, or a time too far from ours.
            Conflict: a letter with this id was taken before, or the job has ended.
            InvalidRequest: the body is not what it should be.
        """
        ...


class BringIn(Protocol):
    """Makes a package of files that somebody else made, in a child process with limits."""

    def __call__(self, fetched: Path, out: Path, *, model: str, version: str, like: Path | None, note: str) -> Path:
        """The folder of the package.

        Args:
            fetched: Holds one ONNX file with its external data, or a package.
            out: Folder in which the package's folder is made.
            model: Its name.
            version: Its version.
            like: Package of the champion: task, roles and rows to try it on come from there.
            note: Where it comes from, for its provenance.

        Raises:
            HardcaseError: it cannot become a package; the text is fit for people.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Everything outside the monitor that the loop works with.

    Attributes:
        jobs: Trainings and gates.
        trainers: {model: name of its trainer}; a model without one is not trained, only suggested for it.
        folder: State of the loop: requests, outputs, reports.
        datasets: Snapshots, each in a folder named by the first 16 hex digits of its digest.
        inbox: Of jobs that run elsewhere; None where there are none.
        bring_in: Makes packages of models from elsewhere, in a child process; None: none are taken in.
    """

    jobs: Jobs
    candidates: Candidates
    plans: Plans
    folder: Path
    datasets: Path
    trainers: Mapping[str, str] = field(default_factory=dict)
    inbox: Inbox | None = None
    bring_in: BringIn | None = None
