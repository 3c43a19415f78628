"""Alembic migrations of the monitor's database, run when the store is opened."""
