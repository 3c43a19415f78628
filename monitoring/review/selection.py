"""From a selection to the cases in it."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from export.contracts.errors import InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.listing.asked import terms_of
from monitoring.listing.index import CaseIndex
from monitoring.listing.order import Sort
from monitoring.neighbours import Neighbours
from monitoring.review.asked import Selection
from monitoring.review.contracts import BULK_LIMIT
from monitoring.slice_queries import with_parts


def select_cases(connection: sa.Connection, asked: Selection, neighbours: Neighbours, index: CaseIndex) -> list[str]:
    """Ids of the cases, those that are gone among them, in the order of the queue or of likeness.

    Raises:
        InvalidRequest: not exactly one kind of selection, or too many cases.
        NotFound: there is no such slice, or case to be like.
    """
    kinds = [x for x in (asked.cases, asked.filter, asked.slice, asked.like) if x is not None]
    if len(kinds) != 1:
        raise InvalidRequest("selection: exactly one of cases, filter, slice, like")
    c = t.cases.c
    if asked.cases is not None:
        found = list(dict.fromkeys(asked.cases))
    elif asked.filter is not None:
        terms = terms_of(asked.filter, datetime.now(UTC), index.alike)
        found = list(index.page(terms, Sort.QUEUE, None, BULK_LIMIT + 1).ids)
    elif asked.slice is not None:
        m = t.slice_members.c
        if connection.scalar(sa.select(t.slices.c.id).where(t.slices.c.id == asked.slice)) is None:
            raise NotFound("there is no slice with this id")
        both = sa.and_(m.id_hash == c.id_hash, m.time_ns == c.time_ns)
        query = sa.select(c.id).join(t.slice_members, both).where(m.slice_id.in_(with_parts(asked.slice)))
        found = list(dict.fromkeys(connection.scalars(query.order_by(m.position).limit(BULK_LIMIT + 1))))
    else:
        found = _like(connection, asked, neighbours)
    if len(found) > BULK_LIMIT:
        raise InvalidRequest(f"selection: more than {BULK_LIMIT:,} cases: narrow it down")
    return found


def _like(connection: sa.Connection, asked: Selection, neighbours: Neighbours) -> list[str]:
    c = t.cases.c
    row = connection.execute(sa.select(c.model, c.version, c.vector).where(c.id == asked.like)).one_or_none()
    if row is None or asked.like is None:
        raise NotFound("there is no case with this id")
    if row.vector is None:
        return [asked.like]
    near = neighbours.of_records(row.model, row.version, row.vector, asked.limit + 1, cases_only=True)
    alike = [n.case_id for n in near if n.case_id is not None and n.likeness >= asked.likeness]
    return list(dict.fromkeys([asked.like, *alike]))[: asked.limit]
