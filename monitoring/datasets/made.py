"""How a version came about and what became of it: its turn of the loop, its gate, its roll-out, its place in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from monitoring import schema as t


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What is known beside the registry. Everything is "" where there is none.

    Attributes:
        training: Id of the turn of the loop that made it, or took it in.
        stage: Of that turn.
        gate: Id of the newest gate that it was held against.
        gate_outcome: Of that gate.
        rollout: Id of its newest roll-out.
        rollout_state: Of that roll-out.
        name: Of the registered model in MLflow.
        number: Of the version there.
        experiment: In MLflow, as it numbers it; "" where only the run is known.
        run: In MLflow.
    """

    training: str = ""
    stage: str = ""
    gate: str = ""
    gate_outcome: str = ""
    rollout: str = ""
    rollout_state: str = ""
    name: str = ""
    number: str = ""
    experiment: str = ""
    run: str = ""


def made_of(connection: sa.Connection, model: str, versions: Sequence[str]) -> dict[str, Made]:
    """{version: what is known} of those versions of a model of which anything is."""
    if not versions:
        return {}
    found: dict[str, dict[str, str]] = {}
    c = t.trainings.c
    turns = sa.select(c.version, c.id, c.stage).where(c.model == model, c.version.in_(versions), c.digest != "")
    for version, training, stage in connection.execute(turns.order_by(c.number)):
        found.setdefault(version, {}).update(training=training, stage=stage)
    g = t.gates.c
    gates = sa.select(g.candidate, g.id, g.outcome).where(g.model == model, g.candidate.in_(versions))
    for version, gate, outcome in connection.execute(gates.order_by(g.created_ns, g.id)):
        found.setdefault(version, {}).update(gate=gate, gate_outcome=outcome)
    r = t.rollouts.c
    rolled = sa.select(r.candidate, r.id, r.state).where(r.model == model, r.candidate.in_(versions))
    for version, rollout, state in connection.execute(rolled.order_by(r.created_ns, r.id)):
        found.setdefault(version, {}).update(rollout=rollout, rollout_state=state)
    v = t.experiment_versions.c
    there = sa.select(v.version, v.name, v.number, v.run).where(v.model == model, v.version.in_(versions))
    for version, name, number, run in connection.execute(there):
        found.setdefault(version, {}).update(name=name, number=number, run=run)
    _runs(connection, found)
    return {version: Made(**known) for version, known in found.items()}


def _runs(connection: sa.Connection, found: dict[str, dict[str, str]]) -> None:
    """The run of the turn of the loop, which has the metrics; of a version from elsewhere that is another one."""
    of = {known["training"]: known for known in found.values() if "training" in known}
    e = t.experiment_runs.c
    query = sa.select(e.training_id, e.experiment, e.run).where(e.training_id.in_(list(of)))
    for training, experiment, run in connection.execute(query):
        of[training].update(experiment=experiment, run=run)
