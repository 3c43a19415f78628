"""The JSON operations about slices, groups of cases and like records."""

from __future__ import annotations

import threading
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from export.contracts.errors import NotFound
from monitoring.api import finding_models as f
from monitoring.api.files import CACHED
from monitoring.api.finding_views import Findings
from monitoring.api.routes import CaseId

SliceId = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="Id of the slice: 12 hex digits.")]


def finding_router(findings: Findings) -> APIRouter:
    """Slices, groups, neighbours, pictures of records."""
    router = APIRouter(tags=["findings"])
    reading = threading.Lock()  # the reader of single frames keeps a place in the log

    @router.get("/api/slices")
    def slices(query: Annotated[f.SliceQuery, Query()]) -> f.Slices:
        """Groups of records that fail more than the rest, the newest search and the worst first."""
        return f.Slices(slices=findings.slices(query))

    @router.get("/api/slices/{slice_id}")
    def slice_detail(slice_id: SliceId) -> f.Slice:
        """One slice with its trend and its cases."""
        return findings.slice(slice_id)

    @router.get("/api/cases/{case}/members")
    def case_members(case: CaseId, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> f.Members:
        """The exact and near duplicates that a case stands for in the list."""
        return findings.members(case, limit)

    @router.get("/api/cases/{case}/neighbours")
    def case_neighbours(case: CaseId, query: Annotated[f.NeighbourQuery, Query()]) -> f.Neighbours:
        """More like this: the nearest inputs by their embedding, over everything recorded of the version."""
        return findings.near(case, query)

    @router.get(
        "/api/inputs/{seq}.png",
        response_class=Response,
        responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def record_picture(
        seq: Annotated[int, Path(ge=1, le=2**62, description="Number of the record in the index.")],
        side: Annotated[int, Query(ge=1, le=1024)] = 256,
    ) -> Response:
        """The input of any recorded request as PNG, as long as the log or the archive has it."""
        with reading:
            try:
                png = findings.picture(seq, side)
            except (ValueError, IndexError):
                raise NotFound("the input of this record does not fit its signature and cannot be drawn") from None
        return Response(png, media_type="image/png", headers={"cache-control": CACHED})

    return router
