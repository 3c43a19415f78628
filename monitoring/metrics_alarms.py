"""Where the alarms of each model stand, as metrics: what Prometheus pages on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.alarms.queries import waiting_labels, watches
from monitoring.alarms.watch import Promise, Watch, threshold
from monitoring.metric_family import Family, Made, make
from monitoring.options import AlarmOptions
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
EVIDENCE = Family(
    name="hardcase_alarm_evidence",
    kind="gauge",
    text="Evidence that the error rate of audited answers is above its limit; the alarm fires at the threshold.",
    labels=("model", "promise"),
)
THRESHOLD = Family(
    name="hardcase_alarm_threshold",
    kind="gauge",
    text="Evidence at which the alarm of a promise fires.",
    labels=("model", "promise"),
)
LABELS = Family(
    name="hardcase_audit_labels",
    kind="gauge",
    text="Labels of random audits over a model's life: counted in the evidence, waiting for it, set aside.",
    labels=("model", "use"),
)
ALARM_FAMILIES = (ALARM, SILENCED, EVIDENCE, THRESHOLD, LABELS)


def alarm_metrics(
    store: Store,
    models: Iterable[str],
    wall: Callable[[], float] = time.time,
    options: AlarmOptions | None = None,
) -> tuple[Made, ...]:
    """All families, for every model that was seen and both promises; evidence for those that have a label."""
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
    return alarms, silenced, *_evidence(store, models, options or AlarmOptions())


def _evidence(store: Store, models: Iterable[str], options: AlarmOptions) -> tuple[Made, Made, Made]:
    evidence, thresholds, labels = make(EVIDENCE), make(THRESHOLD), make(LABELS)
    waiting, watched = waiting_labels(store), {watch.model: watch for watch in watches(store)}
    for model in sorted({*models, *waiting, *watched}):
        watch = watched.get(model, Watch(model=model))
        for promise in Promise:
            if model in watched:
                evidence.add_metric([model, promise.value], watch.line(promise).level)
            thresholds.add_metric([model, promise.value], threshold(promise, options))
        counts = {"counted": watch.labels, "waiting": waiting.get(model, 0), "set_aside": watch.set_aside}
        for use, count in counts.items():
            labels.add_metric([model, use], count)
    return evidence, thresholds, labels
