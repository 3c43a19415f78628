"""What the API asks and answers about alarms."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from monitoring.alarms.watch import AlarmState, Promise
from monitoring.api.fields import Answer, Asked, AskedTime, Name, Share, Time

Author = Annotated[str, StringConstraints(min_length=1, max_length=128, strip_whitespace=True)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
MAX_MINUTES = 60 * 24 * 30


class Harm(StrEnum):
    """What the audit says about the drift of a model."""

    STEADY = "steady"  # no signal stands over its threshold
    UNKNOWN = "unknown"  # signals moved, and too few labels came in since
    HARMLESS_SO_FAR = "harmless_so_far"  # signals moved, no alarm fires; the bound on the error rate is given
    HARMFUL = "harmful"  # signals moved, and an alarm fires


class Drift(Answer):
    """Drift, told apart by what it costs. Signals never page; this says whether somebody should look."""

    harm: Harm
    text: str
    exceeded: int = Field(description="Signals over their threshold in the newest rolling window.")
    since: Time | None
    labels: int = Field(description="Audited labels of records since then.")
    errors: float
    upper: Share | None = Field(description="Upper 95 % bound of the error rate of those; null without labels.")


class PromiseState(Answer):
    """One promise of a watch."""

    promise: Promise
    says: str = Field(description="How often such an alarm may be false.")
    state: AlarmState
    limit: float = Field(description="The error rate that the evidence speaks against.")
    evidence: float
    threshold: float = Field(description="The alarm fires when the evidence reaches it.")
    recovery: float | None = Field(description="Evidence that the rate is below the tolerance; null while quiet.")
    recovery_threshold: float = Field(description="An open alarm ends when the recovery reaches it.")
    alarm: str | None = Field(description="Id of the open alarm.")
    silenced: bool


class Watching(Answer):
    """How a model is watched."""

    model: str
    version: str | None = Field(description="Whose labels count now; null before the first.")
    tolerance: float | None
    tolerance_source: str | None
    expected: float | None = Field(description="The run-length promise speaks against this rate.")
    labels: int = Field(description="Counted over the model's life, all versions.")
    errors: float
    waiting: int = Field(description="Labels that are not counted yet.")
    late: int = Field(description="Labels counted after others of a later time.")
    set_aside: int = Field(description="Labels of versions that were not watched.")
    budget_left: Share = Field(description="Of the lifetime promise's stake: what has not begun.")
    renewals: int = Field(description="New versions and resolved alarms that took a part of it.")
    problem: str | None = Field(description="Why labels wait: words, never a blank.")
    promises: list[PromiseState]
    drift: Drift


class Moved(Answer):
    """A signal that stood over its threshold beside an alarm."""

    kind: str
    method: str
    subject: str
    value: float
    threshold: float
    ratio: float
    detail: str | None


class Alarm(Answer):
    """An alarm."""

    id: str
    model: str
    version: str
    promise: Promise
    number: int
    state: AlarmState
    says: str
    limit: float
    tolerance: float
    tolerance_source: str
    threshold: float
    evidence: float = Field(description="When it fired.")
    labels: int = Field(description="Behind it: since the errors began to grow.")
    errors: float
    estimate: Share | None = Field(description="Error rate of those labels.")
    low: Share | None
    high: Share | None
    start: Time = Field(description="Of the first record behind it.", alias="from")
    fired_at: Time
    changed_at: Time
    resolved_at: Time | None
    silenced: bool
    failing_inputs: str = Field(description="Address of the cases behind it.")
    page: str = Field(description="Where people see it.")


class PathPoint(Answer):
    """One label of the evidence's path."""

    position: int
    ready_at: Time
    wrong: float
    p_wrong: float | None
    weight: float
    inclusion_probability: float
    lifetime: float
    run_length: float
    case: str
    record: str


class AlarmEvent(Answer):
    """A change of an alarm."""

    id: int
    alarm: str
    model: str
    version: str
    promise: Promise
    state: AlarmState
    at: Time
    position: int
    evidence: float
    text: str


class AlarmDetail(Alarm):
    """An alarm with all of its evidence."""

    moved: list[Moved] | None = Field(description="Signals beside it; null until they are computed.")
    examples: list[str] = Field(description="Ids of failing cases, newest first.")
    events: list[AlarmEvent]
    path: list[PathPoint] = Field(
        description="Its labels with up to 200 before them, until it was resolved; at most 5,000."
    )


class Alarms(Answer):
    """Alarms, and how the models are watched."""

    alarms: list[Alarm]
    watching: list[Watching]


class AlarmEvents(Answer):
    """What happened, in order."""

    events: list[AlarmEvent]


class Silence(Answer):
    """A silence. The alarm goes on; only its page is held back."""

    id: int
    model: str
    promise: Promise | None
    start: Time = Field(alias="from")
    until: Time
    author: str
    reason: str
    ended_at: Time | None
    ended_by: str | None
    holds: bool


class Silences(Answer):
    """Silences, newest first."""

    silences: list[Silence]


class AlarmQuery(Asked):
    """Which alarms."""

    model: Name | None = None
    promise: Promise | None = None
    state: AlarmState | None = None
    limit: int = Field(100, ge=1, le=500)


class EventQuery(Asked):
    """Which events: those after the last id that the caller has seen."""

    after: int = Field(0, ge=0, le=2**62)
    limit: int = Field(100, ge=1, le=500)


class SilenceQuery(Asked):
    """Which silences."""

    model: Name | None = None
    limit: int = Field(100, ge=1, le=500)


class SilenceStart(Asked):
    """Hold back the pages of a model: either for so many minutes, or until a time."""

    model: Name
    promise: Promise | None = Field(None, description="Default: both.")
    minutes: int | None = Field(None, ge=1, le=MAX_MINUTES)
    until: AskedTime | None = None
    author: Author
    reason: Reason


class SilenceEnd(Asked):
    """End a silence early."""

    author: Author
