"""Styles and scripts of the pages: the files of `static/`, and nothing else."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Response

from export.contracts.errors import NotFound

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """The files there are, listed once: what is asked for is looked up in this list and never in the file system."""
    return frozenset(path.name for path in FOLDER.iterdir() if path.suffix in TYPES)


def static_router() -> APIRouter:
    """`/static/NAME`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in names():
            raise NotFound("there is nothing at this address")
        path = FOLDER / name
        return Response(path.read_bytes(), media_type=TYPES[path.suffix], headers={"cache-control": "no-cache"})

    return router
