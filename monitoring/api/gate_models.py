"""What the API asks and answers about gates."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from monitoring.api.fields import Answer, Asked, AskedTime, Name, Share, Time


class GateQuery(Asked):
    """Which gates are listed."""

    model: Name | None = None
    before: AskedTime | None = None
    limit: int = Field(50, ge=1, le=200)


class GatePlanQuery(Asked):
    """Of which model, and how many inputs are assumed to change: exactly one of two versions is right there."""

    model: Name
    changed: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05


class GateSight(Answer):
    """How well a gain is seen with the labels there are; how many would be enough, null: more than anybody has."""

    effect: float
    power: Share
    needed: int | None


class GatePlanned(Answer):
    """What a gate could tell now."""

    model: str
    labels: int
    changed: float
    words: str
    sights: list[GateSight]


class GateCheck(Answer):
    """One question of the gate. Of a budget, `champion` and `candidate` are the cost; else the mean goodness."""

    kind: str
    subject: str
    outcome: str
    words: str
    inputs: int
    gains: int
    losses: int
    champion: float
    candidate: float
    low: float | None
    high: float | None
    p_value: float | None
    power: float | None
    needed: int | None


class GateSetAnswer(Answer):
    """A labelled set, and both versions' metrics on it."""

    name: str
    kind: str
    digest: str
    inputs: int
    unusable: int
    trained_on: int
    used: int
    note: str
    champion: dict[str, float]
    candidate: dict[str, float]


class Gate(Answer):
    """A gate. `report` is `kept` or `erased`; `training` is null where no training asked."""

    id: str
    model: str
    candidate: str
    champion: str
    outcome: str
    words: str
    negative_flips: int
    positive_flips: int
    training: str | None
    report: str
    time: Time
    seconds: float


class GateDetail(Gate):
    """A gate with its checks. `costs` are pairs of champion and candidate."""

    candidate_digest: str
    champion_digest: str
    task: str
    checks: list[GateCheck]
    sets: list[GateSetAnswer]
    costs: dict[str, tuple[float, float]]


class Gates(Answer):
    """Gates, newest first."""

    gates: list[Gate]
