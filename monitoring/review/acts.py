"""Writing the trail: one act, what it did to each case, and the answer that it got.

An act is named by its actor and the client's key. Asked again with the same key and the same content, the stored answer
is given and nothing is done; with another content it is a conflict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest
from monitoring import schema as t
from monitoring.review.contracts import ActKind
from monitoring.review.lines import Change, difference, write_standings
from monitoring.review.truths import write_truths
from monitoring.store import Store

MAX_KEY = 100
ATTEMPTS = 5
_AGAIN = ("40001", "40P01", "23505")  # PostgreSQL: serialisation failures, deadlocks, and two first uses of one key


@dataclass(kw_only=True)
class Act:
    """An act while its transaction runs.

    Attributes:
        id: Of its row.
        detail: What was asked, as the trail shows it; the caller may add to it.
        undoes: The act that this one takes back.
    """

    connection: sa.Connection
    id: int
    actor: str
    now_ns: int
    detail: dict[str, Any]
    undoes: int | None = None
    cases: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)

    def apply(self, changes: Sequence[Change]) -> None:
        """Write what becomes of the cases: standings, trail, truth."""
        write_standings(self.connection, [(x.case, x.after) for x in changes])
        rows = [self._row(x) for x in changes]
        if rows:
            self.connection.execute(t.decisions.insert(), rows)
        write_truths(self.connection, changes)
        self.cases += len(rows)
        for x in changes:
            if x.verdict is not None:
                self.verdicts[x.verdict] = self.verdicts.get(x.verdict, 0) + 1

    def _row(self, x: Change) -> dict[str, Any]:
        before, after = difference(x.case.standing, x.after)
        if x.tags_before is not None and x.tags_after is not None:
            before["tags"], after["tags"] = list(x.tags_before), list(x.tags_after)
        return {
            "act_id": self.id,
            "case_id": x.case.id,
            "verdict": x.verdict,
            "label": x.label or None,
            "comment": x.comment,
            "before": before,
            "after": after,
            "withdrawn": False,
        }


def perform(
    store: Store,
    clock: Callable[[], int],
    kind: ActKind,
    actor: str,
    key: str | None,
    detail: Mapping[str, Any],
    content: Any,
    work: Callable[[Act], dict[str, Any]],
) -> tuple[dict[str, Any], Act | None]:
    """Do something once.

    Args:
        store: The monitor's database.
        clock: Nanoseconds since the epoch.
        kind: What is done.
        actor: Who does it.
        key: The client's idempotency key; None: every call is an act of its own.
        detail: What was asked, for the trail: without the cases one by one.
        content: What was asked, whole and JSON-compatible: the same key with other content is refused.
        work: Does it; returns the answer, JSON-compatible. Runs again from the beginning when the database asks for it.

    Returns:
        The answer with `act`, its id; and the act, None where it had been done before.

    Raises:
        Conflict: the key was used for something else.
    """
    name = None if key is None else _name(actor, key)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    for attempt in range(ATTEMPTS):
        try:
            with store.write() as connection:
                stored = None if name is None else _stored(connection, name, digest)
                if stored is not None:
                    return stored, None
                now_ns = clock()
                row: dict[str, Any] = {
                    "key": name,
                    "actor": actor,
                    "time_ns": now_ns,
                    "kind": kind.value,
                    "detail": {},
                    "cases": 0,
                }
                made = connection.execute(t.acts.insert().values(**row).returning(t.acts.c.id))
                act = Act(connection=connection, id=made.scalar_one(), actor=actor, now_ns=now_ns, detail=dict(detail))
                answer = work(act) | {"act": act.id}
                kept = act.detail | ({} if name is None else {"digest": digest, "answer": answer})
                where = t.acts.c.id == act.id
                if name is None and not act.cases and act.undoes is None:
                    connection.execute(t.acts.delete().where(where))
                else:
                    values = {"detail": kept, "cases": act.cases, "undoes": act.undoes}
                    connection.execute(t.acts.update().where(where).values(**values))
                return answer, act
        except sa.exc.DBAPIError as error:
            if attempt + 1 == ATTEMPTS or getattr(error.orig, "sqlstate", None) not in _AGAIN:
                raise
    raise AssertionError("the last attempt returns or raises")


def shown_detail(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The detail of an act without what is kept for repetitions."""
    return {name: value for name, value in detail.items() if name not in ("digest", "answer")}


def _name(actor: str, key: str) -> str:
    if not 1 <= len(key) <= MAX_KEY:
        raise InvalidRequest(f"key: 1 to {MAX_KEY} characters that name this act, the same when it is asked again")
    return hashlib.sha256(f"{actor}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()


def _stored(connection: sa.Connection, name: str, digest: str) -> dict[str, Any] | None:
    detail = connection.scalar(sa.select(t.acts.c.detail).where(t.acts.c.key == name))
    if detail is None:
        return None
    if detail.get("digest") != digest:
        raise Conflict("key: it was used for something else: a key names one act")
    answer: dict[str, Any] = detail["answer"]
    return answer
