"""What people do with slices, from the API's questions to the domain."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from export.contracts.errors import Forbidden, InvalidRequest, NotFound
from monitoring.api import fields
from monitoring.api import slice_models as m
from monitoring.api.finding_views import Findings
from monitoring.options import MonitorOptions
from monitoring.people.contracts import Principal, Role
from monitoring.review import test_sets
from monitoring.review.batches import BatchRow, batch, insert_batch
from monitoring.slice_queries import cases_of_slice
from monitoring.slices.acts import Acts, Doing, record, row_of
from monitoring.slices.issues import SliceAct
from monitoring.slices.split import choices, split

T = TypeVar("T")

_ANYBODY = frozenset({m.SliceDoing.COMMENT})  # every reviewer
MOST_PROTECTED = 5000


@dataclass(frozen=True, kw_only=True)
class SliceDesk:
    """Where slices are worked on.

    Attributes:
        findings: Reads slices and cases.
        searching: How spans are read, for splits; None where this process does not know.
        clock: Wall clock.
    """

    findings: Findings
    searching: MonitorOptions | None
    clock: Callable[[], datetime]

    @property
    def acts(self) -> Acts:
        """On one slice."""
        return Acts(self.findings.view.store)

    def do(self, identity: str, asked: m.SliceActAsked, who: Principal) -> None:
        """Do what is asked.

        Raises:
            Forbidden: only operators may do this.
            InvalidRequest: something that it needs is missing.
            Conflict: the slice was changed meanwhile, or this cannot be done to it now.
        """
        if asked.act not in _ANYBODY and not who.role.covers(Role.OPERATOR):
            raise Forbidden(f"this needs the role 'operator'; {who.name} is '{who.role}'")
        acts, doing = self.acts, self._doing(who, asked.key, asked.edition)
        match asked.act:
            case m.SliceDoing.ACKNOWLEDGE:
                acts.acknowledge(identity, doing)
            case m.SliceDoing.OWN:
                acts.own(identity, doing, asked.owner)
            case m.SliceDoing.FIX:
                acts.fix(identity, doing, asked.version or "")
            case m.SliceDoing.IGNORE:
                acts.ignore(identity, doing, asked.grows)
            case m.SliceDoing.REOPEN:
                acts.reopen(identity, doing)
            case m.SliceDoing.MERGE:
                acts.merge(identity, doing, _given(asked.into, "into"))
            case m.SliceDoing.UNMERGE:
                acts.unmerge(identity, doing)
            case m.SliceDoing.COMMENT:
                acts.comment(identity, doing, asked.text)
            case m.SliceDoing.WATCH:
                acts.watch(identity, doing, _given(asked.limit, "limit"))
            case m.SliceDoing.UNWATCH:
                acts.unwatch(identity, doing)
            case m.SliceDoing.SPLIT:
                by, options = _given(asked.by or None, "by"), self._searching()
                split(self.findings.view.store, self.findings.baselines, options, identity, by, doing)

    def choices(self, identity: str) -> m.SplitChoices:
        """By what it can be split."""
        store = self.findings.view.store
        with store.read() as connection:
            row_of(connection, identity)
        if self.searching is None:
            return m.SplitChoices(choices=[])
        found, _ = choices(store, self.findings.baselines, self.searching, identity)
        return m.SplitChoices(choices=[m.SplitChoice.model_validate(one) for one in found])

    def batch(self, identity: str, asked: m.SliceBatchAsked, who: Principal) -> BatchRow:
        """Make a labelling batch of its cases."""
        store, doing = self.findings.view.store, self._doing(who, asked.key)
        cases = cases_of_slice(store, identity, asked.limit)
        with store.write() as connection:
            row = row_of(connection, identity)
            if not cases:
                raise InvalidRequest("none of its requests is kept as a case: there is nothing to label")
            name = asked.name or row["words"][:1].upper() + row["words"][1:120]
            about = {"slice_id": identity, "note": asked.note}
            made = insert_batch(connection, who.name, name, cases, doing.now_ns, key=asked.key, **about)
            record(connection, row, SliceAct.BATCH, doing, {"batch": made, "name": name})
        return batch(store, made)

    def test_set(self, identity: str, asked: m.TestSetAsked, who: Principal) -> m.TestSet:
        """Make a protected test set of its cases whose truth is known."""
        store, doing = self.findings.view.store, self._doing(who, asked.key)
        cases = cases_of_slice(store, identity, MOST_PROTECTED)
        with store.write() as connection:
            row = row_of(connection, identity)
            made = test_sets.insert_test_set(
                connection,
                actor=who.name,
                name=asked.name,
                cases=cases,
                now_ns=doing.now_ns,
                slice_id=identity,
                words=row["words"],
                key=asked.key,
            )
            record(connection, row, SliceAct.TEST_SET, doing, {"test_set": made, "name": asked.name})
        return self.one_set(made)

    def sets(self, query: m.TestSetQuery) -> list[m.TestSet]:
        """Test sets."""
        return [_set(row) for row in test_sets.all_sets(self.findings.view.store, query.model, query.slice)]

    def one_set(self, identity: str) -> m.TestSet:
        """One test set.

        Raises:
            NotFound: there is none.
        """
        rows = test_sets.all_sets(self.findings.view.store, identity=identity)
        if not rows:
            raise NotFound("there is no test set with this id")
        return _set(rows[0])

    def items(self, identity: str, query: m.TestSetItemQuery) -> m.TestSetItems:
        """A page of a test set."""
        rows = test_sets.items_of(self.findings.view.store, identity, query.after, query.limit)
        return m.TestSetItems(items=[_item(i) for i in rows], next=rows[-1].position if _full(rows, query) else None)

    def history(self, identity: str) -> m.SliceHistory:
        """What was done about a slice."""
        self.findings.slice(identity, 0)
        made = [
            m.SliceEvent.model_validate(
                {n: getattr(e, n) for n in m.SliceEvent.model_fields if n != "time"}
                | {"time": fields.from_ns(e.time_ns)}
            )
            for e in self.acts.history(identity)
        ]
        return m.SliceHistory(events=made)

    def _doing(self, who: Principal, key: str | None, edition: int | None = None) -> Doing:
        return Doing(actor=who.name, now_ns=int(self.clock().timestamp() * 1e9), key=key, edition=edition)

    def _searching(self) -> MonitorOptions:
        if self.searching is None:
            raise InvalidRequest("this console does not search for slices, so it cannot split them")
        return self.searching


def _full(rows: list[test_sets.SetItem], query: m.TestSetItemQuery) -> bool:
    return len(rows) == query.limit


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise InvalidRequest(f"{name}: this act needs it")
    return value


def _set(row: test_sets.SetRow) -> m.TestSet:
    same = {name: getattr(row, name) for name in m.TestSet.model_fields if hasattr(row, name)}
    return m.TestSet.model_validate(
        same | {"slice": row.slice_id or None, "created_at": fields.from_ns(row.created_ns)}
    )


def _item(row: test_sets.SetItem) -> m.TestSetItem:
    same = {name: getattr(row, name) for name in m.TestSetItem.model_fields if hasattr(row, name)}
    told = {"case": row.case_id, "time": fields.from_ns(row.time_ns), "label": json.loads(row.label)}
    return m.TestSetItem.model_validate(same | told)
