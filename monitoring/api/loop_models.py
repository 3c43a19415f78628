"""What the API asks and answers about the loop: where models stand, why, and every turn."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from export.contracts.training import EventKind
from monitoring.api.fields import Answer, Asked, Name, Time
from monitoring.loop.contracts import Stage
from monitoring.triggers.contracts import Decision

Note = Annotated[str, StringConstraints(max_length=500)]


class LoopReason(Answer):
    """A condition or guard of a policy, and whether it speaks for a training."""

    name: str
    holds: bool
    words: str


class LoopVerdict(Answer):
    """What a policy says."""

    decision: Decision
    words: str
    reasons: list[LoopReason]


class Turn(Answer):
    """One turn of the loop."""

    id: str
    model: str
    number: int = Field(description="Counts the model's turns.")
    stage: Stage
    since: Time = Field(description="Since when it stands there.")
    asked_at: Time
    requested_at: Time | None = Field(description="When it was decided for good; null while a person must approve.")
    began_at: Time | None = Field(description="When the training itself began.")
    trained_at: Time | None
    ended_at: Time | None
    actor: str = Field(description="`hardcase`, or who asked for it.")
    reason: str
    problem: str = Field(description="Why it ended without a promotion.")
    approved_by: str
    cancel_by: str = Field(description="Who wants it ended, or ended it.")
    champion: str = Field(description="Version that answered when it was asked for.")
    version: str = Field(description="Of the candidate; empty before the snapshot is made.")
    trainer: str
    seed: int
    budget_s: float
    snapshot: str
    snapshot_digest: str
    rows: int = Field(description="Of the snapshot.")
    labels: int = Field(description="New ones, when it was decided.")
    place: str = Field(description="Where its job runs, for people.")
    step: int | None
    steps: int | None
    note: str = Field(description="What its job is doing.")
    metrics: dict[str, float] = Field(description="As the trainer last said.")
    gate: str = Field(description="Id of the gate; empty before it has said something.")
    gate_words: str
    rollout: str = Field(description="Id of the roll-out; empty before it began.")
    decision: int = Field(description="Id of the decision that began it.")


class Turns(Answer):
    """Turns, the newest first."""

    trainings: list[Turn]


class TurnDetail(Answer):
    """One turn with the decision that began it."""

    training: Turn
    verdict: LoopVerdict


class TurnEvent(Answer):
    """Something that a trainer said, or a stage that a turn came to."""

    number: int
    at: Time = Field(description="When it was heard.")
    kind: str = Field(description=f"`stage`, or {', '.join(f'`{k.value}`' for k in EventKind)}.")
    step: int | None
    of: int | None
    name: str | None
    value: float | None
    text: str
    path: str | None


class TurnEvents(Answer):
    """Events, oldest first. `next` is the number to ask from next time."""

    events: list[TurnEvent]
    next: int


class TurnLog(Answer):
    """The end of what a job has printed."""

    text: str


class LoopDecision(Answer):
    """A look at the evidence, or several with the same outcome."""

    id: int
    model: str
    at: Time
    last_at: Time = Field(description="Of the last look that said the same.")
    looks: int
    decision: Decision
    actor: str
    words: str
    reasons: list[LoopReason]
    evidence: dict[str, Any]
    training: str | None = Field(description="The turn that it began.")


class LoopDecisions(Answer):
    """Decisions, the newest first."""

    decisions: list[LoopDecision]


class LoopModel(Answer):
    """Where a model stands."""

    model: str
    champion: str | None
    trainer: str | None = Field(description="Null: it is not trained, only suggested for it.")
    turn: Turn | None = Field(description="The one under way.")
    verdict: LoopVerdict | None = Field(description="What the policy says now; null where no version answers.")
    turns: int = Field(description="Ever.")
    last: Turn | None = Field(description="The newest one that has ended.")


class LoopOverview(Answer):
    """The loop of every model."""

    active: bool = Field(description="Whether this monitor trains at all.")
    models: list[LoopModel]


class RetrainAsked(Asked):
    """A training that somebody asks for."""

    model: Name
    reason: Note = ""
    dry_run: bool = Field(False, description="Only say what would happen, and why.")


class SnapshotPreview(Answer):
    """What the snapshot would hold."""

    labels: int = Field(description="New ones.")
    failures: int = Field(description="Reviewed failures among them.")
    base: str | None = Field(description="Digest of the champion's data set, which the recipe may carry on.")
    recipe: dict[str, Any]


class Retrain(Answer):
    """What happens, or would happen."""

    model: str
    champion: str
    decision: Decision
    words: str
    reasons: list[LoopReason]
    policy: LoopVerdict = Field(description="What the policy alone says.")
    evidence: dict[str, Any]
    trainer: str | None
    version: str | None = Field(description="That the candidate would have.")
    snapshot: SnapshotPreview
    training: str | None = Field(description="The turn that began; null in a dry run.")


class TurnAsk(Asked):
    """Why somebody approves, rejects or ends a turn."""

    reason: Note = ""
