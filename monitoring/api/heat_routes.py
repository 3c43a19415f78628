"""Tensors of a case as heat maps."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from export.contracts.datatypes import Datatype
from export.contracts.errors import NotFound
from monitoring.api.files import CACHED
from monitoring.api.routes import CaseId
from monitoring.api.views import View
from monitoring.heat import heat_png
from monitoring.images import to_array


def heat_router(view: View) -> APIRouter:
    """`/api/cases/ID/heat.png`."""
    router = APIRouter(tags=["files"])

    @router.get(
        "/api/cases/{case}/heat.png",
        response_class=Response,
        responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    def heat_map(
        case: CaseId,
        name: Annotated[str | None, Query(max_length=255, description="Default: the first tensor.")] = None,
        direction: Literal["in", "out"] = "in",
        side: Annotated[int, Query(ge=1, le=1024)] = 256,
    ) -> Response:
        """A recorded tensor of numbers as a heat map, the case's row of it."""
        row = view.case_row(case)
        tensors = view.store.case_tensors(row.id, direction)
        tensor = next((t for t in tensors if name in (None, t.name) and t.data), None)
        if tensor is None:
            raise NotFound("this case has no such tensor, or it was not kept")
        place = row.row if tensor.shape and tensor.shape[0] > 1 else 0
        try:
            png = heat_png(to_array(tensor.data, Datatype(tensor.datatype), tensor.shape)[place], side)
        except (ValueError, IndexError):
            raise NotFound("this tensor holds no numbers that can be drawn") from None
        return Response(png, media_type="image/png", headers={"cache-control": CACHED})

    return router
