"""The JSON operations about gates, and the files that they leave."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from monitoring.api import gate_models as m
from monitoring.api.files import REPORT_SANDBOX, SANDBOX
from monitoring.api.gate_views import GateDesk
from monitoring.catalogue import Catalogue

GateId = Annotated[str, Path(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="Id of the gate.")]


class GateFile(StrEnum):
    """What a gate leaves besides its report."""

    VERDICT = "verdict.json"
    JUNIT = "junit.xml"
    OPENLINEAGE = "openlineage.json"
    INPUTS = "inputs.csv"


_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def gate_router(desk: GateDesk, catalogue: Catalogue) -> APIRouter:
    """Gates.

    Args:
        desk: What is known of them.
        catalogue: Says what the champion was trained on.
    """
    router = APIRouter(tags=["gates"])

    @router.get("/api/gates")
    def gates(query: Annotated[m.GateQuery, Query()]) -> m.Gates:
        """Gates that were held, newest first."""
        return m.Gates(gates=desk.list(query))

    @router.get("/api/gates/plan")
    def plan_of_gate(query: Annotated[m.GatePlanQuery, Query()]) -> m.GatePlanned:
        """What a gate could tell with the labels there are now, and how many would be enough."""
        plan = catalogue.plan(query.model)
        champion = None if plan is None or plan.champion is None else catalogue.manifest(query.model, plan.champion)
        snapshot = None if champion is None else champion.provenance.dataset_snapshot
        return desk.plan(query, None if snapshot is None else snapshot.removeprefix("sha256:")[:16])

    @router.get("/api/gates/{gate}")
    def gate_detail(gate: GateId) -> m.GateDetail:
        """A gate with its checks, sets and costs."""
        return desk.show(gate)

    @router.get(
        "/api/gates/{gate}/report",
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    def gate_report(gate: GateId) -> Response:
        """The report for people, self-contained: every check drawn, and the inputs one by one."""
        html = desk.document(gate)
        headers = {"content-security-policy": REPORT_SANDBOX}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/api/gates/{gate}/files/{name}", response_class=Response, responses={200: {"content": _BINARY}})
    def gate_file(gate: GateId, name: GateFile) -> Response:
        """Another file of a gate, as a download."""
        data = desk.document(gate, name.value)
        headers = {
            "content-disposition": f'attachment; filename="{gate}-{name.value}"',
            "content-security-policy": SANDBOX,
        }
        return Response(data, media_type="application/octet-stream", headers=headers)

    return router
