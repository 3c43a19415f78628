"""The monitor's metrics: a table, filled from the loop's progress and the database when Prometheus asks.

Labels come from closed sets: models and versions that were recorded (for signals the latest `MAX_VERSIONS`), enums, and
the subjects of signals, whose number a version's signature bounds. No label holds request data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.samples import Exemplar

from export.contracts.cases import FlagReason
from monitoring.cycle import Loop
from monitoring.drift import Scope
from monitoring.flags import FLAG_BITS
from monitoring.metric_family import Family
from monitoring.metric_family import make as _family
from monitoring.metrics_accuracy import ACCURACY_FAMILIES, accuracies
from monitoring.metrics_alarms import ALARM_FAMILIES, alarm_metrics
from monitoring.metrics_loop import LOOP_FAMILIES, loop_metrics
from monitoring.metrics_notify import OUTSIDE_FAMILIES, outside_metrics
from monitoring.metrics_reports import REPORT_FAMILIES, report_metrics
from monitoring.metrics_review import REVIEW_FAMILIES, review_metrics
from monitoring.metrics_rollouts import ROLLOUT_FAMILIES, rollout_metrics
from monitoring.metrics_slices import SLICE_FAMILIES, slice_metrics
from monitoring.metrics_tasks import TASK_FAMILIES, task_metrics
from monitoring.progress import Progress
from monitoring.review.counts import Counts
from monitoring.rows import AccountingRow, VersionRow
from monitoring.store import Store

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_VERSIONS = 20
MAX_EXEMPLAR = 128 - len("record_id")  # characters of an exemplar's label (OpenMetrics 1.0)


PROGRESS: tuple[tuple[Family, Callable[[Progress], float]], ...] = (
    (
        Family(name="hardcase_monitor_records_ingested", kind="counter", text="Records consumed since the start."),
        lambda p: p.records,
    ),
    (
        Family(name="hardcase_monitor_frames_ingested", kind="counter", text="Log frames consumed since the start."),
        lambda p: p.frames,
    ),
    (
        Family(name="hardcase_monitor_cycles", kind="counter", text="Cycles of the monitor's loop since the start."),
        lambda p: p.cycles,
    ),
    (
        Family(name="hardcase_monitor_cycle_errors", kind="counter", text="Cycles that failed and were tried again."),
        lambda p: p.errors,
    ),
    (
        Family(name="hardcase_monitor_cycle_seconds", kind="gauge", text="Duration of the last cycle."),
        lambda p: p.cycle_s,
    ),
    (
        Family(
            name="hardcase_monitor_lag_seconds",
            kind="gauge",
            text="Age of the newest consumed record while more records wait, else 0.",
        ),
        lambda p: p.lag_s,
    ),
    (
        Family(name="hardcase_monitor_lag_bytes", kind="gauge", text="Bytes of the record log that wait."),
        lambda p: p.lag_bytes,
    ),
    (
        Family(
            name="hardcase_monitor_signals_due",
            kind="gauge",
            text="Changed windows whose drift signals are not computed.",
        ),
        lambda p: p.signals_due,
    ),
    (
        Family(
            name="hardcase_monitor_estimates_due",
            kind="gauge",
            text="Changed windows whose accuracy estimates are not made.",
        ),
        lambda p: p.estimates_due,
    ),
    (
        Family(name="hardcase_monitor_log_damages", kind="gauge", text="Places in the record log that do not verify."),
        lambda p: p.damages,
    ),
)
DUTY_ERRORS = Family(
    name="hardcase_monitor_duty_errors",
    kind="counter",
    text="Turns of a periodic duty that failed and were left for the next one.",
    labels=("duty",),
)
DUTY_SECONDS = Family(
    name="hardcase_monitor_duty_seconds", kind="gauge", text="Duration of a duty's last turn.", labels=("duty",)
)
DUTY_FAILING = Family(
    name="hardcase_monitor_duty_failing", kind="gauge", text="1 when a duty's last turn failed.", labels=("duty",)
)
FLAGGED = Family(
    name="hardcase_monitor_flagged_records",
    kind="counter",
    text="Records flagged by scores or rules since the start; one with two reasons counts under both.",
    labels=("model", "version", "reason"),
)
HEARTBEAT = Family(
    name="hardcase_monitor_heartbeat_age_seconds", kind="gauge", text="Time since the end of the last cycle."
)
DEAD_LETTERS = Family(
    name="hardcase_monitor_dead_letters",
    kind="gauge",
    text="Records or frames kept aside because they could not be read.",
    labels=("reason",),
)
ACCOUNT = Family(
    name="hardcase_records",
    kind="gauge",
    text="Where requests went, summed over the known logs: requests is the sum of the others.",
    labels=("model", "version", "account"),
)
CASES = Family(
    name="hardcase_cases",
    kind="gauge",
    text="Failure cases by state and reason; a case with two reasons counts under both.",
    labels=("model", "version", "state", "reason"),
)
SIGNAL = Family(
    name="hardcase_drift_signal",
    kind="gauge",
    text="Distance from the reference over the rolling scope; signals are drawn, they never page.",
    labels=("model", "version", "kind", "method", "subject"),
)
SIGNAL_THRESHOLD = Family(
    name="hardcase_drift_signal_threshold",
    kind="gauge",
    text="Value above which the distance is more than chance and the floor explain.",
    labels=("model", "version", "kind", "method", "subject"),
)
FAMILIES = (
    *(family for family, _ in PROGRESS),
    DUTY_ERRORS,
    DUTY_SECONDS,
    DUTY_FAILING,
    FLAGGED,
    HEARTBEAT,
    DEAD_LETTERS,
    ACCOUNT,
    CASES,
    SIGNAL,
    SIGNAL_THRESHOLD,
    *ACCURACY_FAMILIES,
    *TASK_FAMILIES,
    *ALARM_FAMILIES,
    *SLICE_FAMILIES,
    *REPORT_FAMILIES,
    *REVIEW_FAMILIES,
    *ROLLOUT_FAMILIES,
    *OUTSIDE_FAMILIES,
    *LOOP_FAMILIES,
)


class MonitorCollector:
    """Registers with a `prometheus_client.CollectorRegistry`.

    Args:
        loop: Whose progress is shown; None shows the database only.
        counts: What reviewers did through this process; None leaves that out.
    """

    def __init__(self, store: Store, loop: Loop | None, counts: Counts | None = None) -> None:
        self._store = store
        self._loop = loop
        self._counts = counts
        self._unreadable: set[str] = set()

    def describe(self) -> Iterable[Metric]:
        """Names without values, so that registering asks the database nothing."""
        return [_family(family) for family in FAMILIES]

    def collect(self) -> Iterator[Metric]:
        """All metrics, now. A table that cannot be read costs its own metrics only: the others say what is wrong."""
        if self._loop is not None:
            yield from _progress(self._loop)
        store, part, loop = self._store, self._part, self._loop
        yield from part("dead letters", lambda: [self._dead_letters()])
        yield from part("accounts", lambda: [_accounts(store.accounting())])
        yield from part("cases", lambda: [self._cases()])
        versions = part("versions", self._newest)
        models = {v.model for v in versions}
        alarms = None if loop is None else loop.options.alarms
        yield from part("signals", lambda: self._signals(versions))
        yield from part("reports", lambda: report_metrics(store, versions))
        yield from part("accuracy", lambda: accuracies(store, versions))
        yield from part("tasks", lambda: task_metrics(store))
        yield from part("slices", lambda: slice_metrics(store, models))
        yield from part("alarms", lambda: alarm_metrics(store, models, options=alarms))
        yield from part("roll-outs", lambda: rollout_metrics(store, models))
        yield from part("review", lambda: review_metrics(store, self._counts))
        yield from part("loop", lambda: loop_metrics(store, models))
        if loop is not None:
            yield from part("tools and notices", lambda: outside_metrics(store, loop.options))

    def _part(self, name: str, read: Callable[[], Iterable[T]]) -> list[T]:
        """What one part reads, all of it or nothing."""
        try:
            found = list(read())
        except sa.exc.SQLAlchemyError:
            if name not in self._unreadable:  # told once, not at every scrape
                logger.exception("the metrics of %s cannot be read", name)
            self._unreadable.add(name)
            return []
        self._unreadable.discard(name)
        return found

    def _newest(self) -> list[VersionRow]:
        named = (v for v in self._store.versions() if v.model)  # the nameless one holds requests for unknown models
        return sorted(named, key=lambda v: v.last_ns, reverse=True)[:MAX_VERSIONS]

    def _dead_letters(self) -> Metric:
        dead = _family(DEAD_LETTERS)
        for reason, count in sorted(self._store.dead_letter_counts().items()):
            dead.add_metric([reason], count)
        return dead

    def _cases(self) -> Metric:
        family = _family(CASES)
        counts: dict[tuple[str, str, str, str], int] = {}
        for model, version, state, flags, count in self._store.case_counts():
            for reason in FlagReason:
                if flags & FLAG_BITS[reason]:
                    key = (model, version, state, reason.value)
                    counts[key] = counts.get(key, 0) + count
        for key, count in sorted(counts.items()):
            family.add_metric(list(key), count)
        return family

    def _signals(self, versions: list[VersionRow]) -> Iterator[Metric]:
        values, thresholds = _family(SIGNAL), _family(SIGNAL_THRESHOLD)
        for v in versions:
            for s in self._store.latest_signals(v.model, v.version, Scope.ROLLING.value):
                labels = [v.model, v.version, s.kind, s.method, s.subject]
                if s.value is not None and s.threshold is not None:
                    values.add_metric(labels, s.value)
                    thresholds.add_metric(labels, s.threshold)
        yield values
        yield thresholds


def _progress(loop: Loop) -> Iterator[Metric]:
    for family, value in PROGRESS:
        made = _family(family)
        made.add_metric([], value(loop.progress))
        yield made
    errors, seconds, failing = _family(DUTY_ERRORS), _family(DUTY_SECONDS), _family(DUTY_FAILING)
    for name, state in loop.roster.states.items():
        errors.add_metric([name], state.errors)
        seconds.add_metric([name], state.seconds)
        failing.add_metric([name], state.failing)
    yield from (errors, seconds, failing, _flagged(loop))
    if loop.progress.heartbeat is not None:
        age = _family(HEARTBEAT)
        age.add_metric([], loop.monotonic() - loop.progress.heartbeat)
        yield age


def _flagged(loop: Loop) -> Metric:
    """With a record for each count, for those who ask in a format that carries it."""
    family = CounterMetricFamily(FLAGGED.name, FLAGGED.text, labels=FLAGGED.labels)
    for (model, version, reason), count in sorted(loop.ingest.flagged.counts.items()):
        named = count.record_id if len(count.record_id) <= MAX_EXEMPLAR else None
        example = Exemplar({"record_id": named}, 1.0, count.time_ns / 1e9) if named else None
        family.add_metric([model, version, reason.value], count.records, exemplar=example)
    return family


def _accounts(rows: tuple[AccountingRow, ...]) -> Metric:
    family = _family(ACCOUNT)
    sums: dict[tuple[str, str, str], int] = {}
    for row in rows:
        parts = {name: getattr(row, name) for name in ("requests", "captured", "sampled_out", "lost", "corrupt")}
        parts |= {"ingested": row.ingested, **{f"dropped_{reason}": n for reason, n in row.dropped.items()}}
        for name, count in parts.items():
            key = (row.model, row.version, name)
            sums[key] = sums.get(key, 0) + count
    for key, count in sorted(sums.items()):
        family.add_metric(list(key), count)
    return family
