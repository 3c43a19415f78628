"""The pages about slices and batches. Their forms need no script: they post, and lead back to the page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from export.contracts.errors import InvalidRequest
from monitoring.api import fields
from monitoring.api import slice_models as m
from monitoring.api.batch_routes import BatchId
from monitoring.api.finding_routes import SliceId
from monitoring.api.slice_views import SliceDesk
from monitoring.api.who import Operator, Reviewer
from monitoring.console.build import Builder
from monitoring.console.build_slices import TABS, batch_page, batches_page, slice_page, slices_page
from monitoring.console.pages import form_of, render
from monitoring.review.batches import BatchState, close_batch


def slices_router(builder: Builder, desk: SliceDesk) -> APIRouter:
    """Slices and batches."""
    router = APIRouter(include_in_schema=False)

    @router.get("/slices")
    def all_slices(request: Request, model: fields.Name | None = None, tab: str = "open") -> Response:
        if tab not in TABS:
            raise InvalidRequest(f"tab: one of {', '.join(TABS)}")
        with builder.view.store.together():
            page = slices_page(builder, desk.findings, model, tab)
        return render(request, "slices.html", page)

    @router.get("/slices/{slice_id}")
    def one_slice(request: Request, slice_id: SliceId, split: bool = False) -> Response:
        with builder.view.store.together():
            page = slice_page(builder, desk, slice_id, split)
        return render(request, "slice.html", page)

    @router.post("/slices/{slice_id}/acts")
    async def act(request: Request, slice_id: SliceId, who: Reviewer) -> Response:
        desk.do(slice_id, fields.checked(m.SliceActAsked, _given(await form_of(request))), who)
        return RedirectResponse(f"/slices/{slice_id}", status_code=303)

    @router.post("/slices/{slice_id}/batch")
    async def make_batch(request: Request, slice_id: SliceId, who: Operator) -> Response:
        made = desk.batch(slice_id, fields.checked(m.SliceBatchAsked, _given(await form_of(request))), who)
        return RedirectResponse(f"/batches/{made.id}", status_code=303)

    @router.post("/slices/{slice_id}/test-set")
    async def make_test_set(request: Request, slice_id: SliceId, who: Operator) -> Response:
        desk.test_set(slice_id, fields.checked(m.TestSetAsked, _given(await form_of(request))), who)
        return RedirectResponse(f"/slices/{slice_id}", status_code=303)

    @router.get("/batches")
    def all_batches(request: Request) -> Response:
        return render(request, "batches.html", batches_page(builder))

    @router.get("/batches/{batch}")
    def one_batch(request: Request, batch: BatchId) -> Response:
        return render(request, "batch.html", batch_page(builder, batch))

    @router.post("/batches/{batch}/{what}")
    def change_batch(batch: BatchId, what: str, who: Operator) -> Response:
        if what not in ("close", "open"):
            raise InvalidRequest("a batch can be closed or opened")
        state = BatchState.CLOSED if what == "close" else BatchState.OPEN
        close_batch(builder.view.store, batch, int(desk.clock().timestamp() * 1e9), state)
        return RedirectResponse(f"/batches/{batch}", status_code=303)

    return router


def _given(form: dict[str, str]) -> dict[str, str]:
    """The fields that were filled in; per cent as a share."""
    given = {name: value for name, value in form.items() if value or name == "owner"}
    if "percent" in given:
        try:
            given["limit"] = str(float(given.pop("percent")) / 100)
        except ValueError:
            raise InvalidRequest("percent: must be a number") from None
    return given
