"""The JSON operations about the loop."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from monitoring.api import fields, models
from monitoring.api import loop_models as m
from monitoring.api.loop_views import EVENTS, LoopDesk
from monitoring.api.who import Operator

TrainingId = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="Id of the training: 12 hex digits.")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": models.ErrorBody, "description": "Another site's page, or a role that may not do this."},
    409: {"model": models.ErrorBody, "description": "It has ended, or another one is under way."},
    413: {"model": models.ErrorBody, "description": "The body has no stated length, or is too large."},
}


def loop_router(desk: LoopDesk) -> APIRouter:
    """Where models stand in the loop, turns, decisions; and what people ask of it."""
    router = APIRouter(tags=["loop"])

    @router.get("/api/loop")
    def loop() -> m.LoopOverview:
        """Where every model stands, and why, or why not, it is trained now."""
        return desk.overview()

    @router.get("/api/loop/trainings")
    def trainings(
        model: Annotated[fields.Name | None, Query(description="Only of this model.")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> m.Turns:
        """Turns of the loop, the newest first."""
        return m.Turns(trainings=desk.turns(model, limit))

    @router.get("/api/loop/trainings/{training}")
    def training(training: TrainingId) -> m.TurnDetail:
        """One turn, with the decision that began it."""
        return desk.turn(training)

    @router.get("/api/loop/trainings/{training}/events")
    def training_events(
        training: TrainingId,
        since: Annotated[int, Query(ge=0, description="Events with at least this number.")] = 0,
        limit: Annotated[int, Query(ge=1, le=EVENTS)] = EVENTS,
    ) -> m.TurnEvents:
        """What its trainer said, and the stages that it came to."""
        return desk.events(training, since, limit)

    @router.get("/api/loop/trainings/{training}/log")
    def training_log(
        training: TrainingId,
        lines: Annotated[int, Query(ge=1, le=5_000)] = 200,
        gate: Annotated[bool, Query(description="Of the gate's job instead.")] = False,
    ) -> m.TurnLog:
        """The end of what its job has printed."""
        return desk.log(training, lines, gate)

    @router.post("/api/loop/trainings/{training}/approve", responses=PROBLEMS)
    def approve_training(training: TrainingId, asked: m.TurnAsk, who: Operator) -> m.Turn:
        """Approve a training that waits for it."""
        return desk.approve(training, who)

    @router.post("/api/loop/trainings/{training}/reject", responses=PROBLEMS)
    def reject_training(training: TrainingId, asked: m.TurnAsk, who: Operator) -> m.Turn:
        """Do not approve a training that waits for it: nothing of it begins."""
        return desk.end(training, who, asked.reason, only_asked=True)

    @router.post("/api/loop/trainings/{training}/cancel", responses=PROBLEMS)
    def cancel_training(training: TrainingId, asked: m.TurnAsk, who: Operator) -> m.Turn:
        """End a turn, wherever it stands: its job is stopped, its roll-out withdrawn."""
        return desk.end(training, who, asked.reason)

    @router.get("/api/loop/decisions")
    def loop_decisions(
        model: Annotated[fields.Name | None, Query(description="Only of this model.")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> m.LoopDecisions:
        """Every decision about whether to train, also those not to, with the evidence; the newest first."""
        return m.LoopDecisions(decisions=desk.decisions(model, limit))

    @router.post("/api/loop/retrain", responses=PROBLEMS)
    def retrain(asked: m.RetrainAsked, who: Operator) -> m.Retrain:
        """Train a model now, or (dry run) say what would happen and why."""
        return desk.retrain(asked, who)

    return router
