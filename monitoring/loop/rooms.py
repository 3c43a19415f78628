"""The stations of a turn as they are: snapshots, the gate and roll-outs of this monitor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from export.contracts.errors import NotSupported
from monitoring.datasets.build import SnapshotSource, build_snapshot
from monitoring.datasets.recipes import Recipe
from monitoring.loop.contracts import Workshop
from monitoring.loop.options import LoopOptions
from monitoring.loop.rows import TurnRow
from monitoring.loop.stations import Built, Judged, Rolled


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """`monitoring.loop.stations.Stations` of a monitor."""

    source: SnapshotSource
    workshop: Workshop
    options: LoopOptions

    def build(self, turn: TurnRow, now_ns: int) -> Built:
        """Make the snapshot that this turn's recipe asks for."""
        made = build_snapshot(
            self.source,
            turn.model,
            Recipe.from_plain(turn.recipe),
            actor=turn.actor,
            root=self.workshop.datasets,
            now_ns=now_ns,
        )
        return Built(id=made.id, digest=made.digest, rows=made.rows)

    def gate_request(self, turn: TurnRow, champion: Path, candidate: Path, output: Path) -> Path:
        """Write the labelled sets and the gate's request."""
        raise NotSupported("the gate is not there yet")

    def record(self, connection: sa.Connection, turn: TurnRow, output: Path, now_ns: int) -> Judged:
        """Write down what the gate's job left."""
        raise NotSupported("the gate is not there yet")

    def judged(self, connection: sa.Connection, turn: TurnRow) -> Judged | None:
        """What is written down."""
        return None

    def roll_out(self, connection: sa.Connection, turn: TurnRow, now_ns: int) -> str:
        """Begin a roll-out."""
        raise NotSupported("roll-outs are not there yet")

    def rolled(self, connection: sa.Connection, turn: TurnRow) -> Rolled | None:
        """How the roll-out ended; None before."""
        return None

    def withdraw(self, turn: TurnRow) -> None:
        """End the roll-out of a turn, if there is one."""
