"""The stations of a turn as they are: snapshots, the gate and roll-outs of this monitor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from export.contracts.errors import NotSupported
from monitoring.datasets.build import SnapshotSource, build_snapshot
from monitoring.datasets.recipes import Recipe
from monitoring.loop.contracts import Workshop
from monitoring.loop.machine import RolloutEnd
from monitoring.loop.options import LoopOptions
from monitoring.loop.rows import TurnRow
from monitoring.loop.stations import Built, Judged, Rolled
from monitoring.rollout import rows as rollouts
from monitoring.rollout.policy import RolloutPolicy, RolloutState

_ENDS = {
    RolloutState.PROMOTED: RolloutEnd.PROMOTED,
    RolloutState.ROLLED_BACK: RolloutEnd.ROLLED_BACK,
    RolloutState.ABORTED: RolloutEnd.WITHDRAWN,
}


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """`monitoring.loop.stations.Stations` of a monitor."""

    source: SnapshotSource
    workshop: Workshop
    options: LoopOptions
    rollout_of: Callable[[str], RolloutPolicy] = lambda model: RolloutPolicy()
    clock: Callable[[], float] = time.time

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
        plan = self.workshop.plans.read(turn.model)
        return rollouts.begin(
            connection,
            model=turn.model,
            candidate=turn.version,
            champion=None if plan is None else plan.champion,
            gate_id=turn.gate_id or None,
            training_id=turn.id,
            policy=self.rollout_of(turn.model),
            author=turn.actor,
            now_ns=now_ns,
        )

    def rolled(self, connection: sa.Connection, turn: TurnRow) -> Rolled | None:
        """How the roll-out ended; None before."""
        found = rollouts.look(connection, turn.rollout_id)
        return Rolled(end=_ENDS[found.state], words=found.reason) if found.ended else None

    def withdraw(self, turn: TurnRow) -> None:
        """End the roll-out of a turn, if there is one."""
        if not turn.rollout_id:
            return
        with self.source.store.write() as connection:
            if rollouts.look(connection, turn.rollout_id).ended:
                return
            said = turn.cancel_reason or "the training was ended"
            who, now_ns = turn.cancel_by or turn.actor, int(self.clock() * 1e9)
            rollouts.ask(connection, turn.rollout_id, rollouts.Ask.ABORT, actor=who, note_text=said, now_ns=now_ns)
