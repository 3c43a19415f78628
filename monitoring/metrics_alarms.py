"""Where the alarms of each model stand, as metrics: what Prometheus pages on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.metric_family import Family, Made, make
from monitoring.store import Store

PROMISES = ("lifetime", "run_length")
STATES = ("quiet", "firing", "recovering")
OPEN = ("firing", "recovering")
ALARM = Family(
    name="hardcase_alarm",
    kind="gauge",
    text="1 for the state that a model's alarm of a promise is in: quiet, firing, or recovering, which is still open.",
    labels=("model", "promise", "state"),
)
SILENCED = Family(
    name="hardcase_alarm_silenced",
    kind="gauge",
    text="1 while somebody has silenced a model's alarm of a promise.",
    labels=("model", "promise"),
)
ALARM_FAMILIES = (ALARM, SILENCED)


def alarm_metrics(store: Store, models: Iterable[str], wall: Callable[[], float] = time.time) -> tuple[Made, Made]:
    """Both families, for every model that was seen and both promises."""
    now_ns = int(wall() * 1e9)
    a, s = t.alarms.c, t.silences.c
    with store.read() as connection:
        rows = connection.execute(sa.select(a.model, a.promise, a.state).where(a.state.in_(OPEN)))
        standing = {(row.model, row.promise): row.state for row in rows}
        running = sa.and_(s.from_ns <= now_ns, sa.func.coalesce(s.ended_ns, s.until_ns) > now_ns)
        silences = connection.execute(sa.select(s.model, s.promise).where(running)).all()
    quiet = {(row.model, promise) for row in silences for promise in PROMISES if row.promise in (None, promise)}
    alarms, silenced = make(ALARM), make(SILENCED)
    for model in sorted(models):
        for promise in PROMISES:
            found = standing.get((model, promise), "quiet")
            for state in STATES:
                alarms.add_metric([model, promise, state], state == found)
            silenced.add_metric([model, promise], (model, promise) in quiet)
    return alarms, silenced
