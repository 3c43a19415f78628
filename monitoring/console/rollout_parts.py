"""What the pages about roll-outs are made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.parts import Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutLine:
    """A roll-out in the list."""

    id: str
    model: str
    candidate: str
    champion: str | None
    state: str
    tone: str
    step: str
    reason: str
    began: str
    ended: str | None
    exposed: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStop:
    """A step on the track. `share` of its time and of its requests are done, whichever is less."""

    words: str
    state: str
    state_words: str
    share: float
    asks: str
    began: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Meter:
    """A metric: two rates with their limit on one scale, and the evidence for and against. All in 0..100."""

    metric: str
    words: str
    requests: int
    rate: float | None
    reference: float | None
    rate_at: float
    reference_at: float
    limit_at: float
    scale: float
    limit: float
    against: float
    proved: float
    asked: bool
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """An entry of the log."""

    at: str
    actor: str
    words: str
    tone: str
    revision: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutsPage:
    """All roll-outs; and which versions could be rolled out by hand: "model version"."""

    shell: Shell
    running: tuple[RolloutLine, ...]
    ended: tuple[RolloutLine, ...]
    choices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutPage:
    """One roll-out. `can` are the buttons that make sense now."""

    shell: Shell
    line: RolloutLine
    author: str
    gate: str | None
    training: str | None
    track: tuple[StepStop, ...]
    meters: tuple[Meter, ...]
    paired: bool
    answered: int
    exposed_requests: int
    exposure_limit: float
    exposure_at: float
    after: int
    budget_ms: float | None
    false_rollback: float
    wrong_promotion: float
    asked: str | None
    can: tuple[str, ...]
    log: tuple[LogLine, ...]
