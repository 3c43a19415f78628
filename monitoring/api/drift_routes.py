"""The JSON operations about what moved."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from monitoring.api import asks, drift_models, drift_views, report_models
from monitoring.api.routes import Model
from monitoring.api.views import View


def drift_router(view: View) -> APIRouter:
    """What moved, where and since when."""
    router = APIRouter(tags=["drift"])

    @router.get("/api/models/{model}/moves")
    def moves(model: Model, query: Annotated[asks.MoveQuery, Query()]) -> drift_models.Moves:
        """What moved most against the reference, each with a sentence, its distributions and a timeline."""
        return drift_views.moves(view, model, query)

    @router.get("/api/models/{model}/moves/slices")
    def slice_moves(model: Model, query: Annotated[asks.SliceMoveQuery, Query()]) -> drift_models.SliceMoves:
        """Which slices (predicted classes, variants, tags, request parameters) are no longer like their own past."""
        return drift_views.slices(view, model, query)

    @router.get("/api/models/{model}/report-figures", tags=["reports"])
    def figures(model: Model, query: Annotated[asks.FigureQuery, Query()]) -> report_models.ReportFigures:
        """What Evidently's reports said of each column, over time, each with its method and threshold."""
        return drift_views.figures(view, model, query)

    return router
