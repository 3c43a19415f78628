"""What a roll-out does step by step, what it asks before each, and what it promises."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class StepKind(StrEnum):
    """What the candidate does in a step."""

    SHADOW = "shadow"  # runs on what the champion answered; nobody sees its answers
    CANARY = "canary"  # answers its share
    CHAMPION = "champion"  # answers everybody but the hold-back: the bake time


class Metric(StrEnum):
    """What is compared. Each is a share of requests; more is worse."""

    ERRORS = "errors"  # failed, or past their time limit
    INVALID = "invalid"  # NaN or infinity answered
    LATENCY = "latency"  # slower than the budget: the champion's 95 % quantile times a factor
    FLAGGED = "flagged"  # uncertain or novel, by the scores of the version's own reference
    DISAGREEMENT = "disagreement"  # answered otherwise than the champion; against what the gate saw
    WRONG = "wrong"  # by the labels of audited requests


class RolloutState(StrEnum):
    """How a roll-out stands, or how it ended."""

    RUNNING = "running"
    PAUSED = "paused"  # a person, or a plan that somebody else changed; evidence against the candidate still counts
    PROMOTED = "promoted"  # ended: the candidate is the champion, and was through its bake time
    ROLLED_BACK = "rolled_back"  # ended: on evidence, or because somebody withdrew the candidate
    ABORTED = "aborted"  # ended: by a person, or because the time was over without enough evidence

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self in (RolloutState.PROMOTED, RolloutState.ROLLED_BACK, RolloutState.ABORTED)


class EventKind(StrEnum):
    """What the log of a roll-out tells."""

    BEGUN = "begun"
    STEP = "step"  # a step began: the plan was written
    HELD = "held"  # why it does not go on; only when the reason changes
    PAUSED = "paused"
    RESUMED = "resumed"
    ASKED = "asked"  # a person asked for something
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    PROMOTED = "promoted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step.

    Attributes:
        percent: Of the requests: mirrored in the shadow, answered as a canary, and as champion the share that the old
            champion still answers, for comparison (the hold-back).
        dwell_s: It lasts at least so long, pauses not counted.
        requests: ... and until the candidate has had so many requests.
        prove: ... and until it is proved of each of these that the candidate is not worse by the metric's margin.
        max_s: It is given up after so long without them.
    """

    kind: StepKind
    percent: float = 0.0
    dwell_s: float = 60.0
    requests: int = 30
    prove: tuple[Metric, ...] = ()
    max_s: float = 86_400.0

    def __post_init__(self) -> None:
        """Refuse what cannot be followed.

        Raises:
            ValueError: names the field.
        """
        if not 0 <= self.percent <= 100 or (self.kind is StepKind.CANARY and self.percent == 0):
            raise ValueError(f"percent of a {self.kind} step is {self.percent}: it must lie in 0..100")
        if self.dwell_s < 0 or self.requests < 0 or self.max_s <= self.dwell_s:
            raise ValueError("dwell_s and requests must not be negative, and max_s must be longer than dwell_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much worse than the champion a candidate may be in one metric, in shares of requests.

    Attributes:
        tolerance: A candidate that is worse by no more is rolled back at most with the promised chance.
        margin: One that is worse by more is promoted at most with the promised chance.
    """

    metric: Metric
    tolerance: float
    margin: float

    def __post_init__(self) -> None:
        """Refuse what promises nothing.

        Raises:
            ValueError: names the metric.
        """
        if not 0 <= self.tolerance < self.margin < 1:
            raise ValueError(f"{self.metric}: 0 <= tolerance < margin < 1 must hold")


LIMITS = (
    Limit(metric=Metric.ERRORS, tolerance=0.005, margin=0.05),
    Limit(metric=Metric.INVALID, tolerance=0.005, margin=0.05),
    Limit(metric=Metric.LATENCY, tolerance=0.02, margin=0.10),
    Limit(metric=Metric.FLAGGED, tolerance=0.03, margin=0.15),
    Limit(metric=Metric.DISAGREEMENT, tolerance=0.05, margin=0.20),
    Limit(metric=Metric.WRONG, tolerance=0.005, margin=0.05),
)

STEPS = (
    Step(
        kind=StepKind.SHADOW,
        percent=100.0,
        dwell_s=60.0,
        requests=200,
        prove=(Metric.ERRORS, Metric.INVALID, Metric.FLAGGED, Metric.DISAGREEMENT),
    ),
    Step(  # at once with all that may be risked: evidence comes at the rate at which requests do
        kind=StepKind.CANARY,
        percent=1.0,
        dwell_s=120.0,
        requests=100,
        prove=(Metric.ERRORS, Metric.INVALID, Metric.LATENCY),
    ),
    Step(kind=StepKind.CHAMPION, percent=5.0, dwell_s=600.0, requests=200),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutPolicy:
    """The plan of a roll-out, and what it promises.

    Attributes:
        steps: In order; exactly the last one is CHAMPION.
        limits: One a metric.
        alpha: Chance that a candidate which is no worse (by `tolerance`) is ever rolled back on evidence, all tests
            and looks together.
        beta: Chance that one which is worse by `margin`, in a metric that a step proves, passes that step.
        exposure: Share of all requests since the beginning that the candidate may have answered before its last step.
        disagreement: Share of requests that it may answer otherwise: what the gate saw. None: nothing is expected, and
            disagreement is shown and not tested.
        latency_factor: The budget is this times the champion's 95 % quantile.
        latency_floor_us: ... and at least this.
        fresh_s: Nothing goes forward on evidence that is older.
    """

    steps: tuple[Step, ...] = STEPS
    limits: tuple[Limit, ...] = LIMITS
    alpha: float = 0.01
    beta: float = 0.01
    exposure: float = 0.01
    disagreement: float | None = None
    latency_factor: float = 1.5
    latency_floor_us: float = 2000.0
    fresh_s: float = 2.0
    schema_version: int = field(default=1)

    def __post_init__(self) -> None:
        """Refuse what cannot be followed.

        Raises:
            ValueError: names the field.
        """
        kinds = [step.kind for step in self.steps]
        if not kinds or kinds[-1] is not StepKind.CHAMPION or StepKind.CHAMPION in kinds[:-1]:
            raise ValueError("the last step, and no other, must be of kind 'champion'")
        order = [list(StepKind).index(kind) for kind in kinds]
        if order != sorted(order):
            raise ValueError("steps in the shadow come before those as a canary")
        shares = [step.percent for step in self.steps if step.kind is StepKind.CANARY]
        if shares != sorted(shares):
            raise ValueError("the share of a canary must not shrink from step to step")
        if sorted(limit.metric for limit in self.limits) != sorted(Metric):
            raise ValueError("there must be one limit for each metric")
        for name in ("alpha", "beta", "exposure"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie between 0 and 1")

    def limit(self, metric: Metric) -> Limit:
        """The limit of one metric."""
        return next(limit for limit in self.limits if limit.metric is metric)
