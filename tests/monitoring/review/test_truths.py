"""What people decide becomes truth: in records, windows, estimates and audits; and an undo takes all of it back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from export.contracts.cases import CaseState, FlagReason
from monitoring import schema as t
from monitoring.cases import Candidate, admit
from monitoring.cycle import Loop, make_loop
from monitoring.flags import FLAG_BITS
from monitoring.options import CaseOptions, RetentionOptions
from monitoring.records.record import Feedback
from monitoring.retention import apply_retention
from monitoring.review.asked import Decision, Selection
from monitoring.review.contracts import Verdict
from monitoring.review.ledger import Ledger
from monitoring.review.settle import settle_due
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain
from tests.support.review_cases import Clock, fill

AUDIT = FLAG_BITS[FlagReason.AUDIT]
PEOPLES = {"edition", "lease_by", "lease_until_ns"}  # what an undo does not put back
DERIVED = ("windows", "records", "cases", "accuracy_estimates", "audit_labels", "signals", "alarms")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    root = tmp_path_factory.mktemp("truth")
    w.day(root / "records", seconds=40, rate=16, shift_from=20)
    options = w.options(root, cases=CaseOptions(audit_rate=0.1))
    made = make_loop(options, Store(options.database_url), w.catalogue(root / "reference"))
    drain(made)
    yield made
    made.store.close()


def settle(loop: Loop) -> None:
    """What the loop's duty does, without the others."""
    more = True
    while more:
        with loop.store.write() as connection:
            more = settle_due(connection, loop.ingest)


def derived(store: Store) -> dict[str, Any]:
    with store.read() as connection:
        found = {}
        for name in DERIVED:
            numbers = set() if name in ("cases", "audit_labels") else {"id"}
            columns = [c for c in t.metadata.tables[name].c if c.name not in PEOPLES | numbers]
            found[name] = sorted(map(repr, connection.execute(sa.select(*columns))))
        return found


def unlabelled(store: Store, audited: bool) -> list[Any]:
    c = t.cases.c
    audit = c.flags.op("&")(AUDIT)
    query = sa.select(t.cases).where(c.label.is_(None), c.predicted.is_not(None), c.state == "open")
    with store.read() as connection:
        return list(connection.execute(query.where(audit != 0 if audited else audit == 0).order_by(c.id)).mappings())


def totals(store: Store) -> tuple[int, ...]:
    names = ("labelled", "correct", "audit_labelled", "audit_correct")
    with store.read() as connection:
        return tuple(connection.execute(sa.select(*(sa.func.sum(t.windows.c[n]) for n in names))).one())


def case(store: Store, identity: str) -> Any:
    with store.read() as connection:
        return connection.execute(sa.select(t.cases).where(t.cases.c.id == identity)).mappings().one()


def test_verdicts_reach_windows_and_audits_and_an_undo_takes_them_back(loop: Loop) -> None:
    store, ledger = loop.store, Ledger(loop.store)
    before, counted = derived(store), totals(store)
    audited, others = unlabelled(store, audited=True)[:4], unlabelled(store, audited=False)[:8]
    assert (len(audited), len(others)) == (4, 8)
    other_name = {x["id"]: w.NAMES[(x["predicted"] + 1) % 10] for x in (*audited, *others)}
    right = [Decision(case=x["id"], verdict=Verdict.CORRECT) for x in (*audited[:2], *others[:4])]
    wrong = [
        Decision(case=x["id"], verdict=Verdict.LABEL, label=other_name[x["id"]]) for x in (*audited[2:3], *others[4:6])
    ]
    unknown = [Decision(case=x["id"], verdict=Verdict.WRONG) for x in (*audited[3:], *others[6:7])]
    nothing = [Decision(case=others[7]["id"], verdict=Verdict.DISMISS)]
    act = ledger.decide("ann", "k", [*right, *wrong, *unknown, *nothing]).act
    assert totals(store) == counted  # nothing yet: the loop settles
    settle(loop)
    assert totals(store) == (counted[0] + 11, counted[1] + 6, counted[2] + 4, counted[3] + 2)
    a = t.audit_labels.c
    with store.read() as connection:
        rows = connection.execute(sa.select(a.id, a.wrong).where(a.id.in_([x["id"] for x in audited])))
        assert dict(map(tuple, rows)) == {x["id"]: float(i >= 2) for i, x in enumerate(audited)}
    first, last = case(store, audited[0]["id"]), case(store, audited[3]["id"])
    assert json.loads(first["label"]) == first["predicted_label"]
    assert (first["correct"], first["state"]) == (True, "labelled")
    assert (last["label"], last["correct"], last["state"], last["verdict"]) == (None, False, "labelled", "wrong")
    assert case(store, others[7]["id"])["state"] == "dismissed"
    ledger.undo("ann", "u", act)
    settle(loop)
    loop.roster.finish(loop)
    assert totals(store) == counted
    after = derived(store)
    for name in DERIVED:
        assert after[name] == before[name], name


def test_a_verdict_counts_in_the_duties_of_the_loop(loop: Loop) -> None:
    ledger, counted = Ledger(loop.store), totals(loop.store)
    (one,) = unlabelled(loop.store, audited=True)[:1]
    ledger.decide("ann", "duty", [Decision(case=one["id"], verdict=Verdict.CORRECT)])
    drain(loop)
    assert totals(loop.store)[2] == counted[2] + 1
    with loop.store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.settle_due)) == 0


def test_a_label_of_the_application_stands_beside_a_verdict_and_after_its_undo(loop: Loop) -> None:
    store, ledger = loop.store, Ledger(loop.store)
    (one,) = unlabelled(store, audited=False)[:1]
    act = ledger.decide("ann", "k2", [Decision(case=one["id"], verdict=Verdict.DISMISS)]).act
    said = Feedback(record_id=one["record_id"], model="digits", time_ns=one["time_ns"] + 1, label="seven")
    writer = w.Replica(loop.options.records_root, "late")
    writer.feedback(said)
    writer.close()
    drain(loop)
    assert (case(store, one["id"])["state"], case(store, one["id"])["label"]) == ("dismissed", '"seven"')
    ledger.undo("ann", "u2", act)
    settle(loop)
    assert case(store, one["id"])["state"] == CaseState.LABELLED.value  # by the application, as if nobody had decided


def test_a_changed_verdict_replaces_the_truth_of_the_first(loop: Loop) -> None:
    store, ledger = loop.store, Ledger(loop.store)
    (one,) = unlabelled(store, audited=False)[:1]
    counted, wrong = totals(store), w.NAMES[(one["predicted"] + 1) % 10]
    ledger.decide("ann", "c1", [Decision(case=one["id"], verdict=Verdict.LABEL, label=wrong)])
    settle(loop)
    assert case(store, one["id"])["flags"] & FLAG_BITS[FlagReason.NEGATIVE_FEEDBACK]
    second = ledger.decide("bob", "c2", [Decision(case=one["id"], verdict=Verdict.CORRECT)]).act
    settle(loop)
    assert totals(store)[:2] == (counted[0] + 1, counted[1] + 1)
    assert not case(store, one["id"])["flags"] & FLAG_BITS[FlagReason.NEGATIVE_FEEDBACK]
    ledger.undo("bob", "c3", second)
    settle(loop)
    assert totals(store)[:2] == (counted[0] + 1, counted[1])
    assert json.loads(case(store, one["id"])["label"]) == wrong


def test_what_people_touched_stays_when_better_cases_and_retention_come(tmp_path: Path) -> None:
    store, clock = Store(f"sqlite:///{tmp_path}/m.db"), Clock(time.time_ns())
    ledger = Ledger(store, clock=clock)
    ids = fill(store, 8)
    ledger.comment("ann", "1", Selection(cases=(ids[0],)), "odd")
    ledger.tag("ann", "2", Selection(cases=(ids[1],)), add=["night"])
    ledger.prioritise("ann", "3", Selection(cases=(ids[2],)), -1)
    ledger.undo("ann", "5", ledger.decide("ann", "4", [Decision(case=ids[3], verdict=Verdict.CORRECT)]).act)
    held = {ids[0], ids[1], ids[2], ids[3], *ledger.lease("bob", 1).cases, *ledger.lease("ann", 1).cases}
    row = {"model": "digits", "version": "1"}
    with store.write() as connection:
        start = connection.scalar(sa.select(t.cases.c.window_start_s).limit(1))
        facts = case_row(connection, ids[7]) | {"record_id": "better"}
        better = Candidate(
            id="f" * 16,
            flags=FLAG_BITS[FlagReason.LOW_CONFIDENCE],
            rank=0.99,
            audit_rank=0.5,
            load=lambda: None,
            known=lambda: facts,
        )
        admit(connection, row["model"], row["version"], start, [better], CaseOptions(scored_per_window=1))
        left = set(connection.scalars(sa.select(t.cases.c.id)))
    assert held <= left
    assert len(left) < 9
    with store.write() as connection:
        apply_retention(connection, 1e12, RetentionOptions(case_rows=len(held)))
        assert set(connection.scalars(sa.select(t.cases.c.id))) == held
    store.close()


def case_row(connection: sa.Connection, identity: str) -> dict[str, Any]:
    row = connection.execute(sa.select(t.cases).where(t.cases.c.id == identity)).mappings().one()
    same = ("id_hash", "record_id", "model", "version", "variant", "time_ns", "p_wrong", "confidence", "predicted",
            "predicted_label", "scores", "probabilities", "answer", "outcome", "error", "rows", "row",
            "inclusion_probability", "timing_us", "params", "trace_id", "tags", "source", "input_state")  # fmt: skip
    return {name: row[name] for name in same}
