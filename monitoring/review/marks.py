"""What people do to cases besides deciding about them: who shall look, how soon, how many, tags, comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import InvalidRequest
from monitoring.review import machine
from monitoring.review.acts import Act, perform
from monitoring.review.asked import Changed, Selection
from monitoring.review.contracts import ActKind, Standing
from monitoring.review.deciding import MAX_COMMENT, words_of
from monitoring.review.lines import CaseLine, Change, read_lines, read_opinions
from monitoring.review.machine import Refusal
from monitoring.review.tags import set_tags, tags_of
from monitoring.store import Store

MAX_NAME = 64
TAG = re.compile(r"[^\s,\x00-\x1f\x7f][^,\x00-\x1f\x7f]{0,63}")
MOST_TAGS = 20  # added or removed by one act


class Marks:
    """A part of `monitoring.review.ledger.Ledger`: every method is one act over a selection."""

    store: Store
    clock: Callable[[], int]

    def select(self, connection: sa.Connection, selection: Selection) -> list[str]:
        """Ids of the cases of a selection."""
        raise NotImplementedError

    def assign(self, actor: str, key: str | None, selection: Selection, assignee: str) -> Changed:
        """Say who shall look; "" is anybody."""
        if len(assignee) > MAX_NAME:
            raise InvalidRequest(f"assignee: at most {MAX_NAME} characters")
        return self._move(
            ActKind.ASSIGN, actor, key, selection, {"assignee": assignee}, lambda s: machine.assign(s, assignee)
        )

    def prioritise(self, actor: str, key: str | None, selection: Selection, priority: int) -> Changed:
        """Move cases before (or behind, below 0) the queue's own order."""
        if abs(priority) > machine.MOST_PRIORITY:
            raise InvalidRequest(f"priority: -{machine.MOST_PRIORITY} to {machine.MOST_PRIORITY}")
        return self._move(
            ActKind.PRIORITISE, actor, key, selection, {"priority": priority}, lambda s: machine.prioritise(s, priority)
        )

    def ask_opinions(self, actor: str, key: str | None, selection: Selection, opinions: int) -> Changed:
        """Ask for the opinions of so many people; a case with fewer goes back to the queue."""
        if not 1 <= opinions <= machine.MOST_OPINIONS:
            raise InvalidRequest(f"opinions: 1 to {machine.MOST_OPINIONS}")

        def changes(act: Act, lines: Sequence[CaseLine]) -> list[Change]:
            given = read_opinions(act.connection, [x.id for x in lines if x.standing.edition > 0])
            wanted = [x for x in lines if x.standing.opinions != opinions]
            return [
                Change(case=x, after=machine.ask_opinions(x.standing, opinions, given.get(x.id, ()), act.now_ns))
                for x in wanted
            ]

        return self._act(ActKind.OPINION, actor, key, selection, {"opinions": opinions}, changes)

    def tag(
        self, actor: str, key: str | None, selection: Selection, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> Changed:
        """Add and remove tags.

        Raises:
            InvalidRequest: nothing to do, too many, or a tag with a comma, a control character, or over 64 characters.
        """
        plus, minus = (tuple(dict.fromkeys(x.strip() for x in names)) for names in (add, remove))
        if not 1 <= len(plus) + len(minus) <= MOST_TAGS or set(plus) & set(minus):
            raise InvalidRequest(f"tags: 1 to {MOST_TAGS} to add or to remove, each once")
        for tag in (*plus, *minus):
            if not TAG.fullmatch(tag):
                raise InvalidRequest("tags: 1 to 64 characters without commas and control characters")

        def changes(act: Act, lines: Sequence[CaseLine]) -> list[Change]:
            known = tags_of(act.connection, [x.id for x in lines])
            made = []
            for line in lines:
                before = known.get(line.id, ())
                after = tuple(sorted({*before, *plus} - {*minus}))
                if after != before:
                    made.append(Change(case=line, after=line.standing, tags_before=before, tags_after=after))
            set_tags(act.connection, [(x.case.id, x.tags_before, x.tags_after) for x in made])
            return made

        return self._act(ActKind.TAG, actor, key, selection, {"add": list(plus), "remove": list(minus)}, changes)

    def comment(self, actor: str, key: str | None, selection: Selection, comment: str) -> Changed:
        """Say something about cases without deciding."""
        text = comment.strip()
        if not 1 <= len(text) <= MAX_COMMENT:
            raise InvalidRequest(f"comment: 1 to {MAX_COMMENT} characters")
        return self._act(
            ActKind.COMMENT,
            actor,
            key,
            selection,
            {"comment": text},
            lambda act, lines: [Change(case=x, after=x.standing, comment=text) for x in lines],
        )

    def _move(
        self,
        kind: ActKind,
        actor: str,
        key: str | None,
        selection: Selection,
        detail: dict[str, Any],
        step: Callable[[Standing], Standing],
    ) -> Changed:
        def changes(act: Act, lines: Sequence[CaseLine]) -> list[Change]:
            moved = [Change(case=x, after=step(x.standing)) for x in lines]
            return [x for x in moved if x.after != x.case.standing]

        return self._act(kind, actor, key, selection, detail, changes)

    def _act(
        self,
        kind: ActKind,
        actor: str,
        key: str | None,
        selection: Selection,
        detail: dict[str, Any],
        changes: Callable[[Act, Sequence[CaseLine]], list[Change]],
    ) -> Changed:
        def work(act: Act) -> dict[str, Any]:
            ids = self.select(act.connection, selection)
            lines = read_lines(act.connection, ids, lock=True)
            try:
                made = changes(act, [lines[x] for x in ids if x in lines])
            except Refusal as refusal:
                raise InvalidRequest(str(refusal)) from None
            act.apply(made)
            left = {"gone": len(ids) - len(lines), "as it was": len(lines) - len(made)}
            return {"changed": len(made), "skipped": {why: n for why, n in left.items() if n}}

        whole = detail | {"selection": words_of(selection)}
        answer, _ = perform(self.store, self.clock, kind, actor, key, whole, [detail, str(selection)], work)
        return Changed(act=answer["act"], changed=answer["changed"], skipped=answer["skipped"])
