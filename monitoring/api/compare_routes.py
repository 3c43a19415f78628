"""The JSON operations about two versions beside each other."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from monitoring.api import compare_models as m
from monitoring.api.compare_views import Comparer, replay
from monitoring.api.routes import Model
from monitoring.api.who import Operator

ReplayId = Annotated[int, Path(ge=1, le=2**62, description="Number of the comparison run.")]


def compare_router(comparer: Comparer) -> APIRouter:
    """Comparisons, and runs that make them possible."""
    router = APIRouter(tags=["explore"])

    @router.get("/api/models/{model}/compare")
    def compare(model: Model, query: Annotated[m.CompareQuery, Query()]) -> m.Comparison:
        """Two versions on every input that both have answered."""
        return comparer.compare(model, query)

    @router.post("/api/models/{model}/replays", status_code=202)
    def start_replay(model: Model, asked: m.ReplayStart, who: Operator) -> m.Replay:
        """Send stored cases to versions, so that they can be compared on them. Counts as no traffic."""
        return comparer.start(model, asked, who.name)

    @router.get("/api/models/{model}/replays")
    def listed_replays(model: Model) -> m.Replays:
        """Comparison runs of a model."""
        rows = comparer.replays.newest(comparer.explorer.view.known(model))
        if any(row.finished_ns is None for row in rows):
            comparer.replays.wake()
        return m.Replays(replays=[replay(row) for row in rows], loaded=list(comparer.explorer.serving.loaded(model)))

    @router.get("/api/replays/{replay_id}")
    def one_replay(replay_id: ReplayId) -> m.Replay:
        """How far a run is."""
        return replay(comparer.replays.get(replay_id))

    @router.post("/api/replays/{replay_id}/cancel")
    def cancel_replay(replay_id: ReplayId, who: Operator) -> m.Replay:
        """End a run; what was answered stays."""
        return replay(comparer.replays.cancel(replay_id))

    return router
