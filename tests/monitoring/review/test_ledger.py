"""The ledger on a database: leases, decisions, bulk, undo, retries with a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from export.contracts.cases import CaseState
from export.contracts.errors import Conflict, InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.review.asked import Decision, ImportedLabel, Selection
from monitoring.review.contracts import Verdict
from monitoring.review.deciding import Bulk
from monitoring.review.ledger import Ledger
from monitoring.review.lines import read_lines
from monitoring.store import Store
from tests.support.review_cases import Clock, fill


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/monitor.db")
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock=clock)


def correct(case: str, edition: int | None = 0) -> Decision:
    return Decision(case=case, verdict=Verdict.CORRECT, edition=edition)


def label(case: str, value: object, edition: int | None = 0) -> Decision:
    return Decision(case=case, verdict=Verdict.LABEL, label=value, edition=edition)


def standing(store: Store, case: str):
    with store.read() as connection:
        return read_lines(connection, [case])[case].standing


def truths(store: Store) -> list[tuple[str, str, bool]]:
    f = t.feedback.c
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(sa.select(f.record_id, f.label, f.withdrawn).order_by(f.id))]


def test_two_reviewers_get_different_cases_in_the_order_of_the_queue(store: Store, ledger: Ledger):
    ids = fill(store, 5)
    assert ledger.lease("ann", 2).cases == tuple(ids[:2])
    assert ledger.lease("bob", 2).cases == tuple(ids[2:4])
    again = ledger.lease("ann", 3)
    assert again.cases == (*ids[:2], ids[4])
    assert again.waiting == 5


def test_a_lease_that_is_past_is_no_lease(store: Store, ledger: Ledger, clock: Clock):
    ids = fill(store, 1)
    assert ledger.lease("ann", 1, seconds=60).cases == tuple(ids)
    clock.advance(59)
    assert ledger.lease("bob").cases == ()
    refused = ledger.decide("bob", "k1", [correct(ids[0])]).results[0]
    assert not refused.ok
    assert "ann has this case" in refused.conflict
    clock.advance(2)
    assert ledger.lease("bob").cases == tuple(ids)
    refused = ledger.decide("ann", "k2", [correct(ids[0])]).results[0]
    assert "bob has this case" in refused.conflict


def test_a_decision_is_made_once_and_becomes_truth(store: Store, ledger: Ledger):
    ids = fill(store, 3)
    first = ledger.decide("ann", "k", [correct(ids[0]), label(ids[1], "two")])
    assert [r.ok for r in first.results] == [True, True]
    assert ledger.decide("ann", "k", [correct(ids[0]), label(ids[1], "two")]) == first
    with pytest.raises(Conflict, match="key"):
        ledger.decide("ann", "k", [correct(ids[2])])
    assert ledger.decide("bob", "k", [correct(ids[2])]).results[0].ok  # a key is its actor's own
    assert standing(store, ids[1]).state is CaseState.LABELLED
    assert [(r, w) for r, _, w in truths(store)] == [("r0", False), ("r1", False), ("r2", False)]
    assert truths(store)[1][1] == '"two"'
    late = ledger.decide("bob", "k2", [label(ids[1], "four")]).results[0]
    assert late.standing is not None
    assert late.standing.decided_by == "ann"
    assert late.conflict == "this case was changed since you read it: ann said label"


def test_an_undo_takes_the_truth_back_and_an_undo_of_it_puts_it_again(store: Store, ledger: Ledger):
    ids = fill(store, 2)
    act = ledger.decide("ann", "k", [label(ids[0], "two")]).act
    undone = ledger.undo("ann", "u", act)
    assert undone.changed == 1
    assert not undone.skipped
    assert standing(store, ids[0]).state is CaseState.OPEN
    assert standing(store, ids[0]).lease_by == "ann"
    assert truths(store) == [("r0", '"two"', True)]
    with pytest.raises(Conflict, match="undone already"):
        ledger.undo("ann", "u2", act)
    assert ledger.undo("ann", "u3", undone.act).changed == 1
    assert standing(store, ids[0]).label == '"two"'
    assert truths(store) == [("r0", '"two"', False)]
    assert ledger.undo("ann", "u4", act).changed == 1
    assert truths(store) == [("r0", '"two"', True)]
    with pytest.raises(NotFound):
        ledger.undo("ann", "u5", 999)


def test_an_undo_leaves_what_somebody_changed_since(store: Store, ledger: Ledger, clock: Clock):
    ids = fill(store, 3)
    act = ledger.bulk("ann", "b", Bulk(selection=Selection(filter={"model": "digits"}), verdict=Verdict.CORRECT)).act
    assert ledger.decide("bob", "k", [label(ids[1], "nine", 1)]).results[0].ok
    undone = ledger.undo("ann", "u", act)
    assert (undone.changed, undone.skipped) == (2, {"changed since": 1})
    assert standing(store, ids[1]).decided_by == "bob"
    assert [w for _, _, w in truths(store)] == [True, True, True, False]


def test_a_bulk_decision_skips_what_is_settled_or_leased_and_says_so(store: Store, ledger: Ledger):
    ids = fill(store, 6)
    ledger.decide("ann", "k", [correct(ids[5])])
    assert ledger.lease("bob", 1).cases == (ids[0],)
    asked = Bulk(selection=Selection(cases=(*ids, "f" * 16)), verdict=Verdict.DISMISS)
    seen = ledger.preview("ann", asked)
    assert (seen.count, seen.examples) == (4, tuple(ids[1:5]))
    assert seen.skipped == {"leased": 1, "settled": 1, "gone": 1}
    with pytest.raises(Conflict, match="look at them again"):
        ledger.bulk("ann", "b0", Bulk(selection=asked.selection, verdict=Verdict.DISMISS, expect=6))
    done = ledger.bulk("ann", "b", Bulk(selection=asked.selection, verdict=Verdict.DISMISS, expect=4))
    assert (done.changed, done.skipped) == (4, seen.skipped)
    assert standing(store, ids[1]).state is CaseState.DISMISSED
    with pytest.raises(InvalidRequest, match="exactly one"):
        ledger.preview("ann", Bulk(selection=Selection(), verdict=Verdict.DISMISS))


def test_a_second_opinion_is_somebody_elses(store: Store, ledger: Ledger):
    (case,) = fill(store, 1)
    ledger.ask_opinions("op", "o", Selection(cases=(case,)), 2)
    assert ledger.decide("ann", "1", [label(case, "two", 1)]).results[0].ok
    assert standing(store, case).state is CaseState.SECOND_OPINION
    assert truths(store) == []
    assert ledger.lease("ann").cases == ()
    assert "given your opinion" in ledger.decide("ann", "2", [label(case, "two", 2)]).results[0].conflict
    assert ledger.lease("bob").cases == (case,)
    assert ledger.decide("bob", "3", [label(case, "three", 2)]).results[0].ok
    assert ledger.decide("cid", "4", [label(case, "three", 3)]).results[0].ok
    assert standing(store, case).label == '"three"'
    assert truths(store) == [("r0", '"three"', False)]


def test_imported_labels_are_the_opinions_of_their_reviewers(store: Store, ledger: Ledger):
    ids = fill(store, 4)
    ledger.lease("bob", 2)
    items = [ImportedLabel(case=x, label="two", reviewer="ann@tool") for x in ids[:3]]
    items.append(ImportedLabel(case=ids[3], label="one"))
    first = ledger.import_labels("studio", "batch-1", items, "label studio")
    assert [x.changed for x in first] == [3, 1]
    assert ledger.import_labels("studio", "batch-1", items, "label studio") == first
    twice = ledger.import_labels("studio", "batch-2", items, "label studio")
    assert [x.skipped for x in twice] == [{"said already": 3}, {"said already": 1}]
    assert standing(store, ids[0]).decided_by == "ann@tool"


def test_marks_move_the_order_and_are_undone(store: Store, ledger: Ledger):
    ids = fill(store, 4)
    urgent = ledger.prioritise("op", "p", Selection(cases=(ids[3],)), 5)
    mine = ledger.assign("op", "a", Selection(cases=(ids[0],)), "bob")
    tagged = ledger.tag("op", "t", Selection(cases=tuple(ids)), add=["night", "rain"])
    ledger.tag("op", "t2", Selection(cases=(ids[0],)), remove=["rain"], add=["fog"])
    ledger.comment("ann", "c", Selection(cases=(ids[0],)), "look at the shadow")
    assert ledger.lease("ann", 4, tag="night").cases == (ids[3], ids[1], ids[2])
    assert ledger.lease("bob", 4).cases == (ids[0],)
    assert ledger.undo("op", "u", tagged.act).changed == 4
    with store.read() as connection:
        left = [tuple(row) for row in connection.execute(sa.select(t.case_tags).order_by(t.case_tags.c.tag))]
    assert left == [(ids[0], "fog")]
    assert ledger.undo("op", "u2", mine.act).changed == ledger.undo("op", "u3", urgent.act).changed == 1
    assert (standing(store, ids[0]).assignee, standing(store, ids[3]).priority) == ("", 0)


def test_unclear_asks_somebody_else_once(store: Store, ledger: Ledger):
    (case,) = fill(store, 1)
    unclear = Decision(case=case, verdict=Verdict.UNCLEAR)
    assert ledger.decide("ann", "1", [unclear]).results[0].standing.state is CaseState.SECOND_OPINION
    after = ledger.decide("bob", "2", [unclear]).results[0].standing
    assert (after.state, after.verdict) == (CaseState.DISMISSED, "unclear")
