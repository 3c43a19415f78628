"""The rooms for looking around: map, selection, comparison, and a form to try a model."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response

from monitoring.api import compare_models as m
from monitoring.api import fields
from monitoring.api.compare_views import Comparer
from monitoring.api.explore_routes import SelectionId
from monitoring.api.routes import Model
from monitoring.console.build import Builder
from monitoring.console.build_compare import compare_page
from monitoring.console.build_explore import map_page, selection_page, try_page
from monitoring.console.pages import render

_POINT = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?,-?\d+(\.\d+)?(e-?\d+)?")


def explore_pages(builder: Builder, comparer: Comparer) -> APIRouter:
    """Map, selection, compare, try."""
    router = APIRouter(include_in_schema=False)

    @router.get("/models/{model}/map")
    def map_of(request: Request, model: Model, version: fields.Name | None = None, focus: str = "") -> Response:
        mark = focus if _POINT.fullmatch(focus) else ""
        return render(request, "map.html", map_page(builder, comparer, model, version, mark))

    @router.get("/models/{model}/compare")
    def compare(request: Request, model: Model) -> Response:
        given = {k: v for k, v in request.query_params.items() if v and k != "format"}
        return render(
            request, "compare.html", compare_page(builder, comparer, model, fields.checked(m.CompareQuery, given))
        )

    @router.get("/models/{model}/try")
    def try_it(request: Request, model: Model, version: fields.Name | None = None) -> Response:
        return render(request, "try.html", try_page(builder, comparer, model, version))

    @router.get("/selections/{selection_id}")
    def one_selection(request: Request, selection_id: SelectionId) -> Response:
        return render(request, "selection.html", selection_page(builder, selection_id))

    return router
