"""Conditions and cursors of the store's listings."""

from __future__ import annotations

import base64
import json
import time
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
    assignee: str | None = None,
    tag: str | None = None,
    verdict: str | None = None,
    grouped: bool = False,
    now_ns: int | None = None,
) -> list[sa.ColumnElement[bool]]:
    """Conditions of a case listing. `now_ns`: when leases are looked at; now, where None."""
    c = t.cases.c
    conditions = given((c.model, model), (c.version, version), (c.correct, correct))
    if state is not None:
        conditions += _in_state(state, time.time_ns() if now_ns is None else now_ns)
    for column, value in ((c.assignee, assignee), (c.verdict, verdict)):
        if value is not None:  # said twice, so that the index of the few rows that have one is used
            conditions += [column == str(value), *([column != sa.literal_column("''")] if value else [])]
    if tag is not None:
        conditions.append(sa.exists().where(t.case_tags.c.case_id == c.id, t.case_tags.c.tag == tag))
    if grouped:
        conditions.append(sa.or_(c.group_id.is_(None), c.group_id == c.id))
    if reason is not None:
        conditions.append(c.flags.op("&")(FLAG_BITS[reason]) != 0)
    if min_p_wrong is not None:
        conditions.append(c.p_wrong >= min_p_wrong)
    return conditions + between(c.time_ns, from_ns, to_ns)


def _in_state(state: CaseState, now_ns: int) -> list[sa.ColumnElement[bool]]:
    """A lease is no stored state: it is there until it is past (`monitoring.review.machine`)."""
    c = t.cases.c
    waits = [CaseState.OPEN.value, CaseState.SECOND_OPINION.value]
    if state is CaseState.LEASED:
        held = [c.lease_by != sa.literal_column("''"), c.lease_until_ns > now_ns]
        return [*held, c.state.in_(waits)]
    free = [c.lease_until_ns <= now_ns] if state.value in waits else []
    return [c.state == state.value, *free]


def encode_cursor(value: float, identity: str, order: StrEnum) -> str:
    """Where a page ended, as text."""
    return base64.urlsafe_b64encode(json.dumps([order.value, value, identity]).encode()).decode()


def decode_cursor(cursor: str, order: StrEnum) -> tuple[float, str]:
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
