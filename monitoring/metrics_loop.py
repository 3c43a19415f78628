"""The loop as metrics: turns by how they ended, where the running one stands, what the policies decided."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.loop.contracts import Stage
from monitoring.metric_family import Family, Made, make
from monitoring.store import Store
from monitoring.triggers.contracts import Decision

TURNS = Family(
    name="hardcase_trainings",
    kind="counter",
    text="Turns of the loop that have ended, by how: promoted, rejected by the gate, rolled back, failed, cancelled.",
    labels=("model", "outcome"),
)
STAGE = Family(
    name="hardcase_training_stage",
    kind="gauge",
    text="1 for the stage at which a model's running turn of the loop stands, 0 for the others.",
    labels=("model", "stage"),
)
PROGRESS = Family(
    name="hardcase_training_progress_ratio",
    kind="gauge",
    text="How far the running training is, as its trainer says; no value where it says nothing.",
    labels=("model",),
)
DECISIONS = Family(
    name="hardcase_trigger_decisions",
    kind="counter",
    text="Looks of the trigger policies, by what they decided.",
    labels=("model", "decision"),
)
LOOP_FAMILIES = (TURNS, STAGE, PROGRESS, DECISIONS)


def loop_metrics(store: Store, models: Iterable[str]) -> tuple[Made, ...]:
    """Of every model."""
    turns, stage, progress, decisions = (make(family) for family in LOOP_FAMILIES)
    c, d = t.trainings.c, t.trigger_decisions.c
    with store.read() as connection:
        ended = dict(
            ((model, outcome), n)
            for model, outcome, n in connection.execute(
                sa.select(c.model, c.stage, sa.func.count()).where(c.flight.is_(None)).group_by(c.model, c.stage)
            )
        )
        running = {
            row.model: row
            for row in connection.execute(sa.select(c.model, c.stage, c.step, c.steps).where(c.flight.is_not(None)))
        }
        looks = {
            (model, decision): n
            for model, decision, n in connection.execute(
                sa.select(d.model, d.decision, sa.func.sum(d.looks)).group_by(d.model, d.decision)
            )
        }
    for model in sorted({*models, *running, *(name for name, _ in (*ended, *looks))}):
        now = running.get(model)
        for one in Stage:
            if one.ended:
                turns.add_metric([model, one.value], ended.get((model, one.value), 0))
            else:
                stage.add_metric([model, one.value], float(now is not None and now.stage == one.value))
        if now is not None and now.step is not None and now.steps:
            progress.add_metric([model], now.step / now.steps)
        for decision in Decision:
            decisions.add_metric([model, decision.value], float(looks.get((model, decision.value), 0)))
    return turns, stage, progress, decisions
