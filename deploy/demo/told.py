"""What the whole story leaves: figures by the second, events, turns of the loop, claims. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from deploy.demo.findings import Claim


class Happened(StrEnum):
    """What kind of thing an event is; decides its place in the time line."""

    WORLD = "world"  # something changed outside: the camera, the trainer
    ALARM = "alarm"
    LABELS = "labels"
    TRIGGER = "trigger"
    TRAINING = "training"
    GATE = "gate"
    ROLLOUT = "rollout"
    PLAN = "plan"  # the traffic plan has a new revision


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened, in seconds since the beginning of the story."""

    at_s: float
    kind: Happened
    text: str
    tone: str = ""  # "", "good", "bad"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A second of traffic.

    Attributes:
        answers: {version: (answered, right)}, by the truth that the clients know.
    """

    at_s: float
    scene: str
    sent: int
    failed: int
    answers: dict[str, tuple[int, int]]
    mean_ms: float | None
    slowest_ms: float


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of the loop, as it ended.

    Attributes:
        stage: See `monitoring.loop.contracts.Stage`.
        fault: What was wrong with the trainer on that day; "" for nothing.
        answered: Requests that the candidate answered before it became champion, or in all if it never did.
        took_s: From the trigger to the end.
    """

    id: str
    version: str
    stage: str
    fault: str
    reason: str
    trigger: str
    began_s: float
    ended_s: float | None
    took_s: float | None
    answered: int
    pages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the stand-in reviewer typed in one chapter."""

    chapter: str
    typed: int
    audits: int
    mistaken: int


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What a shift cost, and what came back. Shares of right answers among everything that was answered."""

    scene: str
    before: float | None
    under: float | None
    after: float | None
    labels: int
    seconds: float | None

    @property
    def share(self) -> float | None:
        """Of the lost accuracy, how much came back; None while something is not known or nothing was lost."""
        if self.before is None or self.under is None or self.after is None or self.before <= self.under:
            return None
        return (self.after - self.under) / (self.before - self.under)


@dataclass(frozen=True, kw_only=True)
class Told:
    """The report of the story."""

    run: str
    started_at: str
    seconds: float
    console: str
    quick: bool
    error_rate: float
    sent: int
    answered: int
    failed: int
    failures: list[str]
    by_client: dict[str, int]
    by_version: dict[str, tuple[int, int]]
    recoveries: list[Recovery]
    labels: list[Labels]
    turns: list[Turn]
    events: list[Event]
    moments: list[Moment]
    accounting: dict[str, object]
    settings: dict[str, object]
    machine: dict[str, object]
    claims: list[Claim] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every claim holds."""
        return all(claim.holds for claim in self.claims)


def accuracy(moments: list[Moment], scene: str, from_s: float, to_s: float) -> float | None:
    """Share of right answers to requests of a scene in a span; None without any."""
    chosen = [m for m in moments if m.scene == scene and from_s <= m.at_s < to_s]
    answered = sum(n for m in chosen for n, _ in m.answers.values())
    return sum(right for m in chosen for _, right in m.answers.values()) / answered if answered else None
