"""Labels from the tables into the evidence, and what it decides back into them. One transaction.

Labels are taken in the order of (ready, label, uid), and only once everything earlier has been read from every log:
the frontier. So what fires, and at which label, depends on neither the order of reading nor on where a process died.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
import xxhash

from export.contracts.codec import from_plain, to_plain
from monitoring import schema as t
from monitoring.alarms.bets import proxy_bins
from monitoring.alarms.labels import Use
from monitoring.alarms.limits import interval, limits_of
from monitoring.alarms.watch import AlarmState, Change, Label, Promise, Watch, Watcher, boundary, threshold
from monitoring.alarms.words import change_text
from monitoring.baselines import Baselines
from monitoring.notify.happened import announce_alarm
from monitoring.options import AlarmOptions, MonitorOptions
from monitoring.window_rows import NANOSECONDS

MOST_AT_ONCE = 1000  # labels that one transaction takes: bounds how long it holds the database
EXAMPLES = 24
FOREVER_NS = 1 << 62
Row = Any


def alarm_id(model: str, promise: Promise, number: int) -> str:
    """Sixteen hex digits that name a model's alarm."""
    return f"{xxhash.xxh64_intdigest(f'{model}{chr(0)}{promise.value}{chr(0)}{number}'.encode()):016x}"


def read_watch(connection: sa.Connection, model: str) -> Watch | None:
    """The stored state of a model's watch."""
    state = connection.scalar(sa.select(t.alarm_watches.c.state).where(t.alarm_watches.c.model == model))
    return None if state is None else from_plain(Watch, state)


def take_labels(
    connection: sa.Connection, watcher: Watcher, baselines: Baselines, options: MonitorOptions, frontier_ns: int
) -> bool:
    """Count the labels that are ready before the frontier; returns whether more are waiting.

    Args:
        connection: Of the turn's transaction.
        watcher: Moves the watches on.
        baselines: For the tolerances.
        options: Of the monitor.
        frontier_ns: Every record and label of an earlier time has been read.
    """
    a = t.audit_labels.c
    until = frontier_ns - int(options.lateness_s * NANOSECONDS) if frontier_ns < FOREVER_NS else frontier_ns
    ready = sa.and_(a.use == Use.WAITING.value, a.ready_ns <= until)
    more = False
    for model in connection.scalars(sa.select(a.model).where(ready).distinct().order_by(a.model)).all():
        query = sa.select(t.audit_labels).where(ready, a.model == model).order_by(a.ready_ns, a.label_ns, a.uid)
        rows = connection.execute(query.limit(MOST_AT_ONCE)).mappings().all()
        watch = read_watch(connection, model)
        rate = options.cases.audit_rate
        turn = _Turn(connection, watcher, baselines, options.alarms, watch or Watch(model=model), rate)
        taken = turn.take(rows)
        more = more or (taken == MOST_AT_ONCE)
        if turn.watch != watch:
            _write_watch(connection, turn.watch, fresh=watch is None)
    return more


@dataclass
class _Turn:
    """One model's labels of one transaction."""

    connection: sa.Connection
    watcher: Watcher
    baselines: Baselines
    options: AlarmOptions
    watch: Watch
    audit_rate: float
    _updates: list[dict[str, Any]] = field(default_factory=list)
    _populations: dict[tuple[int, str, int], tuple[tuple[int, ...], float, float]] = field(default_factory=dict)

    def take(self, rows: Any) -> int:
        """Count labels in their order; returns how many were taken. Stops where a version has no tolerance."""
        if self.watch.limits is not None:
            now = limits_of(self.watch.model, self.baselines.get(self.watch.model, self.watch.version), self.options)
            if now is not None and now != self.watch.limits:
                self.watch = self.watcher.begin(self.watch, self.watch.version, now)
        taken = 0
        for row in rows:
            if row["version"] == self.watch.version:
                self._count(row)
            elif self.watch.version and row["start_s"] <= self.watch.window_s:
                self._set_aside(row)
            elif self._begin(row):  # a version that answered in a later window than the one that is watched
                self._count(row)
            else:
                break
            taken += 1
        self._flush()
        return taken

    def _begin(self, row: Row) -> bool:
        limits = limits_of(row["model"], self.baselines.get(row["model"], row["version"]), self.options)
        if limits is None:
            text = (
                f"version {row['version']} has no labelled reference to derive a tolerance from: "
                "set one in monitor.alarms.tolerances"
            )
            self.watch = replace(self.watch, problem=text)
            return False
        self.watch = self.watcher.begin(self.watch, row["version"], limits)
        return True

    def _set_aside(self, row: Row) -> None:
        self._updates.append({"key": row["id"], "use": Use.OTHER_VERSION.value} | _NOTHING)
        self.watch = replace(self.watch, set_aside=self.watch.set_aside + 1)

    def _count(self, row: Row) -> None:
        population, least, ratio = self._population(row)
        if not population:  # a window that retention has taken: the label counts alone, for what it was drawn from
            least = self.audit_rate * row["probability"] ** 2 / max(row["inclusion_probability"], 1e-12)
        weight = min(1.0, least / row["probability"]) if row["probability"] > 0 else 1.0
        proxy = float("nan") if row["p_wrong"] is None else row["p_wrong"]
        label = Label(
            wrong=row["wrong"],
            proxy_bin=int(proxy_bins(proxy)),
            population=population,
            weight=weight,
            probe_ratio=ratio,
        )
        position = self.watch.labels
        moved, changes = self.watcher.step(self.watch, label)
        self.watch = replace(
            moved,
            window_s=max(moved.window_s, row["start_s"]),
            late=moved.late + (row["ready_ns"] < moved.ready_ns),
            ready_ns=max(moved.ready_ns, row["ready_ns"]),
            problem="",
        )
        levels = {c.promise: c.evidence for c in changes if c.state is AlarmState.FIRING}
        self._updates.append(
            {
                "key": row["id"],
                "use": Use.COUNTED.value,
                "position": position,
                "weight": weight,
                "lifetime": levels.get(Promise.LIFETIME, moved.lifetime.level),
                "run_length": levels.get(Promise.RUN_LENGTH, moved.run_length.level),
            }
        )
        for change in changes:
            self._flush()
            self._write_change(change, position, self.watch.ready_ns)

    def _population(self, row: Row) -> tuple[tuple[int, ...], float, float]:
        place = (row["version_id"], row["variant"], row["start_s"])
        if place not in self._populations:
            a = t.audit_windows.c
            where = sa.and_(a.version_id == place[0], a.variant == place[1], a.start_s == place[2])
            found = self.connection.execute(
                sa.select(a.weights, a.probability, a.probe_ratio).where(where)
            ).one_or_none()
            made = ((), 0.0, 0.0) if found is None else (tuple(found.weights), found.probability, found.probe_ratio)
            self._populations[place] = made
        return self._populations[place]

    def _flush(self) -> None:
        if self._updates:
            a = t.audit_labels
            names = ("use", "position", "weight", "lifetime", "run_length")
            query = a.update().where(a.c.id == sa.bindparam("key")).values({n: sa.bindparam(n) for n in names})
            self.connection.execute(query, self._updates)
            self._updates = []

    def _write_change(self, change: Change, position: int, at_ns: int) -> None:
        watch, identity = self.watch, alarm_id(self.watch.model, change.promise, change.number)
        if change.state is AlarmState.FIRING and self._is_new(identity):
            self.connection.execute(t.alarms.insert().values(id=identity, **self._alarm(change, position, at_ns)))
        else:
            values: dict[str, Any] = {"state": change.state.value, "changed_ns": at_ns}
            if change.state is AlarmState.RESOLVED:
                values |= {"resolved_position": position, "resolved_ns": at_ns}
            self.connection.execute(t.alarms.update().where(t.alarms.c.id == identity).values(**values))
        count = sa.select(sa.func.count()).where(t.alarm_events.c.alarm_id == identity)
        number = int(self.connection.scalar(count) or 0)
        alarm = self.connection.execute(sa.select(t.alarms).where(t.alarms.c.id == identity)).mappings().one()
        text = change_text(change, dict(alarm), self.options)
        announce_alarm(self.connection, dict(alarm), number, at_ns, text)
        self.connection.execute(
            t.alarm_events.insert().values(
                alarm_id=identity,
                number=number,
                model=watch.model,
                version=watch.version,
                promise=change.promise.value,
                state=change.state.value,
                at_ns=at_ns,
                position=position,
                evidence=change.evidence,
                text=text,
            )
        )

    def _is_new(self, identity: str) -> bool:
        return self.connection.scalar(sa.select(t.alarms.c.id).where(t.alarms.c.id == identity)) is None

    def _alarm(self, change: Change, position: int, at_ns: int) -> dict[str, Any]:
        watch, a = self.watch, t.audit_labels.c
        if watch.limits is None:
            raise ValueError("an alarm fired without limits")
        behind = sa.and_(a.model == watch.model, a.position >= change.since, a.position <= position)
        query = sa.select(a.id, a.time_ns, a.wrong, a.inclusion_probability).where(behind).order_by(a.position)
        labels = self.connection.execute(query).all()
        least = min((row.inclusion_probability for row in labels), default=1.0)
        weights = [least / row.inclusion_probability if least > 0 else 1.0 for row in labels]
        total = sum(weights)
        estimate = sum(w * row.wrong for w, row in zip(weights, labels, strict=True)) / total if total else None
        low, high = (None, None) if estimate is None else interval(estimate, len(labels))
        failing = [row.id for row in reversed(labels) if row.wrong > 0]
        return {
            "model": watch.model,
            "version": watch.version,
            "promise": change.promise.value,
            "number": change.number,
            "state": change.state.value,
            "limit": boundary(change.promise, watch.limits),
            "tolerance": watch.limits.tolerance,
            "tolerance_source": watch.limits.source,
            "threshold": threshold(change.promise, self.options),
            "evidence": change.evidence,
            "first_position": change.since,
            "fired_position": position,
            "from_ns": min((row.time_ns for row in labels), default=at_ns),
            "fired_ns": at_ns,
            "changed_ns": at_ns,
            "labels": len(labels),
            "errors": sum(row.wrong for row in labels),
            "estimate": estimate,
            "low": low,
            "high": high,
            "examples": failing[:EXAMPLES],
            "moved": None,
        }


_NOTHING: dict[str, Any] = {"position": None, "weight": None, "lifetime": None, "run_length": None}


def _write_watch(connection: sa.Connection, watch: Watch, fresh: bool) -> None:
    w = t.alarm_watches
    if fresh:
        connection.execute(w.insert().values(model=watch.model, state=to_plain(watch)))
    else:
        connection.execute(w.update().where(w.c.model == watch.model).values(state=to_plain(watch)))
