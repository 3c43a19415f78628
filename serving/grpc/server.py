"""Which gRPC server a process gets."""

from __future__ import annotations

from typing import Protocol

from serving.dataplane import DataPlane


class GrpcServer(Protocol):
    """A gRPC server on the running loop.

    Attributes:
        port: Where it listens.
    """

    port: int

    async def start(self) -> None:
        """Begin to answer."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, finish what is under way, for at most `grace_s`."""
        ...


def make_grpc_server(plane: DataPlane, host: str, port: int) -> GrpcServer:
    """A server for this data plane, bound and not started.

    Args:
        plane: Answers the requests.
        host: Address to bind.
        port: Port to bind; 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    from serving.grpc.service import GrpcService

    service = GrpcService(plane)
    if plane.options.fast_lane:
        from serving.grpc.lane import GrpcLane

        return GrpcLane(service, host, port)
    from serving.grpc.aio import AioServer

    return AioServer(service, host, port)
