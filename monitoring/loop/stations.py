"""What the driver works with besides jobs and packages: snapshots, the gate's papers, roll-outs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from monitoring.gate.contracts import Outcome
from monitoring.loop.machine import RolloutEnd
from monitoring.loop.rows import TurnRow


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A snapshot that was made. `rows` of all splits."""

    id: str
    digest: str
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What the gate said, and where that is written down."""

    gate_id: str
    outcome: Outcome
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rolled:
    """How a roll-out ended, and why."""

    end: RolloutEnd
    words: str


class Stations(Protocol):
    """The stations of a turn inside the monitor. Errors that end a turn are `HardcaseError`, fit for people."""

    def build(self, turn: TurnRow, now_ns: int) -> Built:
        """Make the snapshot that this turn's recipe asks for."""
        ...

    def gate_request(self, turn: TurnRow, champion: Path, candidate: Path, output: Path) -> Path:
        """Write the labelled sets and the gate's request; returns the request file. Done again: the same."""
        ...

    def record(self, connection: sa.Connection, turn: TurnRow, output: Path, now_ns: int) -> Judged:
        """Write down what the gate's job left."""
        ...

    def judged(self, connection: sa.Connection, turn: TurnRow) -> Judged | None:
        """What is written down."""
        ...

    def roll_out(self, connection: sa.Connection, turn: TurnRow, now_ns: int) -> str:
        """Begin a roll-out; returns its id.

        Raises:
            Conflict: another one of this model is under way: later.
        """
        ...

    def rolled(self, connection: sa.Connection, turn: TurnRow) -> Rolled | None:
        """How the roll-out ended; None before."""
        ...

    def withdraw(self, turn: TurnRow) -> None:
        """End the roll-out of a turn, if there is one. Idempotent."""
        ...
