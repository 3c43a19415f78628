"""Conditions and cursors of the store's listings."""

from __future__ import annotations

import base64
import json
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState, FlagReason
from export.contracts.errors import InvalidRequest
from monitoring import schema as t
from monitoring.flags import FLAG_BITS


class CaseOrder(StrEnum):
    """How cases are listed."""

    RANK = "rank"  # most probably wrong first
    QUEUE = "queue"  # what to look at next: different failures, audits dealt in
    TIME = "time"  # newest first


def place_of(order: CaseOrder) -> sa.ColumnElement[Any]:
    """What a listing goes by, highest first."""
    c = t.cases.c
    queue = sa.func.coalesce(c.queue, 0.0)
    return {CaseOrder.RANK: c.rank, CaseOrder.TIME: c.time_ns, CaseOrder.QUEUE: queue}[order]


def given(*pairs: tuple[sa.ColumnElement[Any], object]) -> list[sa.ColumnElement[bool]]:
    """Conditions for those pairs whose value is given."""
    return [column == value for column, value in pairs if value is not None]


def between(column: sa.ColumnElement[Any], low: int | None, high: int | None) -> list[sa.ColumnElement[bool]]:
    """Low <= column < high, as far as they are given."""
    conditions = []
    if low is not None:
        conditions.append(column >= low)
    if high is not None:
        conditions.append(column < high)
    return conditions


def case_filter(
    *,
    model: str | None,
    version: str | None,
    reason: FlagReason | None,
    state: CaseState | None,
    correct: bool | None,
    min_p_wrong: float | None,
    from_ns: int | None,
    to_ns: int | None,
    grouped: bool = False,
) -> list[sa.ColumnElement[bool]]:
    """Conditions of a case listing."""
    c = t.cases.c
    state_value = None if state is None else state.value
    conditions = given((c.model, model), (c.version, version), (c.state, state_value), (c.correct, correct))
    if grouped:
        conditions.append(sa.or_(c.group_id.is_(None), c.group_id == c.id))
    if reason is not None:
        conditions.append(c.flags.op("&")(FLAG_BITS[reason]) != 0)
    if min_p_wrong is not None:
        conditions.append(c.p_wrong >= min_p_wrong)
    return conditions + between(c.time_ns, from_ns, to_ns)


def encode_cursor(value: float, identity: str, order: CaseOrder) -> str:
    """Where a page ended, as text."""
    return base64.urlsafe_b64encode(json.dumps([order.value, value, identity]).encode()).decode()


def decode_cursor(cursor: str, order: CaseOrder) -> tuple[float, str]:
    """The inverse of `encode_cursor`.

    Raises:
        InvalidRequest: not such a text, or of another order.
    """
    try:
        kind, value, identity = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError):
        raise InvalidRequest("cursor is not one that this listing gave") from None
    number = isinstance(value, int | float) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if kind != order.value or not number or not isinstance(identity, str):
        raise InvalidRequest("cursor belongs to another listing: ask for the first page again")
    return value, identity
