"""What a trigger policy asks, what it is told, and what it answers. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DAY_S = 86_400


class Decision(StrEnum):
    """What a look at the evidence ends in."""

    RETRAIN = "retrain"
    ASK = "ask"  # would train, and a person must approve first
    WAIT = "wait"


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmCondition:
    """An open alarm on the audited error rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailuresCondition:
    """So many reviewed failures, with labels, that the champion was not trained on.

    Attributes:
        count: At least this many.
        one_slice: They must lie in one slice.
    """

    count: int
    one_slice: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RegretCondition:
    """Waiting on costs more than training now.

    Attributes:
        cost: Of one training with everything that follows, in errors: as many wrong answers as it is worth.
    """

    cost: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GrowthCondition:
    """The last training had few labels of what the traffic is like now, and there are many more by now.

    Attributes:
        factor: How many times as many.
        enough: With so many a training had all that it needs.
    """

    factor: float = 3.0
    enough: int = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleCondition:
    """The champion's training is so long ago.

    Attributes:
        every_s: Seconds.
    """

    every_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AllOf:
    """Every one of several conditions."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnyOf:
    """At least one of several conditions."""

    conditions: tuple[Condition, ...]


Condition = AlarmCondition | FailuresCondition | RegretCondition | GrowthCondition | ScheduleCondition | AllOf | AnyOf


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggerPolicy:
    """When a model is trained again.

    Attributes:
        condition: What must hold.
        min_labels: New labels without which no training starts, whatever holds.
        cool_down_s: Not sooner than this after the last training began.
        budget: Trainings allowed within `budget_s`.
        budget_s: Length of that span, back from now.
        quiet: Hours of the day (UTC) in which nothing starts, as (first, end): (22, 6) is from 22:00 to 06:00.
        approval: A person must approve.
    """

    condition: Condition
    min_labels: int = 50
    cool_down_s: float = 3_600.0
    budget: int = 4
    budget_s: float = DAY_S
    quiet: tuple[int, int] | None = None
    approval: bool = False

    def __post_init__(self) -> None:
        """Refuse policies that cannot be followed.

        Raises:
            ValueError: names the field.
        """
        for name in ("min_labels", "cool_down_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative")
        if self.budget < 1 or self.budget_s <= 0:
            raise ValueError("budget and budget_s must be positive: a policy that never trains is no policy")
        if self.quiet is not None and not all(0 <= hour < 24 for hour in self.quiet):
            raise ValueError(f"quiet is {self.quiet}: both must be hours of a day, 0 to 23")


@dataclass(frozen=True, kw_only=True, slots=True)
class Regret:
    """What waiting has cost since the last training.

    Attributes:
        answered: Requests answered since then.
        excess: Errors beyond what a fresh training would have made, so far.
        rate: The same per request, now.
    """

    answered: float
    excess: float
    rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything a policy looks at.

    Attributes:
        now_s: The time of the look.
        trained_s: When the champion's training began; None when it came from elsewhere.
        alarms: Ids of open alarms on the audited error rate.
        failures: Reviewed failures with labels that the champion was not trained on.
        slices: {slice id: those of them that lie in it}.
        labels: New labels of all kinds, right answers included.
        present: Labels of what the traffic is like now: since the last change that was seen.
        trained_present: How many of those the champion was trained on.
        regret: None while there are too few audited labels to know.
        running: Id of a training, gate or roll-out of this model that has not ended.
        starts_s: When earlier trainings began.
        approved: Somebody approved this.
    """

    now_s: float
    trained_s: float | None = None
    alarms: tuple[str, ...] = ()
    failures: int = 0
    slices: Mapping[str, int] = field(default_factory=dict)
    labels: int = 0
    present: int = 0
    trained_present: int = 0
    regret: Regret | None = None
    running: str | None = None
    starts_s: tuple[float, ...] = ()
    approved: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """One part of the policy, and whether it speaks for a training.

    Attributes:
        name: Of the condition or guard.
        holds: Speaks for it.
        words: With the figures that were compared.
    """

    name: str
    holds: bool
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What was decided, with everything that was looked at.

    Attributes:
        reasons: Conditions in the order of the policy, then guards.
        words: One sentence.
    """

    decision: Decision
    reasons: tuple[Reason, ...]
    words: str
