"""What people do about slices. Every act is one transaction, with a row of its history, and counts the edition up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.slices.found import SliceState
from monitoring.slices.issues import GROWS, SliceAct, WatchState, excess, state_after
from monitoring.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Doing:
    """Who does something, when, and under which idempotency key.

    Attributes:
        edition: Of the slice as it was read; another one now is a conflict. None does not ask.
    """

    actor: str
    now_ns: int
    key: str | None = None
    edition: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceEvent:
    """A line of a slice's history."""

    id: int
    slice_id: str
    time_ns: int
    actor: str
    kind: str
    before: str
    after: str
    detail: dict[str, Any]


class Acts:
    """Everything that people do about one slice.

    Args:
        store: The monitor's database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def acknowledge(self, identity: str, doing: Doing) -> None:
        """Somebody knows."""
        self._do(identity, SliceAct.ACKNOWLEDGE, doing, {})

    def own(self, identity: str, doing: Doing, owner: str) -> None:
        """Give it to somebody; "" takes it from whoever has it."""
        self._do(identity, SliceAct.OWN, doing, {"owner": owner}, {"owner": owner})

    def comment(self, identity: str, doing: Doing, text: str) -> None:
        """Say something about it."""
        if not text.strip():
            raise InvalidRequest("a comment needs a text")
        self._do(identity, SliceAct.COMMENT, doing, {"text": text})

    def fix(self, identity: str, doing: Doing, version: str) -> None:
        """It is fixed in `version`; found again on that one or a later one, it regresses by itself."""
        if not version:
            raise InvalidRequest("say in which version it is fixed")
        values = {"fixed_in": version, "wake_excess": None}
        self._do(identity, SliceAct.FIX, doing, {"version": version}, values)

    def ignore(self, identity: str, doing: Doing, grows: float = GROWS) -> None:
        """Leave it until it has `grows` times the excess failures of now."""
        if not 1.0 < grows <= 1000.0:
            raise InvalidRequest("'grows' is how many times its failures of now: more than 1, at most 1000")
        with self._store.write() as connection:
            row = row_of(connection, identity)
            # At least one failure more than usual, or a slice that just recovered would wake at once.
            wake = grows * max(1.0, excess(row["failure_rate"], row["overall_rate"], row["rows"]))
            values = {"wake_excess": wake}
            record(connection, row, SliceAct.IGNORE, doing, {"grows": grows, "until": wake}, values)

    def reopen(self, identity: str, doing: Doing) -> None:
        """As if it had just been found."""
        self._do(identity, SliceAct.REOPEN, doing, {}, {"fixed_in": "", "wake_excess": None})

    def merge(self, identity: str, doing: Doing, into: str) -> None:
        """Make it part of another slice of the model: from now on that one stands for both."""
        with self._store.write() as connection:
            row, host = row_of(connection, identity), row_of(connection, into)
            if identity == into or host["merged_into"] == identity or row["model"] != host["model"]:
                raise InvalidRequest("a slice is merged into another slice of the same model")
            into = host["merged_into"] or into  # what the other one is part of
            if into == identity:
                raise InvalidRequest("a slice is merged into another slice of the same model")
            if not record(connection, row, SliceAct.MERGE, doing, {"into": into}, {"merged_into": into}):
                return
            parts = t.slices.update().where(t.slices.c.merged_into == identity)
            connection.execute(parts.values(merged_into=into))  # its own parts follow
            told = {"part": identity, "words": row["words"]}
            record(connection, row_of(connection, into), SliceAct.MERGE, _same_time(doing), told, keep_state=True)

    def unmerge(self, identity: str, doing: Doing) -> None:
        """Make it a slice of its own again."""
        self._do(identity, SliceAct.UNMERGE, doing, {}, {"merged_into": ""})

    def watch(self, identity: str, doing: Doing, limit: float) -> None:
        """Tell people when the whole interval of its failure rate is above `limit`."""
        if not 0.0 < limit < 1.0:
            raise InvalidRequest("the limit is a failure rate between 0 and 1")
        with self._store.write() as connection:
            row = row_of(connection, identity)
            if not record(connection, row, SliceAct.WATCH, doing, {"limit": limit}):
                return
            connection.execute(t.slice_watches.delete().where(t.slice_watches.c.slice_id == identity))
            about = {"slice_id": identity, "limit": limit, "state": WatchState.QUIET.value, "changed_s": row["last_s"]}
            made = {"created_ns": doing.now_ns, "created_by": doing.actor}
            connection.execute(t.slice_watches.insert().values(**about, **made))

    def unwatch(self, identity: str, doing: Doing) -> None:
        """End the watch."""
        with self._store.write() as connection:
            if connection.execute(t.slice_watches.delete().where(t.slice_watches.c.slice_id == identity)).rowcount:
                record(connection, row_of(connection, identity), SliceAct.UNWATCH, doing, {})

    def history(self, identity: str, limit: int = 200) -> list[SliceEvent]:
        """What was done about it, newest first."""
        e = t.slice_events.c
        query = sa.select(*(column for column in e if column.name != "key")).where(e.slice_id == identity)
        with self._store.read() as connection:
            rows = connection.execute(query.order_by(e.id.desc()).limit(limit)).mappings()
            return [SliceEvent(**row) for row in rows]

    def watch_of(self, identity: str) -> tuple[float, WatchState] | None:
        """(limit, state) of its watch; None without one."""
        w = t.slice_watches.c
        with self._store.read() as connection:
            row = connection.execute(sa.select(w.limit, w.state).where(w.slice_id == identity)).one_or_none()
        return None if row is None else (row.limit, WatchState(row.state))

    def parts_of(self, identity: str) -> list[tuple[str, str, str]]:
        """(id, words, "merged" or "split") of what was merged into it or split from it."""
        s = t.slices.c
        query = sa.select(s.id, s.words, s.merged_into).where(
            sa.or_(s.merged_into == identity, s.split_from == identity)
        )
        with self._store.read() as connection:
            rows = connection.execute(query.order_by(s.id)).all()
        return [(row.id, row.words, "merged" if row.merged_into == identity else "split") for row in rows]

    def _do(
        self,
        identity: str,
        act: SliceAct,
        doing: Doing,
        detail: Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
    ) -> None:
        with self._store.write() as connection:
            record(connection, row_of(connection, identity), act, doing, detail, values)


def record(
    connection: sa.Connection,
    row: Any,
    act: SliceAct,
    doing: Doing,
    detail: Mapping[str, Any],
    values: Mapping[str, Any] | None = None,
    keep_state: bool = False,
) -> bool:
    """Write an act into the history and change the slice; returns False where its key was used already.

    Raises:
        Conflict: it is no longer as it was read, or this cannot be done to it now.
    """
    key = None if doing.key is None else f"{doing.actor}\0{doing.key}"[:100]
    e, s = t.slice_events.c, t.slices.c
    if key is not None and connection.scalar(sa.select(e.id).where(e.key == key)) is not None:
        return False
    if doing.edition is not None and doing.edition != row["edition"]:
        who = connection.scalar(sa.select(e.actor).where(e.slice_id == row["id"]).order_by(e.id.desc()).limit(1))
        raise Conflict(f"{who or 'somebody'} has changed this slice meanwhile: it is {row['state']} now")
    before = SliceState(row["state"])
    after = before if keep_state else state_after(before, act)
    told = {"slice_id": row["id"], "time_ns": doing.now_ns, "actor": doing.actor, "kind": act.value, "key": key}
    connection.execute(
        t.slice_events.insert().values(**told, before=before.value, after=after.value, detail=dict(detail))
    )
    changed = {"state": after.value, "edition": row["edition"] + 1} | dict(values or {})
    connection.execute(t.slices.update().where(s.id == row["id"]).values(**changed))
    return True


def row_of(connection: sa.Connection, identity: str) -> Any:
    """A slice's row.

    Raises:
        NotFound: there is none.
    """
    row = connection.execute(sa.select(t.slices).where(t.slices.c.id == identity)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no slice with this id")
    return row


def _same_time(doing: Doing) -> Doing:
    return Doing(actor=doing.actor, now_ns=doing.now_ns)
