"""The evidence of a trigger policy, from the database. Everything is a count over what was recorded and labelled.

"Not trained on" means: said after the champion's snapshot was made. What was known then is in the snapshot, or was left
out of it on purpose (held out for the gate, a protected test set, a quota), and must not start a training again and
again. A champion that no snapshot of ours made knows nothing that was said here since its first request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.alarms.labels import Use
from monitoring.alarms.rows_turn import read_watch
from monitoring.alarms.watch import AlarmState, Promise
from monitoring.loop import rows
from monitoring.loop.regret import FRESH, regret_of
from monitoring.slices.issues import OPEN
from monitoring.triggers.contracts import Evidence, Regret

AUDITED = 20_000  # labels that the regret looks at
STARTS = 1_000
_OPEN_ALARMS = (AlarmState.FIRING.value, AlarmState.RECOVERING.value)
_S = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the champion's training knew.

    Attributes:
        until_ns: Labels given after this are new.
        trained_ns: When its training began; None when it came from elsewhere.
    """

    until_ns: int
    trained_ns: int | None


def gather(connection: sa.Connection, model: str, champion: str, now_ns: int) -> Evidence:
    """Everything that a policy looks at.

    Args:
        connection: Of one consistent view.
        model: Which.
        champion: The version that answers now.
        now_ns: The clock.
    """
    known = known_to(connection, model, champion)
    changed_ns = _changed(connection, model)
    present, before = _present(connection, model, changed_ns, known)
    failures, slices = _failures(connection, model, champion, known.until_ns)
    return Evidence(
        now_s=now_ns / _S,
        trained_s=None if known.trained_ns is None else known.trained_ns / _S,
        alarms=_alarms(connection, model, champion),
        failures=failures,
        slices=slices,
        labels=_labels(connection, model, known.until_ns),
        present=present,
        trained_present=before,
        regret=_regret(connection, model, champion),
        running=running(connection, model),
        starts_s=_starts(connection, model),
    )


def known_to(connection: sa.Connection, model: str, champion: str) -> Known:
    """Up to when the champion's training knew the labels."""
    made = rows.of_version(connection, model, champion)
    if made is not None and made.requested_ns is not None:
        return Known(until_ns=_snapshot_ns(connection, made) or made.requested_ns, trained_ns=made.requested_ns)
    v = t.versions.c
    first = connection.scalar(sa.select(v.first_ns).where(v.model == model, v.version == champion))
    return Known(until_ns=int(first or 0), trained_ns=None)


def running(connection: sa.Connection, model: str) -> str | None:
    """What of this model is under way, in words; None where nothing is."""
    c = t.trainings.c
    found = connection.execute(sa.select(c.id, c.stage).where(c.flight == model)).one_or_none()
    if found is not None:
        return f"training {found.id} ({found.stage.replace('_', ' ')})"
    r = t.rollouts.c
    other = connection.scalar(sa.select(r.candidate).where(r.model == model, r.ended_ns.is_(None)).limit(1))
    return None if other is None else f"a roll-out of version {other}"


def _snapshot_ns(connection: sa.Connection, made: rows.TurnRow) -> int | None:
    found = connection.scalar(sa.select(t.snapshots.c.created_ns).where(t.snapshots.c.id == made.snapshot))
    return None if found is None else int(found)


def _alarms(connection: sa.Connection, model: str, champion: str) -> tuple[str, ...]:
    """Open alarms about the champion: its own, and older ones that its labels alone would have raised again.

    An alarm of an earlier version stays open until labels speak for a rate below the tolerance; what was gathered for
    it is thrown away when another version is watched.
    """
    a = t.alarms.c
    query = sa.select(a.id, a.version, a.promise, a.threshold)
    query = query.where(a.model == model, a.state.in_(_OPEN_ALARMS)).order_by(a.fired_ns, a.id)
    found = connection.execute(query).all()
    watch = read_watch(connection, model) if any(row.version != champion for row in found) else None
    again = {
        promise.value: watch.line(promise).level if watch is not None and watch.version == champion else 0.0
        for promise in Promise
    }
    return tuple(row.id for row in found if row.version == champion or again[row.promise] >= row.threshold)


def _said_since(since_ns: int) -> tuple[sa.ColumnElement[bool], ...]:
    """Of `feedback`: labels that count, were joined to a record, and were given after that time."""
    f = t.feedback.c
    labelled = sa.or_(f.label.is_not(None), f.labels.is_not(None))
    return labelled, f.withdrawn.is_(False), f.joined.is_(True), f.time_ns > since_ns


def _labels(connection: sa.Connection, model: str, since_ns: int) -> int:
    f = t.feedback.c
    query = sa.select(sa.func.count(f.id_hash.distinct())).where(f.model == model, *_said_since(since_ns))
    return int(connection.scalar(query) or 0)


def _failures(connection: sa.Connection, model: str, champion: str, since_ns: int) -> tuple[int, dict[str, int]]:
    """The champion's own: what an earlier version failed at while this one was judged says nothing about it."""
    c, f, m, s = t.cases.c, t.feedback.c, t.slice_members.c, t.slices.c
    said = sa.select(f.id_hash).where(f.model == model, *_said_since(since_ns))
    failed = (c.model == model, c.version == champion, c.correct.is_(False), c.label.is_not(None), c.id_hash.in_(said))
    count = int(connection.scalar(sa.select(sa.func.count()).select_from(t.cases).where(*failed)) or 0)
    if not count:
        return 0, {}
    by_slice = (
        sa.select(m.slice_id, sa.func.count())
        .join(t.slices, s.id == m.slice_id)
        .join(t.cases, sa.and_(c.id_hash == m.id_hash, c.time_ns == m.time_ns))
        .where(s.model == model, s.state.in_([state.value for state in OPEN]), *failed)
        .group_by(m.slice_id)
        .order_by(m.slice_id)
    )
    return count, {name: int(n) for name, n in connection.execute(by_slice)}


def _changed(connection: sa.Connection, model: str) -> int:
    """Since when the traffic is what it is now, as far as an alarm has seen it change; 0 where none ever has."""
    a = t.alarms.c
    query = sa.select(a.from_ns).where(a.model == model).order_by(a.fired_ns.desc(), a.id.desc()).limit(1)
    return int(connection.scalar(query) or 0)


def _present(connection: sa.Connection, model: str, changed_ns: int, known: Known) -> tuple[int, int]:
    """Labels of the present traffic, and how many of them the champion was trained on."""
    r, f, v = t.records.c, t.feedback.c, t.versions.c
    ids = list(connection.scalars(sa.select(v.id).where(v.model == model)))
    here = (r.version_id.in_(ids), r.label.is_not(None), r.time_ns >= changed_ns)
    present = int(connection.scalar(sa.select(sa.func.count()).select_from(t.records).where(*here)) or 0)
    if known.trained_ns is None or not present:
        return present, 0
    new = sa.select(f.id_hash).where(f.model == model, *_said_since(known.until_ns))
    later = sa.select(sa.func.count()).select_from(t.records).where(*here, r.id_hash.in_(new))
    return present, present - int(connection.scalar(later) or 0)


def _regret(connection: sa.Connection, model: str, champion: str) -> Regret | None:
    x, v, w = t.audit_labels.c, t.versions.c, t.windows.c
    mine = (x.model == model, x.version == champion, x.use == Use.COUNTED.value)
    first = connection.scalar(sa.select(sa.func.min(x.time_ns)).where(*mine))
    if first is None:
        return None
    query = sa.select(x.wrong, x.inclusion_probability).where(*mine).order_by(x.position)
    found = connection.execute(query.limit(AUDITED)).all()
    version = sa.select(v.id).where(v.model == model, v.version == champion)
    answered = connection.scalar(
        sa.select(sa.func.sum(w.requests)).where(
            w.version_id.in_(version), w.variant == "champion", w.start_s + w.length_s >= int(first) // 10**9
        )
    )
    wrong = np.array([row.wrong for row in found], dtype=np.float64)
    chance = np.array([row.inclusion_probability for row in found], dtype=np.float64)
    weight = 1.0 / np.clip(chance, 1e-6, 1.0)
    return regret_of(wrong, weight, float(answered or 0), _best(connection, model, champion))


def _best(connection: sa.Connection, model: str, champion: str) -> float | None:
    """The lowest error that an earlier champion began with."""
    x = t.audit_labels.c
    versions = sa.select(x.version).where(x.model == model, x.version != champion, x.use == Use.COUNTED.value)
    best: float | None = None
    for version in connection.scalars(versions.distinct().order_by(x.version).limit(20)).all():
        first = sa.select(x.wrong).where(x.model == model, x.version == version, x.use == Use.COUNTED.value)
        wrong = list(connection.scalars(first.order_by(x.position).limit(FRESH)))
        if len(wrong) == FRESH:
            rate = float(np.mean(wrong))
            best = rate if best is None else min(best, rate)
    return best


def _starts(connection: sa.Connection, model: str) -> tuple[float, ...]:
    """When earlier turns were decided on, or were dropped without an approval: both hold the next one back."""
    c = t.trainings.c
    at = sa.func.coalesce(c.requested_ns, c.ended_ns, c.asked_ns)
    query = sa.select(at).where(c.model == model).order_by(c.number.desc()).limit(STARTS)
    return tuple(sorted(int(x) / _S for x in connection.scalars(query)))
