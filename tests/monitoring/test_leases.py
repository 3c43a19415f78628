"""Several monitors on one PostgreSQL: one works, and what they end up with is what one alone would have."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from export.contracts.errors import Unavailable
from monitoring import schema as t
from monitoring.cycle import make_loop
from monitoring.leases import GuardedStore, Lease, Superseded
from monitoring.monitor import Monitor
from monitoring.store import Store
from tests.support import monitor_node
from tests.support import monitor_world as w
from tests.support.monitor_child import drain
from tests.support.postgres import Postgres, postgres

NODE = Path(monitor_node.__file__)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_one_holds_the_lease_and_another_takes_it_when_it_lapses(server: Postgres) -> None:
    url = server.database("lapse")
    stores, clock = [Store(url), Store(url)], Clock()
    first, second = (Lease(store, ttl_s=0.5, monotonic=clock) for store in stores)
    assert first.hold()
    assert not second.hold()
    clock.now += 1.0
    assert first.hold(), "renewed in time by its own reckoning"
    clock.now += 1.0
    assert not second.hold()
    time.sleep(0.6)  # the database's clock decides
    clock.now += 1.0
    assert second.hold()
    guarded = GuardedStore(stores[0], first)
    with pytest.raises(Superseded), guarded.write() as connection:
        connection.exec_driver_sql("DELETE FROM offsets")
    assert not first.held
    assert not first.hold()
    second.release()
    clock.now += 1.0
    assert first.hold(), "released, and taken at once"
    for store in stores:
        store.close()


def test_nobody_takes_over_in_the_middle_of_a_transaction(server: Postgres) -> None:
    url = server.database("middle")
    stores = [Store(url), Store(url)]
    first, second = (Lease(store, ttl_s=0.2) for store in stores)
    assert first.hold()
    order: list[str] = []

    def take() -> None:
        until(second.hold)
        order.append("taken")

    with GuardedStore(stores[0], first).write():
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(0.8)  # long lapsed
        order.append("written")
    thread.join(30)
    assert order == ["written", "taken"]
    for store in stores:
        store.close()


@dataclass
class Node:
    process: subprocess.Popen[str]
    cycles: int = 0

    def read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.cycles += line == "cycle\n"


def worker(store: Store) -> int:
    """Process id of the one that holds the lease."""
    with store.read() as connection:
        holder = connection.execute(sa.select(t.leases.c.holder)).scalar_one_or_none() or ":0:"
    return int(holder.split(":")[1])


def start(url: str, records: Path, reference: Path) -> Node:
    arguments = [url, str(records), str(reference), "30000", "1.0"]
    process = subprocess.Popen([sys.executable, str(NODE), *arguments], stdout=subprocess.PIPE, text=True)
    node = Node(process)
    threading.Thread(target=node.read, daemon=True).start()
    return node


@pytest.mark.fault
def test_three_monitors_of_which_two_are_killed_end_where_one_alone_does(server: Postgres, tmp_path: Path) -> None:
    w.day(tmp_path / "records", seconds=60, rate=12, shift_from=30, seed=5)
    known = w.catalogue(tmp_path / "reference")
    url = server.database("three")
    watching = Store(url)
    nodes = [start(url, tmp_path / "records", tmp_path / "reference") for _ in range(3)]
    killed = 0
    try:
        while killed < 2:
            until(lambda: any(node.cycles for node in nodes if node.process.pid == worker(watching)))
            (victim,) = (node for node in nodes if node.process.pid == worker(watching))
            victim.process.kill()
            victim.process.wait(10)
            nodes.remove(victim)
            killed += 1
        wanted = Store(f"sqlite:///{tmp_path / 'alone.db'}")
        alone = make_loop(w.options(tmp_path, batch_bytes=30_000), wanted, known)
        drain(alone)
        total = alone.progress.records
        until(lambda: sum(a.ingested for a in watching.accounting()) == total, 120)
        (last,) = nodes
        last.process.terminate()
        assert last.process.wait(30) == 0
    finally:
        for node in nodes:
            node.process.kill()
            node.process.wait(10)
    loop = make_loop(w.options(tmp_path, database_url=url, batch_bytes=30_000), watching, known)
    drain(loop)
    assert loop.progress.records == 0, "all of it had been consumed, once"
    ours, theirs = w.snapshot(watching), w.snapshot(wanted)
    assert len(ours["cases"]) > 20
    for table in ours:
        assert ours[table] == theirs[table], table
    watching.close()
    wanted.close()


@pytest.mark.fault
def test_a_database_that_is_killed_is_an_outage_and_no_label_is_lost(server: Postgres, tmp_path: Path) -> None:
    """F40. Questions meanwhile are answered 503; the loop goes on where it stood."""
    w.day(tmp_path / "records", seconds=60, rate=12, shift_from=30, seed=6)
    known = w.catalogue(tmp_path / "reference")
    url = server.database("killed")
    store = Store(url)
    cycles: list[int] = []
    options = w.options(tmp_path, database_url=url, batch_bytes=20_000)
    monitor = Monitor(options, store, known, on_cycle=lambda: cycles.append(1))
    monitor.start()
    until(lambda: len(cycles) > 2)
    server.kill()
    with pytest.raises(Unavailable, match="cannot be reached"):
        store.versions()
    until(lambda: monitor.loop.progress.errors > 0)  # the fault has arrived where it hurts
    before = len(cycles)
    server.start()
    until(lambda: len(cycles) > before)
    wanted = Store(f"sqlite:///{tmp_path / 'alone.db'}")
    alone = make_loop(w.options(tmp_path, batch_bytes=20_000), wanted, known)
    drain(alone)
    until(lambda: sum(a.ingested for a in store.accounting()) == alone.progress.records, 120)
    assert monitor.stop()
    drain(make_loop(options, store, known))
    ours, theirs = w.snapshot(store), w.snapshot(wanted)
    assert store.feedback_counts() == wanted.feedback_counts()
    for table in ours:
        assert ours[table] == theirs[table], table
    store.close()
    wanted.close()
