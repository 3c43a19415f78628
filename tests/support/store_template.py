"""A new SQLite store in a test is given the tables that the migrations made once in this process.

Running all migrations takes a quarter of a second, and more than a thousand tests want an empty store. What they are
given is what the migrations wrote, read back from `sqlite_master`; tests of the migrations themselves ask for the
fixture `real_migrations`, or call `MIGRATE`.
"""

from __future__ import annotations

import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from monitoring import database

MIGRATE = database.migrate


@cache
def _written() -> tuple[list[str], list[tuple[str, list[tuple[Any, ...]]]]]:
    """Statements that make all tables and indexes, and the rows with which they are born."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.db"
        engine = database._engine(sa.make_url(f"sqlite:///{path}"), is_sqlite=True, writes=True)
        with engine.begin() as connection:
            MIGRATE(connection)
        engine.dispose()
        plain = sqlite3.connect(path)
        question = "SELECT sql, name, type FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        made = plain.execute(question).fetchall()
        tables = [name for _, name, kind in made if kind == "table"]
        rows = [(name, plain.execute(f'SELECT * FROM "{name}"').fetchall()) for name in tables]
        plain.close()
    statements = [sql for sql, name, _ in made if not name.startswith("sqlite_")]
    return statements, [(name, found) for name, found in rows if found]


def migrate(connection: sa.Connection, revision: str = "head") -> None:
    """As `database.migrate`; an empty SQLite file gets everything at once."""
    if connection.dialect.name != "sqlite" or revision != "head":
        MIGRATE(connection, revision)
        return
    if connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").first() is not None:
        MIGRATE(connection, revision)
        return
    statements, rows = _written()
    for statement in statements:
        connection.exec_driver_sql(statement)
    for name, found in rows:
        marks = ", ".join("?" * len(found[0]))
        connection.exec_driver_sql(f'INSERT INTO "{name}" VALUES ({marks})', found)
