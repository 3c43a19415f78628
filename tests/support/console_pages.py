"""Every page of a console, found in its routes: so that a test over all pages is over all pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI

NO_PAGES = ("/static/{name}", "/records/{record:path}")  # files; a way to another page


def page_routes(app: FastAPI) -> list[str]:
    """Paths of the console's pages, as their routes say them: everything that is no part of the API's document."""
    found = {
        route.path
        for route in _routes(app.routes)
        if "GET" in (getattr(route, "methods", None) or ()) and not getattr(route, "include_in_schema", True)
    }
    return sorted(path for path in found if path not in NO_PAGES and not path.startswith(("/openapi", "/api/")))


def addresses(app: FastAPI, values: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """({path: address}, paths for whose parameters there is no value).

    Args:
        app: The console.
        values: By parameter's name.
    """
    made, missing = {}, []
    for path in page_routes(app):
        names = [part.strip("{}").split(":")[0] for part in path.split("/") if part.startswith("{")]
        if all(name in values for name in names):
            made[path] = "/".join(
                values[part.strip("{}").split(":")[0]] if part.startswith("{") else part for part in path.split("/")
            )
        else:
            missing.append(path)
    return made, missing


def _routes(routes: Any) -> Iterator[Any]:
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        if inner is not None:
            yield from _routes(inner.routes)
        else:
            yield route
