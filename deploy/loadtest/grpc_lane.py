"""gRPC over HTTP/2, as lean as the HTTP lane: calls are prepared bytes, of an answer only size and status are read.

grpcio's asyncio client takes 150 µs of processor time a call, more than many servers take to answer it; this one takes
about a tenth.

References:
    RFC 9113, HTTP/2, 2022; gRPC over HTTP/2, grpc/grpc doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Sequence

from deploy.loadtest.grpc_connection import Http2Connection
from deploy.loadtest.headers import call_outcome, request_block
from deploy.loadtest.lanes import OK, Ended

_LANES_A_CONNECTION = 16  # servers allow about a hundred streams on one
_CONNECT_S = 5.0


class GrpcRoad:
    """Connections to one server, each shared by some lanes.

    Args:
        host: Name or address.
        port: TCP port.
        requests: Encoded `ModelInferRequest` messages.
        metadata: Sent with every call.
        tls: With the system's certificates.
    """

    def __init__(
        self,
        host: str,
        port: int,
        requests: Sequence[bytes],
        *,
        path: str = "/inference.GRPCInferenceService/ModelInfer",
        metadata: Sequence[tuple[str, str]] = (),
        tls: bool = False,
    ) -> None:
        self.host = host
        self.port = port
        self.tls: ssl.SSLContext | None = None
        if tls:
            self.tls = ssl.create_default_context()
            self.tls.set_alpn_protocols(["h2"])
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lower = [(name.lower(), value) for name, value in metadata]
        self.block = request_block(authority, path, lower, tls=tls)
        self.messages = [b"\0" + struct.pack(">I", len(r)) + r for r in requests]  # not compressed, its length
        self.outcomes: dict[bytes, str] = {}
        self._lanes = 0
        self._group: _Group | None = None

    def lane(self, ended: Ended) -> GrpcLane:
        """A place on a connection."""
        if self._group is None or self._lanes % _LANES_A_CONNECTION == 0:
            self._group = _Group(self)
        self._lanes += 1
        return GrpcLane(self._group, ended)

    async def close(self) -> None:
        """Nothing is shared beyond the lanes."""

    def outcome(self, block: bytes) -> str:
        """The reason of a lane for trailers; equal trailers are read once."""
        found = self.outcomes.get(block)
        if found is None:
            name = call_outcome(block)
            found = OK if name == "OK" else f"grpc {name}"
            if len(self.outcomes) < 1024:
                self.outcomes[block] = found
        return found


class _Group:
    """Lanes that share a connection, which is made again when it broke, and closed with the last of them."""

    def __init__(self, road: GrpcRoad) -> None:
        self.road = road
        self.lanes: set[GrpcLane] = set()
        self._connection: Http2Connection | None = None
        self._lock = asyncio.Lock()

    async def connection(self) -> Http2Connection:
        """A connection that takes calls.

        Raises:
            OSError: the server cannot be reached.
        """
        async with self._lock:
            if self._connection is None or not self._connection.usable:
                made = Http2Connection(self.road.block, self.road.outcome)
                name = self.road.host if self.road.tls else None
                async with asyncio.timeout(_CONNECT_S):
                    await asyncio.get_running_loop().create_connection(
                        lambda: made, self.road.host, self.road.port, ssl=self.road.tls, server_hostname=name
                    )
                    await made.ready
                self._connection = made
            return self._connection

    def leave(self, lane: GrpcLane) -> None:
        """A lane is closed."""
        self.lanes.discard(lane)
        if not self.lanes and self._connection is not None:
            self._connection.abort()
            self._connection = None


class GrpcLane:
    """One call at a time. See `lanes.Lane`."""

    __slots__ = (
        "_connection",
        "_ended",
        "_group",
        "busy",
        "open",
        "sent",
        "size",
        "start_ns",
        "stream",
        "waiting",
        "window",
    )

    def __init__(self, group: _Group, ended: Ended) -> None:
        self._group = group
        self._ended = ended
        self._connection: Http2Connection | None = None
        group.lanes.add(self)
        self.open = False
        self.busy = False
        self.start_ns = 0
        self.stream = 0
        self.size = 0
        self.waiting = b""  # of the message, what flow control does not let us send yet
        self.window = 0

    async def connect(self) -> None:
        """Join the group's connection."""
        self._connection = await self._group.connection()
        self._connection.lanes.add(self)
        self.open = True

    def send(self, request: int) -> None:
        """Begin a call."""
        assert self._connection is not None
        self.busy = True
        self.size = 0
        self._connection.call(self, self._group.road.messages[request])

    def give_up(self, reason: str) -> None:
        """Cancel the call."""
        if self.busy:
            if self._connection is not None:
                self._connection.cancel(self)
            self.end(reason)

    def close(self) -> None:
        """Cancel the call without telling anybody."""
        self.open = False
        if self.busy and self._connection is not None:
            self._connection.cancel(self)
        self.busy = False
        if self._connection is not None:
            self._connection.lanes.discard(self)
        self._group.leave(self)

    def end(self, reason: str) -> None:
        """The call has ended."""
        self.busy = False
        self._ended(self, reason, self.size)
