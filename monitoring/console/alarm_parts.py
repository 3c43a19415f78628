"""What the Alarms pages are made of. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PromiseLine:
    """One promise of a watched model. `way` is how far the evidence has come, 0..1 on a logarithmic scale."""

    promise: str
    name: str
    says: str
    state: str
    tone: str
    limit: float
    evidence: float
    threshold: float
    way: float
    silenced: bool
    href: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchCard:
    """A watched model."""

    model: str
    version: str | None
    tolerance: float | None
    tolerance_source: str | None
    labels: int
    waiting: int
    errors: float
    rate: float | None
    problem: str | None
    promises: tuple[PromiseLine, ...]
    harm: str
    harm_tone: str
    harm_text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmLine:
    """An alarm in a list."""

    id: str
    model: str
    version: str
    name: str
    says: str
    state: str
    tone: str
    limit: float
    estimate: float | None
    low: float | None
    high: float | None
    labels: int
    errors: float
    fired_at: str
    resolved_at: str | None
    silenced: bool
    failing_inputs: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SilenceLine:
    """A silence."""

    id: int
    model: str
    name: str
    start: str
    until: str
    author: str
    reason: str
    holds: bool
    ended_at: str | None
    ended_by: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryLine:
    """A change of an alarm."""

    at: str
    state: str
    tone: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MovedLine:
    """A signal beside an alarm."""

    kind: str
    method: str
    subject: str
    value: float
    threshold: float
    ratio: float
    detail: str | None
