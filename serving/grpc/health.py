"""`grpc.health.v1`: for the server as a whole ("") and for the inference service, which are ready together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from export.contracts.errors import NotFound
from serving.grpc.messages import SERVICE, messages

_LOOK_S = 0.25
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3


class Readiness(Protocol):
    """What is asked of the pool."""

    def ready(self) -> bool:
        """Whether every model that should answer does."""
        ...


def check(pool: Readiness, service: str) -> Any:
    """One answer of Check.

    Raises:
        NotFound: there is no such service.
    """
    if service not in ("", SERVICE):
        raise NotFound("unknown service")
    return messages().HealthCheckResponse(status=_SERVING if pool.ready() else _NOT_SERVING)


async def watch(pool: Readiness, service: str) -> AsyncIterator[bytes]:
    """The answers of Watch: the state now, then every change. Never ends by itself."""
    kind, told = messages().HealthCheckResponse, -1
    while True:
        state = _SERVICE_UNKNOWN
        if service in ("", SERVICE):
            state = _SERVING if pool.ready() else _NOT_SERVING
        if state != told:
            told = state
            yield kind(status=state).SerializeToString()
        await asyncio.sleep(_LOOK_S)
