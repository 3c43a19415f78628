"""The same log ends up the same in PostgreSQL as in SQLite, byte for byte."""

from __future__ import annotations

from pathlib import Path

from monitoring.cycle import make_loop
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain
from tests.support.postgres import postgres


def test_postgresql_holds_what_sqlite_holds(tmp_path: Path) -> None:
    with postgres() as server:
        _compare(server.database("monitor"), tmp_path)


def _compare(server: str, tmp_path: Path) -> None:
    w.day(tmp_path / "records", seconds=40, rate=8, shift_from=20, seed=3)
    catalogue = w.catalogue(tmp_path / "reference")
    snapshots = []
    for url in (f"sqlite:///{tmp_path / 'monitor.db'}", server):
        store = Store(url)
        loop = make_loop(w.options(tmp_path, batch_bytes=40_000), store, catalogue)
        drain(loop)
        assert loop.progress.errors == 0
        assert len(store.cases(limit=3).cases) == 3
        assert store.records("3-5-1")
        snapshots.append(w.snapshot(store))
        store.close()
    assert len(snapshots[0]["cases"]) > 20
    for table in snapshots[0]:
        assert snapshots[0][table] == snapshots[1][table], table
