"""Gates as the API and the console show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.contracts.errors import NotFound
from monitoring.api import fields
from monitoring.api import gate_models as m
from monitoring.gate.job import REPORT_FILE
from monitoring.gate.options import GateOptions
from monitoring.gate.plan import plan_gate
from monitoring.gate.rows import GateRow, ReportState, audited_labels, newest, one_gate
from monitoring.store import Store


@dataclass(frozen=True, kw_only=True)
class GateDesk:
    """What is known of gates.

    Attributes:
        folder: State of the loop, below which gates leave their files; None: there is no loop.
    """

    store: Store
    folder: Path | None
    options: GateOptions = field(default_factory=GateOptions)

    def list(self, query: m.GateQuery) -> list[m.Gate]:
        """Newest first."""
        before = None if query.before is None else fields.to_ns(query.before)
        return [m.Gate(**_short(row)) for row in newest(self.store, query.model, before, query.limit)]

    def row(self, gate: str) -> GateRow:
        """One.

        Raises:
            NotFound: there is none.
        """
        return one_gate(self.store, gate)

    def show(self, gate: str) -> m.GateDetail:
        """One, with everything but its inputs.

        Raises:
            NotFound: there is none.
        """
        return _detail(self.row(gate))

    def document(self, gate: str, name: str = REPORT_FILE) -> bytes:
        """A file that the gate left.

        Raises:
            NotFound: there is no such gate, or its files are gone.
        """
        row = self.row(gate)
        if row.report is not ReportState.KEPT:
            raise NotFound("the report of this gate held data that were erased")
        if self.folder is None or not row.training_id:
            raise NotFound("the report of this gate is not kept here")
        try:
            return (self.folder / "trainings" / row.training_id / "gate" / name).read_bytes()
        except OSError:
            raise NotFound("the report of this gate is gone") from None

    def plan(self, query: m.GatePlanQuery, champion_snapshot: str | None = None) -> m.GatePlanned:
        """What the labels there are can tell.

        Args:
            query: Of which model.
            champion_snapshot: Id of the snapshot that the champion was trained on: its rows count for nothing.
        """
        labels = audited_labels(self.store, query.model, self.options, champion_snapshot)
        plan = plan_gate(labels, self.options.policy, query.changed)
        return m.GatePlanned(
            model=query.model,
            labels=labels,
            changed=plan.changed,
            words=plan.words,
            sights=[m.GateSight(effect=s.effect, power=s.power, needed=s.needed) for s in plan.sights],
        )


def _short(row: GateRow) -> dict[str, Any]:
    same = ("id", "model", "candidate", "champion", "words", "negative_flips", "positive_flips", "seconds")
    return {name: getattr(row, name) for name in same} | {
        "outcome": row.outcome.value,
        "training": row.training_id or None,
        "report": row.report.value,
        "time": fields.from_ns(row.created_ns),
    }


def _detail(row: GateRow) -> m.GateDetail:
    result = row.result
    same = ("subject", "words", "gains", "losses", "champion", "candidate", "low", "high", "p_value", "power", "needed")
    checks = [
        m.GateCheck(kind=c.kind.value, outcome=c.outcome.value, inputs=c.n, **{name: getattr(c, name) for name in same})
        for c in result.checks
    ]
    named = ("name", "digest", "inputs", "unusable", "trained_on", "used", "note", "champion", "candidate")
    sets = [m.GateSetAnswer(kind=s.kind.value, **{name: getattr(s, name) for name in named}) for s in result.sets]
    return m.GateDetail(
        **_short(row),
        candidate_digest=row.candidate_digest,
        champion_digest=row.champion_digest,
        task=result.task,
        checks=checks,
        sets=sets,
        costs=result.costs,
    )
