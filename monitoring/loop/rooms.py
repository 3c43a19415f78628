"""The stations of a turn as they are: snapshots, the gate and roll-outs of this monitor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from export.contracts import codec
from export.contracts.errors import PackageError
from export.contracts.manifest import MANIFEST_FILE, Manifest
from monitoring.datasets.build import SnapshotSource, build_snapshot
from monitoring.datasets.recipes import Recipe
from monitoring.gate import rows as gates
from monitoring.gate.job import GateRequest, read_result
from monitoring.gate.options import GateOptions
from monitoring.gate.rows import record_gate
from monitoring.gate.sets import write_gate_sets
from monitoring.loop.contracts import Workshop
from monitoring.loop.machine import RolloutEnd
from monitoring.loop.options import LoopOptions
from monitoring.loop.rows import TurnRow
from monitoring.loop.stations import Built, Judged, Rolled
from monitoring.rollout import rows as rollouts
from monitoring.rollout.policy import RolloutPolicy, RolloutState

logger = logging.getLogger(__name__)

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
    gate: GateOptions = field(default_factory=GateOptions)
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
        options = self.gate
        sets = write_gate_sets(
            self.source,
            _manifest(champion),
            _manifest(candidate),
            options=options,
            datasets=self.workshop.datasets,
            root=output.parent / "sets",
        )
        request = GateRequest(
            id=turn.gate_job,
            model=turn.model,
            champion=str(champion.resolve()),
            candidate=str(candidate.resolve()),
            output=str(output.resolve()),
            sets=sets.sets,
            policy=options.policy,
            budgets=options.budgets,
            trained_on=sets.trained_on,
            slice_names=sets.slice_names,
            training_id=turn.id,
            batch_rows=options.batch_rows,
            silence_s=options.silence_s,
            report_rows=options.report_rows,
            ray=options.ray,
        )
        return request.write(output.parent / "gate-request")

    def record(self, connection: sa.Connection, turn: TurnRow, output: Path, now_ns: int) -> Judged:
        """Write down what the gate's job left."""
        try:
            result = read_result(output)
        except (OSError, ValueError) as error:
            logger.error("the verdict of gate %s cannot be read: %s", turn.gate_job, error)
            raise PackageError("the gate left no verdict that can be read") from None
        identity = record_gate(connection, result, now_ns=now_ns)
        return Judged(gate_id=identity, outcome=result.outcome, words=result.words)

    def judged(self, connection: sa.Connection, turn: TurnRow) -> Judged | None:
        """What is written down."""
        row = gates.look(connection, turn.gate_id)
        return None if row is None else Judged(gate_id=row.id, outcome=row.outcome, words=row.words)

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


def _manifest(package: Path) -> Manifest:
    """Of a package folder.

    Raises:
        PackageError: it cannot be read.
    """
    try:
        return codec.loads(Manifest, (package / MANIFEST_FILE).read_bytes())
    except (OSError, ValueError):
        raise PackageError("the manifest of a registered version cannot be read") from None
