"""Answers that are not JSON of ours: pictures, raw inputs, report documents, metrics.

What came from outside is never a page of this origin: payloads are attachments, and a report, which brings scripts of
its own, runs in a sandbox with an opaque origin and no network.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from export.contracts.datatypes import Datatype
from export.contracts.errors import NotFound
from monitoring.api.routes import CaseId, ReportId
from monitoring.api.views import View
from monitoring.case_rows import InputState
from monitoring.images import tensor_png
from monitoring.reports import ReportService
from monitoring.rows import CaseRow, TensorRow
from monitoring.thumbnails import DIRECTION as THUMBNAILS

SANDBOX = "default-src 'none'; sandbox"
# Evidently's pages carry inline scripts and styles. `sandbox` without allow-same-origin takes their origin away.
REPORT_SANDBOX = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "frame-ancestors 'none'; sandbox allow-scripts allow-downloads allow-popups"
)
CACHED = "private, max-age=3600, immutable"  # a case's input never changes


def file_router(view: View, reports: ReportService, metrics: Any) -> APIRouter:
    """Pictures, payloads, documents and metrics.

    Args:
        view: Store and catalogue.
        reports: The report service.
        metrics: A `prometheus_client.CollectorRegistry`.
    """
    router = APIRouter(tags=["files"])

    @router.get(
        "/api/cases/{case}/input.png",
        response_class=Response,
        responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def picture(
        case: CaseId,
        side: Annotated[int, Query(ge=1, le=1024)] = 256,
        name: Annotated[str | None, Query(max_length=255, description="Default: the first picture.")] = None,
    ) -> Response:
        """The input as PNG, enlarged by a whole factor until its longer side has `side` pixels, or shrunk to that."""
        row = view.case_row(case)
        spec = view.picture_of(row.model, row.version, name)
        if spec is None:
            raise NotFound("the input of this case is not a picture")
        if row.input_state == InputState.THUMBNAIL:
            small = [t for t in view.store.case_tensors(row.id, THUMBNAILS) if name in (None, t.name)]
            if not small:
                raise NotFound("no small picture of this input was kept")
            return Response(small[0].data, media_type="image/png", headers={"cache-control": CACHED})
        tensor = _kept(view, row, spec.name)
        try:
            datatype, place = Datatype(tensor.datatype), _row_of(row, tensor)
            png = tensor_png(tensor.data, datatype, tensor.shape, place, spec, side)
        except (ValueError, IndexError):
            raise NotFound("the input of this case does not fit its signature and cannot be drawn") from None
        return Response(png, media_type="image/png", headers={"cache-control": CACHED})

    @router.get(
        "/api/cases/{case}/input",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def payload(case: CaseId, name: Annotated[str | None, Query(max_length=255)] = None) -> Response:
        """An input's bytes as recorded (row-major, little-endian) as a download; `name` when there are several."""
        row = view.case_row(case)
        tensor = _kept(view, row, name)
        headers = {
            "content-disposition": f'attachment; filename="{row.id}.bin"',
            "content-security-policy": SANDBOX,
            "x-hardcase-datatype": tensor.datatype,
            "x-hardcase-shape": ",".join(str(n) for n in tensor.shape),
        }
        return Response(tensor.data, media_type="application/octet-stream", headers=headers)

    @router.get(
        "/api/reports/{report}.html",
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    def report_html(report: ReportId) -> Response:
        """The report for people, self-contained."""
        html = reports.document(report, "html")
        headers = {"content-security-policy": REPORT_SANDBOX}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    @router.get(
        "/api/reports/{report}.json",
        response_class=Response,
        responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    def report_json(report: ReportId) -> Response:
        """The report as the library writes it."""
        return Response(reports.document(report, "json"), media_type="application/json")

    @router.get(
        "/metrics",
        tags=["metrics"],
        response_class=Response,
        responses={
            200: {
                "content": {
                    kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")
                }
            }
        },
    )
    def expose(request: Request) -> Response:
        """Metrics in Prometheus's text format, or as OpenMetrics with exemplars for those who take that."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
        from prometheus_client.openmetrics import exposition as modern

        if "application/openmetrics-text" in request.headers.get("accept", ""):
            text = modern.generate_latest(metrics)  # type: ignore[no-untyped-call]  # the library gives no types here
            return Response(text, headers={"content-type": modern.CONTENT_TYPE_LATEST})
        return Response(generate_latest(metrics), headers={"content-type": CONTENT_TYPE_LATEST})

    return router


def _kept(view: View, row: CaseRow, name: str | None) -> TensorRow:
    tensors = view.store.case_tensors(row.id, "in")
    if row.input_state != "kept" or not tensors:
        raise NotFound("the input of this case was not kept")
    found = next((t for t in tensors if name in (None, t.name)), None)
    if found is None:
        raise NotFound("this case has no input of that name")
    return found


def _row_of(case: CaseRow, tensor: TensorRow) -> int:
    """Where the case's row is in the kept tensor, which holds the whole request or just that row."""
    return case.row if tensor.shape and tensor.shape[0] > 1 else 0
