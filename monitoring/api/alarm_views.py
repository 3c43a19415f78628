"""Alarms, watches and silences as the API's answers; the console's pages are made of the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from export.contracts.errors import InvalidRequest, NotFound
from monitoring.alarms import queries as q
from monitoring.alarms.limits import upper_bound
from monitoring.alarms.rows_turn import alarm_id
from monitoring.alarms.watch import AlarmState, Promise, Watch, boundary, threshold
from monitoring.alarms.words import promise_text
from monitoring.api import alarm_models as m
from monitoring.api import fields
from monitoring.api.views import View
from monitoring.options import AlarmOptions

MIN_LABELS = 30  # fewer say nothing about drift
PATH = 5_000  # labels of an alarm's path at most
BEFORE = 200  # ... of which so many lie before the first one behind it
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmView:
    """What the answers about alarms are made of."""

    view: View
    options: AlarmOptions
    clock: Callable[[], datetime]

    @property
    def now_ns(self) -> int:
        """The time by which silences end."""
        return int(self.clock().timestamp() * NANOSECONDS)

    def alarms(self, query: m.AlarmQuery) -> m.Alarms:
        """Alarms and watches."""
        if query.model is not None:
            self.view.known(query.model)
        rows = q.list_alarms(
            self.view.store,
            model=query.model,
            promise=None if query.promise is None else query.promise.value,
            state=None if query.state is None else query.state.value,
            limit=query.limit,
        )
        quiet = q.silences(self.view.store, query.model)
        listed = [m.Alarm.model_validate(self._fields(row, quiet)) for row in rows]
        return m.Alarms(alarms=listed, watching=self.watching(query.model))

    def watching(self, model: str | None = None) -> list[m.Watching]:
        """How each model is watched, or one."""
        store = self.view.store
        known = {w.model: w for w in q.watches(store)}
        waiting, quiet = q.waiting_labels(store), q.silences(store)
        names = [model] if model is not None else sorted({*self.view.models(), *known})
        return [self._watching(known.get(n, Watch(model=n)), waiting.get(n, 0), quiet) for n in names]

    def detail(self, identity: str) -> m.AlarmDetail:
        """An alarm with its evidence.

        Raises:
            NotFound: there is none.
        """
        row = self.row(identity)
        store = self.view.store
        first = max(0, row.first_position - BEFORE)
        last = row.resolved_position if row.resolved_position is not None else row.fired_position + PATH
        labels = q.label_path(store, row.model, first, min(last, first + PATH - 1))
        extra = {
            "moved": None if row.moved is None else [m.Moved.model_validate(dict(x)) for x in row.moved],
            "examples": list(row.examples),
            "events": [event(e) for e in q.alarm_events(store, identity)],
            "path": [point(label) for label in labels],
        }
        return m.AlarmDetail.model_validate(self._fields(row, q.silences(store, row.model)) | extra)

    def row(self, identity: str) -> q.AlarmRow:
        """An alarm as stored.

        Raises:
            NotFound: there is none.
        """
        row = q.alarm_row(self.view.store, identity)
        if row is None:
            raise NotFound("there is no alarm with this id")
        return row

    def silences(self, query: m.SilenceQuery) -> m.Silences:
        """Silences."""
        rows = q.silences(self.view.store, query.model, query.limit)
        return m.Silences(silences=[self.silence(row) for row in rows])

    def start_silence(self, asked: m.SilenceStart) -> m.Silence:
        """Begin a silence.

        Raises:
            NotFound: unknown model.
            InvalidRequest: no end, two ends, or one that has passed or is too far.
        """
        self.view.known(asked.model)
        now = self.clock()
        if (asked.minutes is None) == (asked.until is None):
            raise InvalidRequest("minutes: give either minutes or until")
        until = asked.until or now + timedelta(minutes=asked.minutes or 0)
        if not now < until <= now + timedelta(minutes=m.MAX_MINUTES + 1):
            raise InvalidRequest("until: must lie ahead, by 30 days at most")
        return self.silence(
            q.add_silence(
                self.view.store,
                {
                    "model": asked.model,
                    "promise": None if asked.promise is None else asked.promise.value,
                    "from_ns": int(now.timestamp() * NANOSECONDS),
                    "until_ns": int(until.timestamp() * NANOSECONDS),
                    "author": asked.author,
                    "reason": asked.reason,
                },
            )
        )

    def end_silence(self, identity: int, asked: m.SilenceEnd) -> m.Silence:
        """End a silence early; one that has ended stays as it is.

        Raises:
            NotFound: there is none.
        """
        row = q.end_silence(self.view.store, identity, self.now_ns, asked.author)
        if row is None:
            raise NotFound("there is no silence with this id")
        return self.silence(row)

    def silence(self, row: q.SilenceRow) -> m.Silence:
        """A silence as answered."""
        return m.Silence.model_validate(
            {
                "id": row.id,
                "model": row.model,
                "promise": row.promise,
                "from": fields.from_ns(row.from_ns),
                "until": fields.from_ns(row.until_ns),
                "author": row.author,
                "reason": row.reason,
                "ended_at": None if row.ended_ns is None else fields.from_ns(row.ended_ns),
                "ended_by": row.ended_by,
                "holds": row.holds(self.now_ns),
            }
        )

    def _watching(self, watch: Watch, waiting: int, quiet: tuple[q.SilenceRow, ...]) -> m.Watching:
        limits = watch.limits
        problem = watch.problem
        if limits is None and not problem:
            problem = "not enough data: no audited record of this model has a label yet"
        return m.Watching(
            model=watch.model,
            version=watch.version or None,
            tolerance=None if limits is None else limits.tolerance,
            tolerance_source=None if limits is None else limits.source,
            expected=None if limits is None else limits.expected,
            labels=watch.labels,
            errors=watch.errors,
            waiting=waiting,
            late=watch.late,
            set_aside=watch.set_aside,
            budget_left=min(1.0, max(0.0, watch.waiting)),
            renewals=watch.renewals,
            problem=problem or None,
            promises=[] if limits is None else [self._promise(watch, p, quiet) for p in Promise],
            drift=self._drift(watch),
        )

    def _promise(self, watch: Watch, promise: Promise, quiet: tuple[q.SilenceRow, ...]) -> m.PromiseState:
        line, limits = watch.line(promise), watch.limits
        is_open = line.state is not AlarmState.QUIET
        return m.PromiseState(
            promise=promise,
            says=promise_text(promise, self.options),
            state=line.state,
            limit=0.0 if limits is None else boundary(promise, limits),
            evidence=line.level,
            threshold=threshold(promise, self.options),
            recovery=line.back_level if is_open else None,
            recovery_threshold=self.options.recovery_run_length,
            alarm=alarm_id(watch.model, promise, line.alarms) if is_open else None,
            silenced=any(s.model == watch.model and s.holds(self.now_ns, promise.value) for s in quiet),
        )

    def _drift(self, watch: Watch) -> m.Drift:
        now = q.drift_now(self.view.store, watch) if watch.version else q.DriftNow()
        firing = any(watch.line(p).state is AlarmState.FIRING for p in Promise)
        upper = upper_bound(now.errors / now.labels, now.labels) if now.labels else None
        moved = f"{now.exceeded} signal{'s' if now.exceeded != 1 else ''} over the threshold"
        seen = f"{now.errors:.4g} of {now.labels} audited labels since then are wrong"
        if not now.exceeded:
            harm, text = m.Harm.STEADY, "No signal stands over its threshold."
        elif firing:
            harm, text = m.Harm.HARMFUL, f"Harmful: {moved}, and an alarm fires; {seen}."
        elif now.labels < MIN_LABELS:
            harm = m.Harm.UNKNOWN
            text = f"Not enough data: {moved}, with {now.labels} of {MIN_LABELS} audited labels since then."
        else:
            harm = m.Harm.HARMLESS_SO_FAR
            text = f"Harmless so far: {moved}, and {seen} (at most {upper:.1%} with 95 % confidence)."
        return m.Drift(
            harm=harm,
            text=text,
            exceeded=now.exceeded,
            since=None if now.since_s is None else fields.from_ns(now.since_s * NANOSECONDS),
            labels=now.labels,
            errors=now.errors,
            upper=upper,
        )

    def _fields(self, row: q.AlarmRow, quiet: tuple[q.SilenceRow, ...]) -> dict[str, object]:
        same = (
            *("id", "model", "version", "promise", "number", "state", "limit", "tolerance", "tolerance_source"),
            *("threshold", "evidence", "labels", "errors", "estimate", "low", "high"),
        )
        promise = Promise(row.promise)
        return {name: getattr(row, name) for name in same} | {
            "says": promise_text(promise, self.options),
            "from": fields.from_ns(row.from_ns),
            "fired_at": fields.from_ns(row.fired_ns),
            "changed_at": fields.from_ns(row.changed_ns),
            "resolved_at": None if row.resolved_ns is None else fields.from_ns(row.resolved_ns),
            "silenced": row.state != AlarmState.RESOLVED.value
            and any(s.model == row.model and s.holds(self.now_ns, promise.value) for s in quiet),
            "failing_inputs": failing_inputs(row),
            "page": f"/alarms/{row.id}",
        }


def failing_inputs(row: q.AlarmRow) -> str:
    """The list of the cases that were answered wrong in the alarm's time, newest first."""
    first, last = row.from_ns // NANOSECONDS, row.fired_ns // NANOSECONDS + 1
    if row.resolved_ns is not None:
        last = row.resolved_ns // NANOSECONDS + 1
    asked = {
        "model": row.model,
        "version": row.version,
        "correct": "false",
        "from": _text(first),
        "order": "time",
    }
    return "/cases?" + urlencode(asked | ({"to": _text(last)} if row.resolved_ns is not None else {}))


def event(row: q.AlarmEventRow) -> m.AlarmEvent:
    """An event as answered."""
    same = ("id", "model", "version", "promise", "state", "position", "evidence", "text")
    values = {name: getattr(row, name) for name in same}
    return m.AlarmEvent.model_validate(values | {"alarm": row.alarm_id, "at": fields.from_ns(row.at_ns)})


def point(row: q.LabelRow) -> m.PathPoint:
    """A label as answered."""
    same = ("position", "wrong", "p_wrong", "weight", "inclusion_probability", "lifetime", "run_length")
    values = {name: getattr(row, name) for name in same}
    extra = {"ready_at": fields.from_ns(row.ready_ns), "case": row.id, "record": row.record_id}
    return m.PathPoint.model_validate(values | extra)


def _text(at_s: int) -> str:
    return fields.to_text(fields.from_ns(at_s * NANOSECONDS))
