"""Cases that people touched: neither pools nor retention take them as they take what nobody has looked at."""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.review.lines import chunks


def touched(now_ns: int) -> sa.ColumnElement[bool]:
    """Of a row of `cases`: somebody has it, or has done something to it that is in the trail, or tagged it."""
    c = t.cases.c
    return sa.or_(
        sa.and_(c.lease_by != "", c.lease_until_ns > now_ns),
        sa.exists().where(t.decisions.c.case_id == c.id),
        sa.exists().where(t.case_tags.c.case_id == c.id),
    )


def without_touched(connection: sa.Connection, ids: Sequence[str]) -> list[str]:
    """Those of the cases that nobody touched."""
    held: set[str] = set()
    for chunk in chunks(list(ids)):
        held.update(connection.scalars(sa.select(t.cases.c.id).where(t.cases.c.id.in_(chunk), touched(time.time_ns()))))
    return [identity for identity in ids if identity not in held]
