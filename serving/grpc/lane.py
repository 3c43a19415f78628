"""The gRPC lane: our own HTTP/2 server on the event loop, without grpcio.

grpcio's asyncio server spends about 150 µs of one core a call in Python and in its completion queue; the lane spends
about a tenth of that. `docs/decisions/0080-grpc-lane.md` has the profile and what the lane gives up.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from serving.grpc.connection import GrpcConnection
from serving.grpc.service import GrpcService
from serving.replica import bind_socket

_SWEEP_S = 0.25


class GrpcLane:
    """A server with the service on it.

    Args:
        service: Answers.
        host: Address to bind.
        port: Port to bind; 0 takes a free one.

    Attributes:
        port: Where it listens.
        open: Its connections.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, service: GrpcService, host: str, port: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.open: set[GrpcConnection] = set()
        self._service = service
        self._socket = bind_socket(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._server = await self.loop.create_server(
            lambda: GrpcConnection(self._service, self), sock=self._socket, backlog=2048
        )
        self._sweeper = self.loop.create_task(self._sweep_forever())
        self._service.plane.stats.grpc_lane = "fast"

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, finish what is under way, for at most `grace_s`."""
        if self._server is not None:
            self._server.close()
        else:
            self._socket.close()
        for connection in list(self.open):
            connection.leave()
        give_up = monotonic() + grace_s
        while self.open and monotonic() < give_up:
            await asyncio.sleep(0.01)
        for connection in list(self.open):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _sweep_forever(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(_SWEEP_S)
            turn += 1
            now = monotonic()
            for connection in list(self.open):
                connection.sweep(now, second=turn % 4 == 0)
