"""The database: one process, migrations that happen wholly or not at all, paging that is stable under inserts."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from export.contracts.errors import InvalidRequest, Unavailable
from monitoring import database
from monitoring import schema as t
from monitoring.cases import Candidate, admit
from monitoring.options import CaseOptions
from monitoring.store import CaseOrder, Store
from tests.support import store_template


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(f"sqlite:///{tmp_path / 'm.db'}")
    yield opened
    opened.close()


def case(identity: str, rank: float, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {c.name: None for c in t.cases.columns if c.server_default is None}
    values |= {"id": identity, "rank": rank, "id_hash": 1, "record_id": identity, "model": "m", "version": "1"}
    values |= {"variant": "champion", "time_ns": int(rank * 1000), "window_start_s": 0, "state": "open", "flags": 1}
    values |= {
        "scores": {},
        "outcome": "ok",
        "rows": 1,
        "row": 0,
        "timing_us": {},
        "source": "s",
        "input_state": "kept",
    }
    return values | changes


@pytest.mark.usefixtures("real_migrations")
def test_the_migrations_make_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    opened = Store(f"sqlite:///{tmp_path / 'm.db'}")
    with opened.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), t.metadata) == []
    opened.close()


def test_an_empty_store_of_the_tests_is_what_the_migrations_make(tmp_path: Path, store: Store) -> None:
    """The other tests' stores are made at once (tests/support/store_template.py): with the same tables and rows."""
    engine = database._engine(sa.make_url(f"sqlite:///{tmp_path / 'real.db'}"), is_sqlite=True, writes=True)
    with engine.begin() as migrated, store.read() as copied:
        store_template.MIGRATE(migrated)
        question = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        assert migrated.exec_driver_sql(question).all() == copied.exec_driver_sql(question).all()
        for name in sa.inspect(migrated).get_table_names():
            rows = f'SELECT * FROM "{name}"'
            assert migrated.exec_driver_sql(rows).all() == copied.exec_driver_sql(rows).all(), name
    engine.dispose()


def migrated(path: Path, before: Callable[[int, sa.Connection], None]) -> int:
    """Migrate a file; `before` is called before every statement. How many there were."""
    engine = database._engine(sa.make_url(f"sqlite:///{path}"), is_sqlite=True, writes=True)
    numbers = itertools.count()
    try:
        with engine.begin() as connection:
            sa.event.listen(connection, "before_cursor_execute", lambda *_: before(next(numbers), connection))
            store_template.MIGRATE(connection)
    finally:
        engine.dispose()
    return next(numbers)


@pytest.mark.usefixtures("real_migrations")
def test_a_migration_cut_at_any_statement_leaves_an_empty_or_a_whole_database(tmp_path: Path) -> None:
    """All statements are looked at, a dozen of them are cut at: each cut runs all migrations before it again."""

    def nothing_is_committed(_: int, connection: sa.Connection) -> None:
        plain = connection.connection.dbapi_connection
        assert plain is not None
        assert plain.in_transaction
        assert beside.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)

    sqlite3.connect(tmp_path / "whole.db").close()
    with closing(sqlite3.connect(tmp_path / "whole.db", isolation_level=None)) as beside:
        statements = migrated(tmp_path / "whole.db", nothing_is_committed)
    assert statements > 100

    def cut(number: int, _: sa.Connection, *, at: int) -> None:
        if number == at:
            raise KeyboardInterrupt

    for at in sorted({0, 1, 2, *range(3, statements, statements // 9), statements - 2, statements - 1}):
        with pytest.raises(KeyboardInterrupt):
            migrated(tmp_path / "m.db", partial(cut, at=at))
        with closing(sqlite3.connect(tmp_path / "m.db")) as seen:
            assert seen.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    opened = Store(f"sqlite:///{tmp_path / 'm.db'}")
    with opened.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), t.metadata) == []
    opened.close()


def test_a_second_process_is_refused_and_may_open_it_afterwards(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    first = Store(url)
    attempt = f"from monitoring.store import Store; Store({url!r}).close()"
    refused = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True, check=False)
    assert "another process has the monitor's database open" in refused.stderr
    with pytest.raises(Unavailable):
        Store(url)
    first.close()
    assert subprocess.run([sys.executable, "-c", attempt], check=False).returncode == 0


def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(sa.exc.OperationalError, match="readonly"), store.read() as connection:
        connection.execute(t.facts.insert().values(name="a", value=1))


def test_an_exception_takes_the_whole_transaction_back(store: Store) -> None:
    def fail_half_way() -> None:
        with store.write() as connection:
            connection.execute(t.facts.insert().values(name="a", value=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.facts)) == 0


@pytest.mark.parametrize("order", list(CaseOrder))
def test_pages_neither_repeat_nor_hide_a_case_while_others_arrive(store: Store, order: CaseOrder) -> None:
    with store.write() as connection:
        connection.execute(t.cases.insert(), [case(f"{i:016x}", (i % 7) / 10) for i in range(100)])
    seen: list[str] = []
    cursor = None
    for turn in itertools.count():
        page = store.cases(order=order, limit=9, cursor=cursor)
        seen += [c.id for c in page.cases]
        with store.write() as connection:
            connection.execute(t.cases.insert(), [case(f"f{turn:015x}", 0.95)])
        cursor = page.cursor
        if cursor is None:
            break
    old = [identity for identity in seen if not identity.startswith("f")]
    assert len(old) == len(set(old)) == 100


@pytest.mark.parametrize("cursor", ["", "x", "bnVsbA==", "WzFd", "WyJyYW5rIiwgInh5IiwgMV0="])
def test_a_cursor_that_is_not_ours_is_the_callers_fault(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        store.cases(cursor=cursor)


def test_a_window_budget_keeps_the_best_whatever_the_order(store: Store) -> None:
    options = CaseOptions(scored_per_window=3, audits_per_window=2)
    ranks = {f"{i:016x}": i / 10 for i in range(8)}

    def candidate(identity: str, flags: int = 1) -> Candidate:
        known = case(identity, ranks[identity], flags=flags)
        decided = {"id", "window_start_s", "state", "flags", "rank", "audit_rank", "label", "correct", "comment"}
        return Candidate(
            id=identity,
            flags=flags,
            rank=ranks[identity],
            audit_rank=0.001 * ranks[identity],
            load=lambda: None,
            known=lambda: {k: v for k, v in known.items() if k not in decided},
        )

    wanted = None
    for order in itertools.islice(itertools.permutations(ranks), 0, 40320, 4999):
        for identity in order:
            flags = 1 | (64 if identity in {f"{0:016x}", f"{1:016x}", f"{2:016x}"} else 0)
            with store.write() as connection:
                admit(connection, "m", "1", 0, [candidate(identity, flags)], options)
        kept = sorted(c.id for c in store.cases().cases)
        wanted = wanted or kept
        assert kept == wanted
        assert len(kept) == 5  # two by lot; the first by rank, and two that the weighted draw chose
        assert {f"{i:016x}" for i in (0, 1, 7)} < set(kept)
        with store.write() as connection:
            connection.execute(t.cases.delete())


def test_reads_of_a_block_see_one_state_and_those_of_other_threads_do_not_wait_for_it(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.db")

    def seen() -> int:
        with store.read() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(t.facts)) or 0)

    before = seen()
    with store.together(), ThreadPoolExecutor(1) as other:
        assert seen() == before
        with store.together(), store.write() as connection:
            connection.execute(t.facts.insert().values(name="x", value=1))
        assert seen() == before
        assert other.submit(seen).result(10) == before + 1
    assert seen() == before + 1
    with pytest.raises(ZeroDivisionError), store.together():
        divmod(seen(), 0)
    assert seen() == before + 1
    store.close()
