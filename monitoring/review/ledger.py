"""The review queue on the database: everything that people do to cases goes through here.

One call is one act in one transaction: it looks at the cases as they stand, asks `monitoring.review.machine` what
becomes of them, writes standings, trail and truth, and answers. Who changes cases one by one names the edition that was
read; whoever comes second gets the present standing instead. An act can be undone as one, as far as nobody has changed
its cases since; an undo is an act too.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import Conflict, InvalidRequest
from monitoring.neighbours import Neighbours
from monitoring.review import leasing, machine
from monitoring.review.acts import Act, perform
from monitoring.review.asked import Changed, Decided, Decision, ImportedLabel, Leased, Preview, Selection
from monitoring.review.contracts import LEASE_S, ActKind
from monitoring.review.counts import Counts
from monitoring.review.deciding import Bulk, answered, check_verdict, imported, in_bulk, one_by_one, to_result, words_of
from monitoring.review.lines import CaseLine, read_lines, write_standings
from monitoring.review.machine import Refusal
from monitoring.review.marks import Marks
from monitoring.review.selection import select_cases
from monitoring.review.undo import undo_act
from monitoring.store import Store

MAX_DECISIONS = 500
MAX_LEASE = 50
MAX_LEASE_S = 8 * 3600
EXAMPLES = 24
COUNTED_S = 2.0  # how long a count of what waits is good


class Ledger(Marks):
    """See the module. Safe to use from several threads.

    Args:
        store: The monitor's database; on PostgreSQL any monitor's, working or standing by.
        neighbours: Finds like cases; of its own where None.
        clock: Nanoseconds since the epoch.
        counts: For the metrics.
    """

    def __init__(
        self,
        store: Store,
        *,
        neighbours: Neighbours | None = None,
        clock: Callable[[], int] = time.time_ns,
        counts: Counts | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.counts = counts or Counts()
        self._neighbours = neighbours or Neighbours(store)
        self._waiting: dict[str | None, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def lease(
        self, actor: str, count: int = 1, seconds: int = LEASE_S, skip: Sequence[str] = (), **which: str | None
    ) -> Leased:
        """Take the next cases; those that the actor has already come along, for longer.

        `which` is model, version, slice_id, tag, batch, as in `monitoring.review.leasing.next_cases`.

        Raises:
            InvalidRequest: count or seconds are out of range.
        """
        if not 1 <= count <= MAX_LEASE:
            raise InvalidRequest(f"count: 1 to {MAX_LEASE}")
        if not 1 <= seconds <= MAX_LEASE_S:
            raise InvalidRequest(f"seconds: 1 to {MAX_LEASE_S}")
        taken: list[CaseLine] = []

        def work(act: Act) -> dict[str, Any]:
            until = act.now_ns + seconds * 10**9
            ids = leasing.next_cases(act.connection, actor, act.now_ns, count, skip=skip, **which)
            taken[:], fresh = leasing.take(act.connection, actor, ids, until, act.now_ns)
            act.detail["taken"] = [case.id for case in taken]
            act.cases = fresh  # an extension is no act
            return {"until_ns": until}

        answer, act = perform(self.store, self.clock, ActKind.LEASE, actor, None, {"seconds": seconds}, None, work)
        self.counts.leased(act.cases if act is not None else 0)
        ids = tuple(case.id for case in taken)
        return Leased(cases=ids, until_ns=answer["until_ns"], waiting=self.waiting(which.get("model")))

    def release(self, actor: str, cases: Sequence[str]) -> int:
        """Give cases back; returns how many the actor had."""

        def work(act: Act) -> dict[str, Any]:
            moved = []
            for case in read_lines(act.connection, cases, lock=True).values():
                try:
                    moved.append((case, machine.release(case.standing, actor)))
                except Refusal:
                    continue
            write_standings(act.connection, moved)
            act.cases = len(moved)
            act.detail["released"] = [case.id for case, _ in moved]
            return {"released": len(moved)}

        answer, _ = perform(self.store, self.clock, ActKind.RELEASE, actor, None, {}, None, work)
        return int(answer["released"])

    def decide(self, actor: str, key: str | None, decisions: Sequence[Decision]) -> Decided:
        """Decide about cases one by one: what one refuses does not touch the others.

        Raises:
            InvalidRequest: too many, one case twice, or a verdict without its label.
            Conflict: the key was used for something else.
        """
        if not 1 <= len(decisions) <= MAX_DECISIONS:
            raise InvalidRequest(f"decisions: 1 to {MAX_DECISIONS}")
        if len({d.case for d in decisions}) < len(decisions):
            raise InvalidRequest("decisions: each case once")
        for d in decisions:
            check_verdict(d.verdict, d.label, d.comment)

        def work(act: Act) -> dict[str, Any]:
            changes, results = one_by_one(act.connection, actor, decisions, act.now_ns)
            act.apply(changes)
            return {"results": results}

        content = [[d.case, d.edition, d.verdict, d.label, d.comment] for d in decisions]
        answer, act = perform(self.store, self.clock, ActKind.DECIDE, actor, key, {}, content, work)
        results = tuple(to_result(x) for x in answer["results"])
        if act is not None:
            self.counts.decided(ActKind.DECIDE.value, act.verdicts, sum(not x.ok for x in results))
        return Decided(act=answer["act"], results=results)

    def preview(self, actor: str, asked: Bulk) -> Preview:
        """What `bulk` would do now."""
        check_verdict(asked.verdict, asked.label, asked.comment)
        with self.store.read() as connection:
            ids = self.select(connection, asked.selection)
            changes, skipped = in_bulk(connection, actor, asked, ids, self.clock())
        by = Counter(answered(x.case) for x in changes)
        return Preview(
            count=len(changes),
            examples=tuple(x.case.id for x in changes[:EXAMPLES]),
            by=dict(by.most_common(100)),
            skipped=skipped,
        )

    def bulk(self, actor: str, key: str | None, asked: Bulk) -> Changed:
        """Decide about everything in a selection, as one act.

        Raises:
            Conflict: the selection holds another number of cases than was expected, or the key was used otherwise.
        """
        check_verdict(asked.verdict, asked.label, asked.comment)

        def work(act: Act) -> dict[str, Any]:
            ids = self.select(act.connection, asked.selection)
            changes, skipped = in_bulk(act.connection, actor, asked, ids, act.now_ns, lock=True)
            if asked.expect is not None and asked.expect != len(changes):
                raise Conflict(f"{len(changes)} cases would change now, not {asked.expect}: look at them again")
            act.apply(changes)
            return {"changed": len(changes), "skipped": skipped}

        detail = {"selection": words_of(asked.selection), "verdict": asked.verdict.value, "comment": asked.comment}
        detail |= {} if asked.label is None else {"label": asked.label}
        content = [str(asked.selection), asked.verdict, asked.label, asked.comment, asked.again, asked.expect]
        answer, act = perform(self.store, self.clock, ActKind.BULK, actor, key, detail, content, work)
        if act is not None:
            self.counts.decided(ActKind.BULK.value, act.verdicts)
        return Changed(act=answer["act"], changed=answer["changed"], skipped=answer["skipped"])

    def import_labels(self, actor: str, key: str, items: Sequence[ImportedLabel], source: str) -> tuple[Changed, ...]:
        """Take over labels that were given elsewhere, as the opinions of those who gave them: one act a reviewer.

        The same key with the same items again changes nothing. A case that somebody has leased is decided all the same:
        the label was given when it was given. An opinion that a reviewer has given already, and that says the same, is
        skipped.

        Args:
            actor: Who imports; the author of labels without a reviewer.
            key: Names this import.
            items: Each case once a reviewer.
            source: Where from, for people: "label studio", a file's name.
        """
        groups: dict[str, list[ImportedLabel]] = {}
        for item in items:
            check_verdict(item.verdict, item.label, item.comment)
            groups.setdefault(item.reviewer or actor, []).append(item)
        made = []
        for reviewer, own in sorted(groups.items()):
            made.append(self._import(reviewer[:64], f"{actor}:{key}"[-100:], own, {"source": source, "by": actor}))
        return tuple(made)

    def undo(self, actor: str, key: str | None, act_id: int, only_of: str | None = None) -> Changed:
        """Take back an act, or an undo, as far as its cases have not been changed since.

        Raises:
            Forbidden: only acts of `only_of` may be undone, and this is another's.
            NotFound: there is no such act.
            Conflict: it has been undone already, or is of a kind that cannot be.
        """

        def work(act: Act) -> dict[str, Any]:
            changed, skipped = undo_act(act, act_id, only_of)
            return {"changed": changed, "skipped": skipped}

        answer, act = perform(self.store, self.clock, ActKind.UNDO, actor, key, {"act": act_id}, act_id, work)
        if act is not None:
            self.counts.took_back(answer["changed"])
        return Changed(act=answer["act"], changed=answer["changed"], skipped=answer["skipped"])

    def waiting(self, model: str | None = None) -> int:
        """How many cases wait for anybody; counted anew every few seconds."""
        now = time.monotonic()
        with self._lock:
            counted = self._waiting.get(model)
            if counted is None or now - counted[0] > COUNTED_S:
                with self.store.read() as connection:
                    counted = self._waiting[model] = (now, leasing.waiting_cases(connection, model))
            return counted[1]

    def select(self, connection: sa.Connection, selection: Selection) -> list[str]:
        """Ids of the cases of a selection."""
        return select_cases(connection, selection, self._neighbours, self.store.index)

    def _import(self, reviewer: str, key: str, items: Sequence[ImportedLabel], detail: Mapping[str, Any]) -> Changed:
        def work(act: Act) -> dict[str, Any]:
            changes, skipped = imported(act.connection, reviewer, items, act.now_ns)
            act.apply(changes)
            return {"changed": len(changes), "skipped": skipped}

        content = [[x.case, x.verdict, x.label, x.comment] for x in items]
        answer, act = perform(self.store, self.clock, ActKind.IMPORT, reviewer, key, detail, content, work)
        if act is not None:
            self.counts.decided(ActKind.IMPORT.value, act.verdicts)
        return Changed(act=answer["act"], changed=answer["changed"], skipped=answer["skipped"])
