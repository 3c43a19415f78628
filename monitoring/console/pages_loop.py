"""The pages about the loop. Their forms need no script: they post, and lead back to the page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from export.contracts.errors import InvalidRequest
from monitoring.api import fields
from monitoring.api import loop_models as m
from monitoring.api.loop_routes import TrainingId
from monitoring.api.loop_views import LoopDesk
from monitoring.api.who import Operator
from monitoring.console.build import Builder
from monitoring.console.build_loop import loop_page, turn_page
from monitoring.console.pages import form_of, render


def loop_pages(builder: Builder, desk: LoopDesk) -> APIRouter:
    """The loop and its turns."""
    router = APIRouter(include_in_schema=False)

    @router.get("/loop")
    def loop(request: Request) -> Response:
        return render(request, "loop.html", loop_page(builder, desk))

    @router.post("/loop")
    async def begin(request: Request, who: Operator) -> Response:
        given = {name: value for name, value in (await form_of(request)).items() if value}
        begun = await run_in_threadpool(desk.retrain, fields.checked(m.RetrainAsked, given), who)
        return RedirectResponse(f"/loop/{begun.training}" if begun.training else "/loop", status_code=303)

    @router.get("/loop/{training}")
    def one_turn(request: Request, training: TrainingId) -> Response:
        return render(request, "turn.html", turn_page(builder, desk, training))

    @router.post("/loop/{training}/{what}")
    async def ask(request: Request, training: TrainingId, what: str, who: Operator) -> Response:
        reason = (await form_of(request)).get("reason", "")[:500]
        if what == "approve":
            await run_in_threadpool(desk.approve, training, who)
        elif what in ("reject", "cancel"):
            await run_in_threadpool(desk.end, training, who, reason, only_asked=what == "reject")
        else:
            raise InvalidRequest("a training can be approved, rejected or cancelled")
        return RedirectResponse(f"/loop/{training}", status_code=303)

    return router
