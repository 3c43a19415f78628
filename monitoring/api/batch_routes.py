"""The JSON operations about labelling batches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from export.contracts.errors import NotFound
from monitoring.api import batch_models as m
from monitoring.api import fields, models
from monitoring.api.who import Operator
from monitoring.review import batches as b
from monitoring.slice_queries import cases_of_slice, slices
from monitoring.store import Store

BatchId = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="Id of the batch: 12 hex digits.")]
CHANGE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": models.ErrorBody, "description": "Another site's page, or a role that may not do this."},
    409: {"model": models.ErrorBody, "description": "It is no longer in the state that this needs."},
    413: {"model": models.ErrorBody, "description": "The body has no stated length, or is too large."},
}


def batch_router(store: Store, clock: Callable[[], datetime]) -> APIRouter:
    """Labelling batches."""
    router = APIRouter(tags=["batches"])

    def now_ns() -> int:
        return int(clock().timestamp() * 1e9)

    @router.get("/api/batches")
    def batches(query: Annotated[m.BatchQuery, Query()]) -> m.Batches:
        """Labelling batches, newest first, with their progress."""
        found = b.batches(store, query.model, query.state, query.slice, query.limit)
        return m.Batches(batches=[batch_of(row) for row in found])

    @router.post("/api/batches", status_code=201, responses=CHANGE_PROBLEMS)
    def make_batch(asked: m.BatchMake, who: Operator) -> m.Batch:
        """Make a batch of cases, or of a slice's cases."""
        return batch_of(made_batch(store, asked, who.name, now_ns()))

    @router.get("/api/batches/{batch}")
    def batch_detail(batch: BatchId) -> m.Batch:
        """One batch."""
        return batch_of(b.batch(store, batch))

    @router.get("/api/batches/{batch}/cases")
    def batch_cases(batch: BatchId, query: Annotated[m.BatchCaseQuery, Query()]) -> m.BatchCases:
        """The ids of a batch's cases, in its order."""
        b.batch(store, batch)
        rows = b.cases_of_batch(store, batch, waiting=query.waiting, after=query.after, limit=query.limit)
        return m.BatchCases(cases=[case for _, case in rows], next=rows[-1][0] if len(rows) == query.limit else None)

    @router.post("/api/batches/{batch}/cases", responses=CHANGE_PROBLEMS)
    def add_to_batch(batch: BatchId, asked: m.BatchAdd, who: Operator) -> m.Batch:
        """Put more cases into a batch."""
        return batch_of(b.add_cases(store, batch, asked.cases, now_ns()))

    @router.post("/api/batches/{batch}/close", responses=CHANGE_PROBLEMS)
    def close_batch(batch: BatchId, who: Operator) -> m.Batch:
        """Nobody shall work on it any more. What was decided stays decided."""
        return batch_of(b.close_batch(store, batch, now_ns()))

    @router.post("/api/batches/{batch}/open", responses=CHANGE_PROBLEMS)
    def open_batch(batch: BatchId, who: Operator) -> m.Batch:
        """Take back that it was closed."""
        return batch_of(b.close_batch(store, batch, now_ns(), b.BatchState.OPEN))

    return router


def made_batch(store: Store, asked: m.BatchMake, actor: str, now_ns: int) -> b.BatchRow:
    """Make the batch that was asked for.

    Raises:
        NotFound: there is no such slice.
        InvalidRequest: there would be no case in it.
    """
    cases = asked.cases
    if cases is None:
        identity = asked.slice or ""
        if not slices(store, identity=identity):
            raise NotFound("there is no slice with this id")
        cases = cases_of_slice(store, identity, asked.limit)
    return b.make_batch(
        store,
        actor=actor,
        name=asked.name,
        cases=cases,
        now_ns=now_ns,
        slice_id=asked.slice or "",
        note=asked.note,
        key=asked.key,
    )


def batch_of(row: b.BatchRow) -> m.Batch:
    """A row as the API's answer."""
    same = {name: getattr(row, name) for name in m.Batch.model_fields if hasattr(row, name)}
    times = {"created_at": fields.from_ns(row.created_ns), "changed_at": fields.from_ns(row.changed_ns)}
    return m.Batch.model_validate(same | times | {"model": row.model or None, "slice": row.slice_id or None})
