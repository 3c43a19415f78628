"""The JSON operations of looking around: selections, the map's points, requests to try."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from monitoring.api import explore_models as e
from monitoring.api import fields
from monitoring.api.compare_routes import compare_router
from monitoring.api.compare_views import Comparer
from monitoring.api.explore_views import Explorer, selection
from monitoring.api.routes import Model
from monitoring.api.who import Reviewer
from monitoring.explore import selections as s

SelectionId = Annotated[e.SelectionName, Path(description="Id of the selection: 12 hex digits.")]
BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
ASKING: dict[int | str, dict[str, Any]] = {
    501: {"description": "The service does not do this."},
    503: {"description": "The service is not there, or not now."},
    504: {"description": "No answer in time."},
}


def explore_router(explorer: Explorer, comparer: Comparer) -> APIRouter:
    """Selections, map, try, compare."""
    router = APIRouter(tags=["explore"])
    store = explorer.view.store

    @router.post("/api/selections", status_code=201)
    def start_selection(asked: e.SelectionStart, who: Reviewer) -> e.Selection:
        """Keep cases under a short name, for addresses."""
        return explorer.save(asked, who.name)

    @router.get("/api/selections")
    def listed_selections(query: Annotated[e.SelectionQuery, Query()]) -> e.Selections:
        """Selections, newest first."""
        return e.Selections(selections=[selection(row) for row in s.selections(store, query.model, query.limit)])

    @router.get("/api/selections/{selection_id}")
    def one_selection(selection_id: SelectionId) -> e.Selection:
        """One selection."""
        return selection(s.selection(store, selection_id))

    @router.get("/api/selections/{selection_id}/cases")
    def selected_cases(selection_id: SelectionId) -> e.SelectionCases:
        """Ids of its cases that are still kept."""
        s.selection(store, selection_id)
        return e.SelectionCases(cases=s.cases_of_selection(store, selection_id))

    @router.get("/api/models/{model}/map", response_class=Response, responses=BINARY)
    def map_points(model: Model, query: Annotated[e.MapQuery, Query()]) -> Response:
        """The map's points as bytes; docs/guides/console.md has the layout."""
        return Response(explorer.points(model, query), media_type="application/octet-stream")

    @router.get("/api/models/{model}/try")
    def examples(model: Model, version: Annotated[fields.Name | None, Query()] = None) -> e.Examples:
        """Inputs to begin with."""
        return e.Examples(examples=explorer.examples(model, version))

    @router.post("/api/models/{model}/try", responses=ASKING)
    def try_it(model: Model, asked: e.TryStart, who: Reviewer) -> e.Tried:
        """Send an input to the model and say what the monitor makes of the answer."""
        return explorer.try_it(model, asked)

    router.include_router(compare_router(comparer))
    return router
