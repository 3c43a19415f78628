"""Which operations change something, and that each of them says who may: asked when the application is put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from monitoring.api.security import HOOKS, SAFE_METHODS
from monitoring.api.who import Needs
from monitoring.people.contracts import Role

# Changes that whoever asks makes to nobody but themselves, they come and they go; and webhooks.
OWN = (*HOOKS, "/sign-in", "/sign-out", "/first-start", "/invitation")


def routes_of(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """Every route, those of included routers too."""
    for route in routes:
        inner = getattr(route, "original_router", None)  # how newer versions of FastAPI keep an included router
        if inner is not None:
            yield from routes_of(inner.routes)
        elif isinstance(route, APIRoute):
            yield route


def role_of(route: APIRoute) -> Role | None:
    """The role that an operation asks for; None where it names none."""
    return _named(route.dependant)


def nameless_changes(routes: Iterable[BaseRoute]) -> list[str]:
    """Operations that change something and do not say who may."""
    return [
        f"{method} {route.path}"
        for route in routes_of(routes)
        for method in sorted((route.methods or set()) - set(SAFE_METHODS))
        if route.path not in OWN and role_of(route) is None
    ]


def _named(dependant: Dependant) -> Role | None:
    for inner in dependant.dependencies:
        if isinstance(inner.call, Needs):
            return inner.call.role
        found = _named(inner)
        if found is not None:
            return found
    return None
