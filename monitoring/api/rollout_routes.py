"""The JSON operations on roll-outs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from monitoring.api import rollout_models as m
from monitoring.api.batch_routes import CHANGE_PROBLEMS
from monitoring.api.rollout_views import RolloutDesk
from monitoring.api.who import Operator
from monitoring.rollout.rows import Ask

RolloutId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of the roll-out: 16 hex digits.")]


def rollout_router(desk: RolloutDesk) -> APIRouter:
    """Roll-outs: listed, begun, steered."""
    router = APIRouter(tags=["rollouts"])

    @router.get("/api/rollouts")
    def rollouts(query: Annotated[m.RolloutQuery, Query()]) -> m.Rollouts:
        """Roll-outs, running and ended, newest first."""
        return m.Rollouts(rollouts=list(desk.list(query.model, query.limit)))

    @router.post("/api/rollouts", status_code=201, responses=CHANGE_PROBLEMS)
    def begin_rollout(asked: m.RolloutStart, who: Operator) -> m.RolloutDetail:
        """Roll a registered version out, without any gate. One runs per model at a time."""
        return desk.begin(asked, who)

    @router.get("/api/rollouts/{rollout_id}")
    def rollout_detail(rollout_id: RolloutId) -> m.RolloutDetail:
        """A roll-out with its steps, its evidence, its ledger and its complete log."""
        return desk.show(rollout_id)

    @router.post("/api/rollouts/{rollout_id}/pause", responses=CHANGE_PROBLEMS)
    def pause_rollout(rollout_id: RolloutId, asked: m.RolloutAsked, who: Operator) -> m.RolloutDetail:
        """No step forward until it is resumed. Evidence against the candidate still takes it back."""
        return desk.ask(rollout_id, Ask.PAUSE, asked.note, who)

    @router.post("/api/rollouts/{rollout_id}/resume", responses=CHANGE_PROBLEMS)
    def resume_rollout(rollout_id: RolloutId, asked: m.RolloutAsked, who: Operator) -> m.RolloutDetail:
        """Go on with the step that it was in; a plan that somebody changed meanwhile becomes this step's again."""
        return desk.ask(rollout_id, Ask.RESUME, asked.note, who)

    @router.post("/api/rollouts/{rollout_id}/promote", responses=CHANGE_PROBLEMS)
    def promote_rollout(rollout_id: RolloutId, asked: m.RolloutAsked, who: Operator) -> m.RolloutDetail:
        """To the last step now, without the evidence of those between; in the last step: end it."""
        return desk.ask(rollout_id, Ask.PROMOTE, asked.note, who)

    @router.post("/api/rollouts/{rollout_id}/abort", responses=CHANGE_PROBLEMS)
    def abort_rollout(rollout_id: RolloutId, asked: m.RolloutAsked, who: Operator) -> m.RolloutDetail:
        """Withdraw the candidate; where it is the champion by now, the one before it answers again."""
        return desk.ask(rollout_id, Ask.ABORT, asked.note, who)

    return router
