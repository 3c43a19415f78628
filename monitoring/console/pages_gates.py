"""The pages about gates. Nothing on them changes anything."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from monitoring.api.gate_routes import GateId
from monitoring.api.gate_views import GateDesk
from monitoring.console.build import Builder
from monitoring.console.build_gates import gate_page, gates_page
from monitoring.console.pages import render


def gates_router(builder: Builder, desk: GateDesk) -> APIRouter:
    """Gates."""
    router = APIRouter(include_in_schema=False)

    @router.get("/gates")
    def all_gates(request: Request) -> Response:
        return render(request, "gates.html", gates_page(builder, desk))

    @router.get("/gates/{gate}")
    def one_gate(request: Request, gate: GateId) -> Response:
        return render(request, "gate.html", gate_page(builder, desk, gate))

    return router
