"""Operations on lists of cases. Its router comes before that of single cases: `/api/cases/ids` is no case."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import StreamingResponse

from monitoring.api import asks
from monitoring.api import list_models as m
from monitoring.api.list_views import CaseLists
from monitoring.api.routes import START_PROBLEMS
from monitoring.api.who import Viewer
from monitoring.listing import views
from monitoring.listing.order import Format

ViewId = Annotated[int, Path(ge=1, le=2**53, description="Id of the view.")]
PROBLEMS: dict[int | str, dict[str, Any]] = {code: START_PROBLEMS[code] for code in (403, 413)}
MEDIA = {Format.JSONL: "application/x-ndjson", Format.CSV: "text/csv"}


def list_router(lists: CaseLists) -> APIRouter:
    """Lists, counts, exports, saved views."""
    router = APIRouter(tags=["cases"])
    store = lists.view.store

    @router.get("/api/cases")
    def cases(query: Annotated[asks.CaseQuery, Query()]) -> m.CaseList:
        """A page of cases; give `next` as `cursor` for the page after it."""
        return lists.page(query)

    @router.get("/api/cases/ids")
    def case_ids(query: Annotated[asks.IdQuery, Query()]) -> m.CaseIds:
        """Ids of up to 50,000 cases at a time, in order."""
        return lists.ids(query)

    @router.get("/api/cases/count")
    def case_count(query: Annotated[asks.CaseFilter, Query()]) -> m.CaseCount:
        """How many cases fit."""
        return m.CaseCount(count=lists.count(query))

    @router.get("/api/cases/facets")
    def case_facets(query: Annotated[asks.FacetQuery, Query()]) -> m.Facets:
        """How many cases have which state, reason, model, version, class, label, tag, assignee, verdict."""
        return lists.facets(query)

    @router.get(
        "/api/cases/export",
        response_class=Response,
        responses={
            200: {"content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA.values()}}
        },
    )
    def case_export(query: Annotated[asks.ExportQuery, Query()]) -> Response:
        """The cases as a file, JSON Lines or CSV, sent as it is read. Cells that look like formulas are quoted."""
        headers = {"content-disposition": f'attachment; filename="cases.{query.kind}"'}
        return StreamingResponse(lists.export(query), media_type=MEDIA[query.kind], headers=headers)

    @router.get("/api/views")
    def saved_views(who: Viewer) -> m.SavedViews:
        """One's own views of the list, and everybody's."""
        return m.SavedViews(views=[m.SavedView.model_validate(v) for v in views.views_for(store, who.name)])

    @router.post("/api/views", responses=PROBLEMS)
    def save_view(asked: m.ViewSave, who: Viewer) -> m.SavedView:
        """Keep a view. A person's second view of the same name takes the place of the first."""
        return m.SavedView.model_validate(views.save_view(store, who, asked.name, asked.query, asked.shared))

    @router.delete("/api/views/{view}", responses=PROBLEMS)
    def delete_view(view: ViewId, who: Viewer) -> m.SavedView:
        """Delete a view of one's own."""
        return m.SavedView.model_validate(views.delete_view(store, who, view))

    return router
