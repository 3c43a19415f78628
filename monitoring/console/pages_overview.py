"""The first page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request, Response

from monitoring.console.build import Builder
from monitoring.console.build_overview import overview_page
from monitoring.console.pages import render


def overview_router(builder: Builder, clock: Callable[[], datetime]) -> APIRouter:
    """`/`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def overview(request: Request) -> Response:
        with builder.view.store.together():
            page = overview_page(builder, int(clock().timestamp() * 1e9))
        return render(request, "overview.html", page)

    return router
