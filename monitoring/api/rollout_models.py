"""What the API asks and answers about roll-outs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from monitoring.api.fields import Answer, Asked, Name, Share, Time

Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)]


class RolloutQuery(Asked):
    """Which roll-outs are listed."""

    model: Name | None = None
    limit: int = Field(50, ge=1, le=500)


class RolloutStart(Asked):
    """Roll a registered version out, by the policy of its model's settings.

    `disagreement`: the share of requests that it is expected to answer otherwise than the champion; where nobody says,
    the settings do.
    """

    model: Name
    version: Name
    disagreement: Share | None = None


class RolloutAsked(Asked):
    """Why."""

    note: Words = ""


class RolloutReading(Answer):
    """What is known of one metric now.

    `against` and `proved` are evidence as a share of what is needed: at 1 the candidate is rolled back, or the metric
    is proved.
    """

    metric: str
    words: str
    requests: int
    rate: float | None
    reference: float | None
    tolerance: float
    margin: float
    against: float
    proved: float
    asked: bool


class RolloutStep(Answer):
    """A step. `state` is `done`, `running`, `waiting`, `stopped` or `left`; `began` is the last time that it did."""

    number: int
    kind: str
    words: str
    percent: float
    state: str
    dwell_s: float
    requests: int
    prove: list[str]
    max_s: float
    began: Time | None


class RolloutLedger(Answer):
    """Requests since the beginning: answered in all, by the candidate before its last step, and in its last step."""

    answered: int
    exposed: int
    exposed_share: Share
    limit: Share
    after: int


class RolloutEvent(Answer):
    """An entry of the log."""

    time: Time
    kind: str
    step: int
    actor: str
    words: str
    revision: int | None


class Rollout(Answer):
    """A roll-out in short. `reason` says why it stands where it stands."""

    id: str
    model: str
    candidate: str
    champion: str | None
    state: str
    step: int
    step_words: str
    reason: str
    author: str
    began: Time
    ended: Time | None
    exposed_share: Share


class RolloutDetail(Rollout):
    """A roll-out with its steps, evidence, ledger and log. `served_s` is the time in the running step."""

    gate: str | None
    training: str | None
    served_s: float
    requests: int
    latency_budget_ms: float | None
    false_rollback: float
    wrong_promotion: float
    steps: list[RolloutStep]
    readings: list[RolloutReading]
    ledger: RolloutLedger
    asked: str | None
    events: list[RolloutEvent]


class Rollouts(Answer):
    """Roll-outs, newest first."""

    rollouts: list[Rollout]
