"""The page of the case list."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from monitoring.api import asks, fields
from monitoring.api.list_views import CaseLists
from monitoring.api.who import Viewer
from monitoring.console.build import Builder
from monitoring.console.build_cases import cases_page
from monitoring.console.pages import render

_OF_THE_PAGE = ("format", "density")


def cases_router(builder: Builder, lists: CaseLists) -> APIRouter:
    """`/cases`; what it does goes through the API like everybody else's."""
    router = APIRouter(include_in_schema=False)

    @router.get("/cases")
    def cases(request: Request, who: Viewer) -> Response:
        """The form sends empty fields for "any"."""
        given = {k: v for k, v in request.query_params.items() if v}
        query = fields.checked(asks.CaseQuery, {k: v for k, v in given.items() if k not in _OF_THE_PAGE})
        with builder.view.store.together():
            page = cases_page(builder, lists, who, given, query)
        return render(request, "cases.html", page, 400 if page.problem else 200)

    return router
