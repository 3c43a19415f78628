"""What the pages about gates are made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.parts import Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class GateLine:
    """A gate in the list. `training` is None where no training asked."""

    id: str
    model: str
    candidate: str
    champion: str
    outcome: str
    tone: str
    words: str
    gained: int
    lost: int
    training: str | None
    at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnInterval:
    """A difference with its interval, in a box 200 wide with zero in the middle. `margin`: what may be lost."""

    low: float
    mark: float
    high: float
    margin: float | None
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GateCheckLine:
    """A check. `interval` is None where there is nothing to draw."""

    kind: str
    subject: str
    outcome: str
    tone: str
    words: str
    inputs: int
    interval: DrawnInterval | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GateSetLine:
    """A labelled set."""

    name: str
    kind: str
    inputs: int
    trained_on: int
    unusable: int
    used: int
    note: str
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GateCost:
    """A cost of both versions."""

    name: str
    champion: float
    candidate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GatesPage:
    """All gates."""

    shell: Shell
    gates: tuple[GateLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GatePage:
    """One gate: what was asked and how it came out. The inputs are in its report."""

    shell: Shell
    line: GateLine
    report: bool
    seconds: float
    checks: tuple[GateCheckLine, ...]
    slices: tuple[GateCheckLine, ...]
    slices_tested: int
    sets: tuple[GateSetLine, ...]
    costs: tuple[GateCost, ...]
    candidate_digest: str
    champion_digest: str
