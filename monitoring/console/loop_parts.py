"""What the pages about the loop are made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.parts import Fact, Panel, Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class Station:
    """A station of the loop, for one turn or for the models that stand there.

    Attributes:
        state: "done", "now", "ended" (here it ended without a promotion), "" (not reached).
        x: Of its middle in the picture, y likewise, in the units of its view box.
        name_x: Where its name stands, from there; name_y and anchor likewise.
        path: From this station to the next one, in the same units.
    """

    key: str
    name: str
    hint: str
    state: str
    x: float
    y: float
    name_x: float
    name_y: float
    anchor: str
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnLine:
    """A turn in a list. `tone` is that of its end."""

    id: str
    number: int
    model: str
    version: str
    stage: str
    tone: str
    at: str
    took: str
    actor: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReasonLine:
    """A condition or a guard: whether it speaks for a training."""

    name: str
    holds: bool
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopCard:
    """A model in the loop.

    Attributes:
        stations: With where its running turn stands; where nothing runs, with how the last one ended.
        center: What stands in the middle of the picture, and under it.
        share: Of the running job; None where nobody says.
    """

    model: str
    champion: str
    trainer: str
    stations: tuple[Station, ...]
    center: str
    under: str
    tone: str
    turn: str
    asks: bool
    running: bool
    note: str
    share: float | None
    verdict: str
    decision: str
    reasons: tuple[ReasonLine, ...]
    turns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionLine:
    """A decision of a policy."""

    model: str
    at: str
    last_at: str
    looks: int
    decision: str
    tone: str
    words: str
    turn: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopPage:
    """The loop of every model."""

    shell: Shell
    active: bool
    live: bool
    cards: tuple[LoopCard, ...]
    turns: tuple[TurnLine, ...]
    decisions: tuple[DecisionLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoryLine:
    """Something that happened in a turn."""

    at: str
    what: str
    text: str
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnPage:
    """One turn."""

    shell: Shell
    live: bool
    turn: TurnLine
    stations: tuple[Station, ...]
    center: str
    under: str
    tone: str
    asks: bool
    running: bool
    note: str
    share: float | None
    progress: str
    facts: tuple[Fact, ...]
    metrics: tuple[Fact, ...]
    curves: tuple[Panel, ...]
    verdict: str
    reasons: tuple[ReasonLine, ...]
    story: tuple[StoryLine, ...]
    gate: str
    gate_words: str
    rollout: str
    log: str
    gate_log: str
