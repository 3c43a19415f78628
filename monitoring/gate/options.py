"""Settings of the gate. `deploy.settings_gate` builds them; nothing here reads a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from monitoring.gate.contracts import GatePolicy, SetKind
from monitoring.gate.job import GateBudgets


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnSet:
    """A labelled snapshot folder that every candidate of a model is tried on.

    Attributes:
        folder: Absolute.
    """

    model: str
    name: str
    folder: str
    kind: SetKind = SetKind.OWN


@dataclass(frozen=True, kw_only=True, slots=True)
class GateOptions:
    """How candidates are judged.

    Attributes:
        audited_s: Audited inputs of the last so many seconds are asked "better", counted back from the newest record.
        audited_inputs: ... the newest so many of them at most.
        own: Sets of the model's owner.
        batch_rows: See `monitoring.gate.job.GateRequest`, as the next three.
    """

    policy: GatePolicy = field(default_factory=GatePolicy)
    budgets: GateBudgets = field(default_factory=GateBudgets)
    audited_s: float = 30 * 86_400.0
    audited_inputs: int = 20_000
    own: Sequence[OwnSet] = ()
    batch_rows: int = 64
    silence_s: float = 300.0
    report_rows: int = 1000
    ray: str | None = None
