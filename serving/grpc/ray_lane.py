"""The gRPC lane in the place of the gRPC server that Ray Serve starts in a replica.

Ray builds that server from `ray.serve._private.grpc_util.gRPCGenericServer`, a name that it looks up when the server is
started, after the deployment's constructor. We put a class with the same face there, in replicas only: HAProxy then
speaks HTTP/2 with the lane itself. Ray keeps its health method, so that draining works as ever. As with HTTP's fast
lane, correctness does not depend on it: without the hook, `serving.grpc.ingress` puts the service on Ray's own server.
`docs/decisions/0082-grpc-through-ray.md` has the measurement; `tests/ray` says when Ray has changed underneath.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ray
from ray.serve._private import grpc_util
from ray.serve._private.proxy_request_response import gRPCStreamingType

from export.contracts.errors import Unavailable
from serving.dataplane import DataPlane
from serving.grpc.lane import GrpcLane
from serving.grpc.service import GrpcService

HEALTHZ = "/ray.serve.RayServeAPIService/Healthz"
_KNOWN = "2.60."


def hook(plane: DataPlane) -> bool:
    """Make the gRPC server that Ray starts later in this process the lane; False with a Ray that we do not know."""
    if not ray.__version__.startswith(_KNOWN) or not hasattr(grpc_util, "gRPCGenericServer"):
        return False

    class BoundRayLane(RayLane):
        """Knows its data plane."""

        data_plane = plane

    table: Any = grpc_util
    table.gRPCGenericServer = BoundRayLane
    return True


class RayLane:
    """The part of `gRPCGenericServer` that Ray uses, over the lane.

    Args:
        service_handler_factory: Ray's way to its own methods.
        extra_options: Of grpcio; they mean nothing here.
    """

    data_plane: DataPlane

    def __init__(self, service_handler_factory: Callable[..., Any], *, extra_options: Any = None) -> None:
        self._health = service_handler_factory(service_method=HEALTHZ, streaming_type=gRPCStreamingType.UNARY_UNARY)
        self._service = GrpcService(self.data_plane, extra={HEALTHZ: self._healthz})
        self._lane: GrpcLane | None = None
        self._stopped = asyncio.Event()

    def add_insecure_port(self, address: str) -> int:
        """Bind. Ray asks for all addresses; without an API key only this machine may call.

        Raises:
            RuntimeError: the port is taken; Ray then tries another one.
        """
        host = "0.0.0.0" if self.data_plane.auth.enabled else "127.0.0.1"
        try:
            self._lane = GrpcLane(self._service, host, int(address.rpartition(":")[2]))
        except OSError as error:
            raise RuntimeError("the port is taken") from error
        return self._lane.port

    def add_passthrough_service(self, service_name: str) -> None:
        """Called for services that the lane has anyway."""

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Called with grpcio's handlers, which are not needed."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Called with grpcio's handlers, which are not needed."""

    async def start(self) -> None:
        """Begin to answer."""
        assert self._lane is not None  # Ray adds the port first
        await self._lane.start()

    async def stop(self, grace: float | None) -> None:
        """Take nothing new, finish what is under way."""
        if self._lane is not None:
            await self._lane.stop(grace or 0.0)
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> None:
        """Wait until somebody has stopped it."""
        await self._stopped.wait()

    async def _healthz(self, body: bytes) -> bytes:
        """Ray's own health method: it knows whether the replica drains."""
        context = _Context()
        answer: bytes = await self._health(body, context)
        if context.code is not None and context.code.name != "OK":
            raise Unavailable(context.details)
        return answer


class _Context:
    """What Ray's health method wants of grpcio's context."""

    def __init__(self) -> None:
        self.code: Any = None
        self.details = ""

    def set_code(self, code: Any) -> None:
        """Called by Ray."""
        self.code = code

    def set_details(self, details: str) -> None:
        """Called by Ray."""
        self.details = details
