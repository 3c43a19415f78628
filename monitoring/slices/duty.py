"""The duty that looks for slices: one span of one model a turn, beside the loop."""

from __future__ import annotations

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.options import MonitorOptions
from monitoring.slices.rows import keep, look, next_end
from monitoring.store import Store


def search_slices(store: Store, baselines: Baselines, options: MonitorOptions) -> bool:
    """Search the earliest span that is due; returns whether there may be another one."""
    with store.read() as connection:
        models = sorted(set(connection.scalars(sa.select(t.versions.c.model))))
        due = [(end, model) for model in models if (end := next_end(connection, model, options)) is not None]
        if not due:
            return False
        end_s, model = min(due)
        result = look(connection, baselines, model, end_s, options)
    with store.write() as connection:
        keep(connection, result, options)
    return True
