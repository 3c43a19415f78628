"""What a search changes about slices by itself: fixed ones regress, ignored ones wake, watches fire.

Everything here is a function of the records and of what people did, so the times of these events are the ends of the
searched spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.notify.contracts import NoticeKind
from monitoring.notify.happened import announce_slice
from monitoring.slices.found import Rate, SliceState, Span, rate_of
from monitoring.slices.issues import LOOP, SliceAct, WatchState, excess, state_after

NANOSECONDS = 1_000_000_000
MIN_ROWS = 20  # as for a slice to be found at all
SURPRISE = 0.01  # ... and for its failures not to be chance


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A slice over the searched span."""

    rows: int
    rate: Rate
    overall: float


def later_versions(connection: sa.Connection, model: str, version: str) -> frozenset[str]:
    """A version and those whose first record came no earlier: empty while none of its records was read."""
    v = t.versions.c
    first = sa.select(v.first_ns).where(v.model == model, v.version == version).scalar_subquery()
    return frozenset(connection.scalars(sa.select(v.version).where(v.model == model, v.first_ns >= first)))


def came_back(span: Span, rows: npt.NDArray[np.int64], versions: Iterable[str]) -> Measured | None:
    """The slice on these versions, if it fails there more often than the rest, and not by chance; else None.

    The chance is that of as many failures in a random group of the size (hypergeometric).
    """
    new = np.isin(span.versions, sorted(versions))
    inside = rows[new[rows]]
    if len(inside) < MIN_ROWS:
        return None
    among = np.flatnonzero(new)
    rate, overall = rate_of(span, inside), float(span.failure[among].mean())
    failed, failed_inside = round(float(span.failure[among].sum())), round(float(span.failure[inside].sum()))
    chance = float(scipy.stats.hypergeom.sf(failed_inside - 1, len(among), failed, len(inside)))
    return Measured(rows=len(inside), rate=rate, overall=overall) if rate.low > overall and chance < SURPRISE else None


def regressed(
    connection: sa.Connection, model: str, span: Span, known: Iterable[Any], found: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, Measured]:
    """Fixed slices that came back, by id; a slice that is part of another one counts for that one. Reads only."""
    by_id = {row["id"]: row for row in known}
    back: dict[str, Measured] = {}
    for identity, rows in sorted(found.items()):
        row = by_id.get(identity)
        if row is None:
            continue
        issue = by_id.get(row["merged_into"], row)
        if issue["state"] != SliceState.FIXED.value or issue["id"] in back:
            continue
        seen = came_back(span, rows, later_versions(connection, model, issue["fixed_in"]))
        if seen is not None:
            back[issue["id"]] = seen
    return back


def change_states(
    connection: sa.Connection,
    model: str,
    end_s: int,
    back: Mapping[str, Measured],
    measured: Mapping[str, Measured],
) -> None:
    """Write what the search means for the slices' states, in the transaction of its result."""
    s = t.slices.c
    for row in connection.execute(sa.select(t.slices).where(s.model == model).order_by(s.id)).mappings().all():
        now = measured.get(row["id"])
        if row["state"] == SliceState.FIXED.value and row["id"] in back:
            seen = back[row["id"]]
            told = {"fixed_in": row["fixed_in"], "rows": seen.rows, "failure_rate": seen.rate.rate}
            _note(connection, row, SliceAct.REGRESS, end_s, told | {"overall_rate": seen.overall})
            connection.execute(t.slices.update().where(s.id == row["id"]).values(last_s=end_s))
            announce_slice(connection, dict(row), NoticeKind.SLICE_REGRESSED, end_s, seen.rate.rate)
        elif row["state"] == SliceState.IGNORED.value and now is not None and row["wake_excess"] is not None:
            size = excess(now.rate.rate, now.overall, now.rows)
            if size >= row["wake_excess"]:
                _note(connection, row, SliceAct.WAKE, end_s, {"excess": size, "limit": row["wake_excess"]})
        if row["merged_into"] and now is not None and row["last_s"] == end_s:
            host = s.id == row["merged_into"]
            connection.execute(t.slices.update().where(host, s.last_s < end_s).values(last_s=end_s))
    _look_at_watches(connection, model, end_s, measured)


def _look_at_watches(connection: sa.Connection, model: str, end_s: int, measured: Mapping[str, Measured]) -> None:
    w, s = t.slice_watches.c, t.slices.c
    watches = sa.select(w.slice_id, w.limit, w.state).where(w.slice_id.in_(sa.select(s.id).where(s.model == model)))
    for watch in connection.execute(watches.order_by(w.slice_id)).all():
        now = measured.get(watch.slice_id)
        if now is None:
            continue
        firing = watch.state == WatchState.FIRING.value
        if firing == (now.rate.low > watch.limit) or (firing and now.rate.rate > watch.limit):
            continue
        state, act = (WatchState.QUIET, SliceAct.CALM) if firing else (WatchState.FIRING, SliceAct.FIRE)
        row = connection.execute(sa.select(t.slices).where(s.id == watch.slice_id)).mappings().one()
        told = {"limit": watch.limit, "failure_rate": now.rate.rate, "low": now.rate.low, "rows": now.rows}
        _note(connection, row, act, end_s, told)
        if not firing:
            announce_slice(connection, dict(row), NoticeKind.SLICE_ALERT, end_s, now.rate.rate)
        changed = t.slice_watches.update().where(w.slice_id == watch.slice_id)
        connection.execute(changed.values(state=state.value, changed_s=end_s))
        connection.execute(
            t.events.insert().values(
                source=f"slice:{watch.slice_id}",
                sequence=end_s,
                time_ns=end_s * NANOSECONDS,
                kind="slice_watch_fired" if act is SliceAct.FIRE else "slice_watch_calmed",
                model=model,
                version=row["version"],
                detail={"slice": row["words"]} | told,
            )
        )


def _note(connection: sa.Connection, row: Any, act: SliceAct, end_s: int, detail: dict[str, Any]) -> None:
    before = SliceState(row["state"])
    after = state_after(before, act)
    values = {"slice_id": row["id"], "time_ns": end_s * NANOSECONDS, "actor": LOOP, "kind": act.value}
    connection.execute(
        t.slice_events.insert().values(**values, before=before.value, after=after.value, detail=detail, key=None)
    )
    if after is not before:
        edition = row["edition"] + 1
        changed = t.slices.update().where(t.slices.c.id == row["id"])
        connection.execute(changed.values(state=after.value, edition=edition, wake_excess=None))
