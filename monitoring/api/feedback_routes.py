"""`POST /api/feedback`: what applications learn about answers, days later, in bulk, by their own keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from monitoring.api.batch_routes import CHANGE_PROBLEMS
from monitoring.api.fields import Answer, Asked, Name
from monitoring.api.views import View
from monitoring.api.who import Reviewer
from monitoring.feedback_in import FeedbackDesk, ItemState, read_lines

_BODY: dict[str, Any] = {kind: {"schema": {}} for kind in ("application/json", "application/x-ndjson")}


class FeedbackQuery(Asked):
    """About which model the items are that name none."""

    model: Name | None = None


class FeedbackItem(Answer):
    """What became of one item."""

    state: ItemState
    records: int = Field(description="Records that it is about, as far as they are known.")
    error: str | None = Field(description="Why an invalid item was not kept.")


class FeedbackTaken(Answer):
    """What became of the items, in their order. Everything but invalid ones is kept durably."""

    kept: int
    invalid: int
    results: list[FeedbackItem]


def feedback_router(view: View, keys: Sequence[str]) -> APIRouter:
    """Feedback from applications."""
    router = APIRouter(tags=["feedback"])
    desk = FeedbackDesk(view.store, keys, view.privacy, time.time_ns)

    @router.post(
        "/api/feedback",
        responses=CHANGE_PROBLEMS,
        openapi_extra={"requestBody": {"required": True, "content": _BODY}},
    )
    async def take_feedback(request: Request, who: Reviewer, query: Annotated[FeedbackQuery, Query()]) -> FeedbackTaken:
        """Feedback by record id or by business key: an object, an array or JSON Lines, up to 10,000 items.

        `{"model"?, "id" | "key": {name: value}, "label" | "labels" | "truth" | "score", "comment"?, "source"?,
        "time"?}`. The same item again is a duplicate and changes nothing.
        """
        items = read_lines(await request.body())
        results = await run_in_threadpool(desk.take, items, query.model)
        shown = [FeedbackItem(state=x.state, records=x.records, error=x.error) for x in results]
        invalid = sum(x.state is ItemState.INVALID for x in results)
        return FeedbackTaken(kept=len(results) - invalid, invalid=invalid, results=shown)

    return router
