"""Single named values in the database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from monitoring import schema as t


def read_fact(connection: sa.Connection, name: str) -> Any:
    """The value, or None."""
    return connection.scalar(sa.select(t.facts.c.value).where(t.facts.c.name == name))


def write_fact(connection: sa.Connection, name: str, value: Any) -> None:
    """Set the value."""
    if connection.execute(t.facts.update().where(t.facts.c.name == name).values(value=value)).rowcount == 0:
        connection.execute(t.facts.insert().values(name=name, value=value))
