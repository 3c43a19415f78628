"""Opening the monitor's database: engine, migrations, and the guard that keeps a SQLite file to one process.

SQLite runs in WAL mode with one writer at a time. SQLite 3.40 (Debian 12) can corrupt a WAL file that two connections
write to around a checkpoint, so there is exactly one writing process (a lock file) and, in it, one writing transaction
at a time (a lock); reading connections are `query_only`.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url

from export.contracts.errors import Unavailable

BUSY_TIMEOUT_S = 10.0
SCRUB_ATTEMPTS = 40
# Our questions are short: compiling one takes longer than asking it, and a few thousand rows by an index are quicker
# than a table of a million cases, which is what the default for turning disks would read (decision 0245).
_PLANS = "-c jit=off -c random_page_cost=1.1"
_GONE = ("08", "57P")  # PostgreSQL's classes of states: connection exceptions, and servers that stop or start


class Database:
    """An opened, migrated database.

    Args:
        url: SQLAlchemy URL. `sqlite:///` + path, or `postgresql+psycopg://…`.

    Raises:
        Unavailable: another process has the SQLite file open.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._lock_fd = _lock_beside(self._url.database) if self.is_sqlite else None
        self._writing = threading.RLock()
        self._shared = threading.local()  # `connection`: the one of a block `together`
        try:
            self._writer = _engine(self._url, is_sqlite=self.is_sqlite, writes=True)
            self._reader = _engine(self._url, is_sqlite=self.is_sqlite, writes=False)
            with self.write() as connection:
                migrate(connection)
        except BaseException:
            self._unlock()
            raise

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """The one writing transaction: commits when the block ends, rolls back when it raises."""
        with self._writing, self._in_reach(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read-only connection that sees one consistent state for the length of the block."""
        shared: sa.Connection | None = getattr(self._shared, "connection", None)
        if shared is not None:
            yield shared
            return
        with self._in_reach(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let every `read` of this thread within the block see one and the same state, through one connection.

        For what asks a hundred small questions, as pages do: on PostgreSQL each of them would otherwise check the
        connection, begin and commit. What is written meanwhile is not seen; nothing may be awaited within.
        """
        if getattr(self._shared, "connection", None) is not None:
            yield
            return
        with self.read() as connection:
            self._shared.connection = connection
            try:
                yield
            finally:
                self._shared.connection = None

    @contextmanager
    def _in_reach(self) -> Iterator[None]:
        """Name a server that is gone as what it is: an outage, not a fault of the question."""
        try:
            yield
        except sa.exc.OperationalError as error:
            state = getattr(error.orig, "sqlstate", None)
            if self.is_sqlite or not (error.connection_invalidated or state is None or state.startswith(_GONE)):
                raise
            raise Unavailable("the monitor's database cannot be reached just now") from error

    def scrub(self) -> None:
        """See that what was deleted is not left in free pages or in the write-ahead log.

        SQLite overwrites what is deleted (`secure_delete`); what the write-ahead log still has goes with a checkpoint.
        PostgreSQL frees dead rows with VACUUM; its own write-ahead log is its administrator's affair.
        """
        with self._writing, self._writer.connect() as connection:
            plain = connection.connection.dbapi_connection
            assert plain is not None
            if not self.is_sqlite:
                plain.rollback()
                plain.autocommit = True
            cursor = plain.cursor()
            try:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)" if self.is_sqlite else "VACUUM")
                for _ in range(SCRUB_ATTEMPTS if self.is_sqlite else 0):
                    if (cursor.fetchone() or (0,))[0] == 0:  # otherwise somebody still reads what the log holds
                        break
                    time.sleep(0.05)
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                cursor.close()
                if not self.is_sqlite:
                    plain.autocommit = False

    def close(self) -> None:
        """Close all connections and let another process open the file."""
        self._reader.dispose()
        self._writer.dispose()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def migrate(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the schema to `revision` within the caller's transaction: all of it happens, or none."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "monitoring:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _engine(url: sa.URL, *, is_sqlite: bool, writes: bool) -> sa.Engine:
    if not is_sqlite:
        options = _PLANS if writes else f"{_PLANS} -c default_transaction_read_only=on"
        return sa.create_engine(
            url, pool_pre_ping=True, connect_args={"options": options}, isolation_level="REPEATABLE READ"
        )
    engine = sa.create_engine(
        url,
        poolclass=sa.pool.QueuePool,
        pool_size=1 if writes else 8,
        max_overflow=0 if writes else 8,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def _connect(dbapi: Any, _: Any) -> None:
        # The sqlite3 module would begin and commit behind our back, and never around DDL.
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        if writes:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
            cursor.execute("PRAGMA cache_size=-65536")
            cursor.execute("PRAGMA wal_autocheckpoint=4000")
            cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is gone, see `scrub`
        else:
            cursor.execute("PRAGMA query_only=ON")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _lock_beside(path: str | None) -> int | None:
    """Hold `<path>.lock` for the life of the process; the kernel lets go when it dies, however it dies."""
    if not path or path == ":memory:":
        raise ValueError("the monitor's SQLite database needs a file: sqlite:///path/to/monitor.db")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise Unavailable(
            "another process has the monitor's database open: stop that monitor, or set another database URL"
        ) from None
    return fd
