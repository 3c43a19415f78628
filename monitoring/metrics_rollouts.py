"""Where roll-outs stand, as metrics."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.metric_family import Family, Made, make
from monitoring.rollout import rows
from monitoring.rollout.policy import Metric, RolloutState
from monitoring.rollout.readings import readings
from monitoring.store import Store

ENDED = Family(
    name="hardcase_rollouts",
    kind="counter",
    text="Roll-outs that have ended, by how: promoted, rolled_back on evidence or by hand, aborted.",
    labels=("model", "state"),
)
UNDER_WAY = Family(
    name="hardcase_rollout",
    kind="gauge",
    text="1 while a roll-out of the model is in this state: running, or paused by a person or a changed plan.",
    labels=("model", "state"),
)
EXPOSED = Family(
    name="hardcase_rollout_exposed_ratio",
    kind="gauge",
    text="Share of requests that the candidate of the running roll-out answered before its last step.",
    labels=("model",),
)
EVIDENCE = Family(
    name="hardcase_rollout_evidence_ratio",
    kind="gauge",
    text="Evidence against the candidate of the running roll-out, as a share of what takes it back.",
    labels=("model", "metric"),
)
ROLLOUT_FAMILIES = (ENDED, UNDER_WAY, EXPOSED, EVIDENCE)


def rollout_metrics(store: Store, models: Iterable[str]) -> tuple[Made, ...]:
    """Counts of ended ones for every model; of the running ones where they stand."""
    ended, under_way, exposed, evidence = (make(family) for family in ROLLOUT_FAMILIES)
    r = t.rollouts.c
    with store.read() as connection:
        counted = sa.select(r.model, r.state, sa.func.count()).where(r.ended_ns.is_not(None)).group_by(r.model, r.state)
        counts = {(model, state): n for model, state, n in connection.execute(counted)}
        running = {one.model: one for one in rows.running(connection)}
    for model in sorted({*models, *running}):
        for state in RolloutState:
            if state.ended:
                ended.add_metric([model, state.value], counts.get((model, state.value), 0))
            else:
                here = model in running and running[model].state is state
                under_way.add_metric([model, state.value], int(here))
        one = running.get(model)
        exposed.add_metric([model], 0.0 if one is None else one.standing.exposed_share)
        found = {} if one is None else {x.metric: x.worse for x in readings(one.standing, one.policy)}
        for metric in Metric:
            evidence.add_metric([model, metric.value], min(1.0, found.get(metric, 0.0)))
    return ended, under_way, exposed, evidence
