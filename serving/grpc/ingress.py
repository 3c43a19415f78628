"""The service on the gRPC server that Ray Serve starts in every replica.

Ray would send each call through its own request path, once more per call as much work as grpcio's. But a servicer
function gets the server itself, and the server has services that "execute on this server directly": so the replica
offers its data plane here, and the servicer function, which Ray calls later in the same process, puts our handlers on
the server as such a service. Ray's own health method stays Ray's. `tests/ray` holds the facts that this relies on.
"""

from __future__ import annotations

import logging
from typing import Any

import grpc

from export.contracts.errors import Unavailable
from serving.dataplane import DataPlane
from serving.grpc.aio import Handlers, end
from serving.grpc.messages import HEALTH, SERVICE, method_path, pool
from serving.grpc.service import GrpcService
from serving.grpc.status import status_of

_log = logging.getLogger("hardcase.ray")


class _Offered:
    """What this process offers; None in Ray's own proxies, which have no data plane."""

    handlers: Handlers | None = None


def offer(plane: DataPlane) -> None:
    """Make the gRPC server that Ray starts later in this process answer from `plane`."""
    from serving.grpc import ray_lane

    if plane.options.fast_lane and not ray_lane.hook(plane):
        _log.warning("this version of Ray is not known: gRPC goes through grpcio, which is slower")
    # Ray binds that server to all addresses, whatever host HTTP is bound to.
    _Offered.handlers = Handlers(GrpcService(plane), loopback_only=not plane.auth.enabled)


def add_to(_servicer: Any, server: Any) -> None:
    """Ray's servicer function: put both services on a server.

    Args:
        _servicer: Ray's, without a use.
        server: Ray's `gRPCGenericServer`.
    """
    if _Offered.handlers is not None:
        _Offered.handlers.mark_used()
    for service in (SERVICE, HEALTH):
        methods = {method.name: _handler(method_path(method.name, service)) for method in _methods(service)}
        server.add_passthrough_service(service)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))


def _methods(service: str) -> Any:
    return pool().FindServiceByName(service).methods


def _handler(path: str) -> Any:
    if _Offered.handlers is not None:
        return _Offered.handlers.of(path)
    return grpc.stream_stream_rpc_method_handler(_absent)


async def _absent(_requests: Any, context: Any) -> None:
    """The answer of a proxy of Ray's, to which HAProxy turns while it knows no replica."""
    end(context, status_of(Unavailable("no replica is ready")))
