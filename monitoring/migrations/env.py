"""How Alembic reaches the database: over the connection that `monitoring.store` hands in, in one transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from monitoring.schema import metadata


def run() -> None:
    """Run the migrations that are missing. The caller owns the transaction, so a kill rolls all of them back."""
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError("migrations run through monitoring.store.migrate, which passes its connection")
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


run()
