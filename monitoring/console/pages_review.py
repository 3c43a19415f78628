"""The review page: its frame, its sheets, and the classes of a version."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from export.contracts.codec import to_plain
from export.contracts.errors import InvalidRequest
from monitoring.api import fields
from monitoring.api.finding_views import Findings
from monitoring.api.routes import CaseId, Model
from monitoring.api.who import Viewer
from monitoring.console.build import Builder
from monitoring.console.build_review import FILTERS, classes_of, review_page, sheet
from monitoring.console.pages import local, render

_KNOWN = (*FILTERS, "case", "back", "format")


def review_router(builder: Builder, findings: Findings) -> APIRouter:
    """The pages; what they do goes through the API like everybody else's."""
    router = APIRouter(include_in_schema=False)

    @router.get("/review")
    def review(request: Request, who: Viewer) -> Response:
        asked = {k: v for k, v in request.query_params.items() if v}
        unknown = next((name for name in asked if name not in _KNOWN), None)
        if unknown is not None:
            raise InvalidRequest(f"'{unknown[:64]}' is no filter of the review queue: {', '.join(FILTERS)}")
        first = asked.get("case")
        if first is not None:
            builder.view.case_row(first)
        back = local(asked["back"]) if "back" in asked else ""
        return render(request, "review.html", review_page(builder, who, asked, first, back))

    @router.get("/review/sheets/{case}")
    def one_sheet(request: Request, case: CaseId) -> Response:
        """One case, as a part of the page."""
        return render(request, "sheet.html", sheet(builder, findings, case))

    @router.get("/review/classes/{model}")
    def classes(model: Model, version: Annotated[fields.Name, Query()]) -> Response:
        """The classes of a version, as JSON."""
        return JSONResponse(to_plain(classes_of(builder, model, version)))

    return router
