"""What the console, the API and the metrics ask about alarms. Reads; silences are the one thing that people write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.alarms.labels import Use
from monitoring.alarms.rows_turn import read_watch
from monitoring.alarms.watch import AlarmState, Watch
from monitoring.drift import Scope
from monitoring.store import Store
from monitoring.store_filters import given

T = TypeVar("T")
_WINDOWS = 2_000  # how far back "since when do signals exceed" looks


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmRow:
    """A row of `alarms`; `moved` is None until its signals are computed."""

    id: str
    model: str
    version: str
    promise: str
    number: int
    state: str
    limit: float
    tolerance: float
    tolerance_source: str
    threshold: float
    evidence: float
    first_position: int
    fired_position: int
    from_ns: int
    fired_ns: int
    changed_ns: int
    resolved_position: int | None
    resolved_ns: int | None
    labels: int
    errors: float
    estimate: float | None
    low: float | None
    high: float | None
    examples: Sequence[str]
    moved: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmEventRow:
    """A row of `alarm_events`."""

    id: int
    alarm_id: str
    number: int
    model: str
    version: str
    promise: str
    state: str
    at_ns: int
    position: int
    evidence: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRow:
    """A counted label: a point of the evidence's path. `id` is its case's, if there is one."""

    id: str
    version: str
    record_id: str
    time_ns: int
    ready_ns: int
    position: int
    wrong: float
    p_wrong: float | None
    weight: float
    inclusion_probability: float
    lifetime: float
    run_length: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SilenceRow:
    """A row of `silences`."""

    id: int
    model: str
    promise: str | None
    from_ns: int
    until_ns: int
    author: str
    reason: str
    ended_ns: int | None
    ended_by: str | None

    def holds(self, now_ns: int, promise: str | None = None) -> bool:
        """Whether it silences a promise at that time; None asks for any."""
        if promise is not None and self.promise is not None and self.promise != promise:
            return False
        return self.from_ns <= now_ns < (self.until_ns if self.ended_ns is None else self.ended_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftNow:
    """Signals over their threshold in the newest rolling window of a version, and the audit since they began.

    Attributes:
        exceeded: Signals over their threshold now; 0 is a steady model.
        since_s: Start of the first window of the present run of exceeded ones; None without.
        labels: Counted labels of records since then.
        errors: Among them.
    """

    exceeded: int = 0
    since_s: int | None = None
    labels: int = 0
    errors: float = 0.0


def watches(store: Store) -> tuple[Watch, ...]:
    """All watches, by model."""
    with store.read() as connection:
        models = connection.scalars(sa.select(t.alarm_watches.c.model).order_by(t.alarm_watches.c.model)).all()
        return tuple(w for w in (read_watch(connection, model) for model in models) if w is not None)


def firing_alarms(store: Store) -> int:
    """Alarms that fire now."""
    with store.read() as connection:
        query = sa.select(sa.func.count()).select_from(t.alarms).where(t.alarms.c.state == AlarmState.FIRING.value)
        return int(connection.scalar(query) or 0)


def waiting_labels(store: Store) -> dict[str, int]:
    """Labels that are not counted yet, by model."""
    a = t.audit_labels.c
    query = sa.select(a.model, sa.func.count()).where(a.use == Use.WAITING.value).group_by(a.model)
    with store.read() as connection:
        return {model: int(n) for model, n in connection.execute(query).all()}


def list_alarms(
    store: Store,
    *,
    model: str | None = None,
    promise: str | None = None,
    state: str | None = None,
    limit: int = 100,
) -> tuple[AlarmRow, ...]:
    """Open ones first, then the newest."""
    a = t.alarms.c
    query = sa.select(t.alarms).where(*given((a.model, model), (a.promise, promise), (a.state, state)))
    is_open = sa.case((a.state == AlarmState.RESOLVED.value, 1), else_=0)
    return _rows(store, AlarmRow, query.order_by(is_open, a.fired_ns.desc(), a.id).limit(limit))


def alarm_row(store: Store, identity: str) -> AlarmRow | None:
    """One alarm."""
    found = _rows(store, AlarmRow, sa.select(t.alarms).where(t.alarms.c.id == identity))
    return found[0] if found else None


def alarm_events(store: Store, identity: str | None = None, after: int = 0, limit: int = 500) -> list[AlarmEventRow]:
    """What happened to an alarm, or to all, in order; `after` is the last id that the caller has seen."""
    e = t.alarm_events.c
    query = sa.select(t.alarm_events).where(e.id > after, *given((e.alarm_id, identity))).order_by(e.id)
    return list(_rows(store, AlarmEventRow, query.limit(limit)))


def label_path(store: Store, model: str, first: int, last: int) -> tuple[LabelRow, ...]:
    """Counted labels of a model at positions first..last."""
    a = t.audit_labels.c
    query = sa.select(t.audit_labels).where(a.model == model, a.position.between(first, last)).order_by(a.position)
    return _rows(store, LabelRow, query)


def silences(store: Store, model: str | None = None, limit: int = 100) -> tuple[SilenceRow, ...]:
    """Silences, newest first, those that ended included."""
    s = t.silences.c
    query = sa.select(t.silences).where(*given((s.model, model))).order_by(s.id.desc()).limit(limit)
    return _rows(store, SilenceRow, query)


def add_silence(store: Store, silence: Mapping[str, Any]) -> SilenceRow:
    """Store a silence."""
    with store.write() as connection:
        identity = connection.execute(t.silences.insert().values(**silence).returning(t.silences.c.id)).scalar_one()
    return _rows(store, SilenceRow, sa.select(t.silences).where(t.silences.c.id == identity))[0]


def end_silence(store: Store, identity: int, now_ns: int, author: str) -> SilenceRow | None:
    """End a silence early; the first to end it is remembered. None when there is none with this id."""
    s = t.silences.c
    with store.write() as connection:
        still = sa.and_(s.id == identity, s.ended_ns.is_(None), s.until_ns > now_ns)
        connection.execute(t.silences.update().where(still).values(ended_ns=now_ns, ended_by=author))
    found = _rows(store, SilenceRow, sa.select(t.silences).where(s.id == identity))
    return found[0] if found else None


def drift_now(store: Store, watch: Watch) -> DriftNow:
    """How the watched version's signals stand, and what the audit says since they moved."""
    s, v, a = t.signals.c, t.versions.c, t.audit_labels.c
    version_id = sa.select(v.id).where(v.model == watch.model, v.version == watch.version).scalar_subquery()
    count = sa.func.sum(sa.case((s.exceeded.is_(True), 1), else_=0))
    query = sa.select(s.start_s, count).where(s.version_id == version_id, s.scope == Scope.ROLLING.value)
    with store.read() as connection:
        rows = connection.execute(query.group_by(s.start_s).order_by(s.start_s.desc()).limit(_WINDOWS)).all()
        if not rows or not rows[0][1]:
            return DriftNow()
        since_s = rows[0][0]
        for start_s, exceeded in rows:
            if not exceeded:
                break
            since_s = start_s
        behind = sa.and_(a.model == watch.model, a.use == Use.COUNTED.value, a.start_s >= since_s)
        labels, errors = connection.execute(sa.select(sa.func.count(), sa.func.sum(a.wrong)).where(behind)).one()
    return DriftNow(exceeded=int(rows[0][1]), since_s=int(since_s), labels=int(labels), errors=float(errors or 0.0))


def _rows(store: Store, kind: type[T], query: sa.Select[Any]) -> tuple[T, ...]:
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # every caller passes a record
    with store.read() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(kind(**{name: row[name] for name in names}) for row in rows)
