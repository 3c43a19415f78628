"""The pages about roll-outs. Their forms need no script: they post, and lead back to the page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from export.contracts.errors import InvalidRequest
from monitoring.api import fields
from monitoring.api import rollout_models as m
from monitoring.api.rollout_routes import RolloutId
from monitoring.api.rollout_views import RolloutDesk
from monitoring.api.who import Operator
from monitoring.console.build import Builder
from monitoring.console.build_rollouts import rollout_page, rollouts_page
from monitoring.console.pages import form_of, render
from monitoring.rollout.rows import Ask


def rollouts_router(builder: Builder, desk: RolloutDesk) -> APIRouter:
    """Roll-outs."""
    router = APIRouter(include_in_schema=False)

    @router.get("/rollouts")
    def all_rollouts(request: Request) -> Response:
        return render(request, "rollouts.html", rollouts_page(builder, desk))

    @router.post("/rollouts")
    async def begin(request: Request, who: Operator) -> Response:
        model, _, version = (await form_of(request)).get("what", "").partition(" ")
        begun = desk.begin(fields.checked(m.RolloutStart, {"model": model, "version": version}), who)
        return RedirectResponse(f"/rollouts/{begun.id}", status_code=303)

    @router.get("/rollouts/{rollout_id}")
    def one_rollout(request: Request, rollout_id: RolloutId) -> Response:
        return render(request, "rollout.html", rollout_page(builder, desk, rollout_id))

    @router.post("/rollouts/{rollout_id}/{what}")
    async def steer(request: Request, rollout_id: RolloutId, what: str, who: Operator) -> Response:
        if what not in [ask.value for ask in Ask]:
            raise InvalidRequest(f"a roll-out can be asked to {', '.join(Ask)}")
        desk.ask(rollout_id, Ask(what), (await form_of(request)).get("note", "")[:500], who)
        return RedirectResponse(f"/rollouts/{rollout_id}", status_code=303)

    return router
