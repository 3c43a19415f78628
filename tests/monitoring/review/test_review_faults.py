"""F44: two people on one case at once; the monitor dies between its answer and the loop's work; both databases."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.review.asked import Decided, Decision, ImportedLabel, Selection
from monitoring.review.contracts import Verdict
from monitoring.review.deciding import Bulk
from monitoring.review.ledger import Ledger
from monitoring.review.trail import agreement_of, history
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support import review_child
from tests.support.postgres import Postgres, postgres
from tests.support.review_cases import fill

ROUNDS = 6


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two monitors' stores: on PostgreSQL of two processes' worth, on SQLite one file is one process's."""
    if request.param == "sqlite":
        store = Store(f"sqlite:///{tmp_path}/m.db")
        yield store, store
        store.close()
        return
    server: Postgres = request.getfixturevalue("server")
    url = server.database(request.node.name[:60])
    first, second = Store(url), Store(url)
    yield first, second
    first.close()
    second.close()


def at_once(*works: Any) -> list[Any]:
    """Run at the same moment; what each returned, or raised."""
    gate, out = threading.Barrier(len(works)), [None] * len(works)

    def run(i: int) -> None:
        gate.wait()
        try:
            out[i] = works[i]()
        except Exception as error:  # handed to the test
            out[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return out


def test_of_two_who_decide_at_once_one_does_and_the_other_is_shown(stores: tuple[Store, Store]) -> None:
    ann, bob = Ledger(stores[0]), Ledger(stores[1])
    ids = fill(stores[0], ROUNDS)
    won: Counter[str] = Counter()
    for i, case in enumerate(ids):
        made = at_once(
            lambda case=case, i=i: ann.decide(
                "ann", f"a{i}", [Decision(case=case, verdict=Verdict.CORRECT, edition=0)]
            ),
            lambda case=case, i=i: bob.decide(
                "bob", f"b{i}", [Decision(case=case, verdict=Verdict.DISMISS, edition=0)]
            ),
        )
        assert all(isinstance(x, Decided) for x in made), made
        first, second = (x.results[0] for x in made)
        assert first.ok != second.ok
        winner, loser = ("ann", second) if first.ok else ("bob", first)
        won[winner] += 1
        assert loser.standing is not None
        assert loser.standing.decided_by == winner
        (step,) = history(stores[0], case)  # the trail holds what was done, and no more
        assert step.act.actor == winner
    with stores[0].read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.feedback)) == won["ann"]


def test_of_two_who_lease_at_once_nobody_gets_the_others_case(stores: tuple[Store, Store]) -> None:
    fill(stores[0], 40)
    for _ in range(4):
        got = at_once(*(lambda i=i: Ledger(stores[i]).lease(f"p{i}", 10).cases for i in range(2)))
        assert all(isinstance(x, tuple) for x in got), got
        assert not set(got[0]) & set(got[1])


def test_one_key_used_at_once_is_one_act(stores: tuple[Store, Store]) -> None:
    ids = fill(stores[0], 30)
    asked = Bulk(selection=Selection(cases=tuple(ids)), verdict=Verdict.DISMISS)
    one, other = at_once(*(lambda i=i: Ledger(stores[i]).bulk("ann", "once", asked) for i in range(2)))
    assert one == other
    assert one.changed == 30
    undone = at_once(*(lambda i=i: Ledger(stores[i]).undo("ann", "u", one.act) for i in range(2)))
    assert undone[0] == undone[1]
    with stores[0].read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.acts)) == 2


def test_everything_else_works_on_both_databases(stores: tuple[Store, Store]) -> None:
    ledger, ids = Ledger(stores[0]), fill(stores[0], 6)
    cases = Selection(cases=tuple(ids[:2]))
    ledger.ask_opinions("op", "o", cases, 2)
    ledger.tag("op", "t", cases, add=["night"])
    ledger.comment("ann", "c", cases, "dark")
    items = [ImportedLabel(case=x, label=y, reviewer=p) for x, y, p in ((ids[0], "a", "p"), (ids[0], "a", "q"))]
    assert [x.changed for x in ledger.import_labels("tool", "i", items, "file")] == [1, 1]
    filtered = Selection(filter={"model": "digits", "tag": "night", "state": None})
    bulk = ledger.bulk("ann", "b", Bulk(selection=filtered, verdict=Verdict.LABEL, label="a"))
    assert (bulk.changed, bulk.skipped) == (1, {"settled": 1})
    ledger.decide("bob", "d", [Decision(case=ids[1], verdict=Verdict.LABEL, label="b")])
    agreed = agreement_of(stores[0])
    assert (agreed.pairs, agreed.share) == (2, 0.5)
    assert len(history(stores[0], ids[0])) == 5


def start(folder: Path, log: Path, reference: Path, every_s: float) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-u", review_child.__file__, str(folder), str(log), str(reference), str(every_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready "):
            return process, line.split()[1]
    raise AssertionError("the monitor ended before it was ready")


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.fault
@pytest.mark.timeout(300)
def test_a_monitor_killed_between_answer_and_truth_settles_after_its_next_start(tmp_path: Path) -> None:
    log, reference = tmp_path / "log", tmp_path / "reference"
    w.day(log, seconds=12, rate=16, shift_from=6, seed=9)
    w.catalogue(reference)
    process, address = start(tmp_path, log, reference, every_s=3600.0)  # the loop's turn is far away
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        taken = client.post("/api/review/lease", json={"count": 8}).json()["cases"]
        asked = [
            {"case": c["id"], "edition": c["standing"]["edition"], "verdict": "correct"}
            for c in taken
            if c["predicted"] is not None
        ]
        done = client.post("/api/review/decisions", json={"key": "k", "decisions": asked}).json()
    end(process)
    assert len(asked) >= 4
    assert all(r["ok"] for r in done["results"])
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    with store.read() as connection:
        due = connection.scalar(sa.select(sa.func.count()).select_from(t.settle_due))
    labelled = sum(x.labelled for x in store.windows("digits"))
    store.close()
    assert due == len(asked)  # positive control: it died with the work undone
    process, address = start(tmp_path, log, reference, every_s=0.05)
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        again = client.post("/api/review/decisions", json={"key": "k", "decisions": asked}).json()
        assert again == done  # the client that never got its answer asks again
        for _ in range(200):
            cases = [client.get(f"/api/cases/{d['case']}").json() for d in asked]
            if all(c["correct"] for c in cases):
                break
        assert all(c["correct"] and c["state"] == "labelled" for c in cases)
    end(process)
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    assert sum(x.labelled for x in store.windows("digits")) == labelled + len(asked)
    store.close()
