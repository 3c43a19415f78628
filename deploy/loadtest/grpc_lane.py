"""gRPC: messages that are encoded once and sent as bytes, and answers of which only the size is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from deploy.loadtest.lanes import OK, Ended
from serving.grpc.messages import method_path

_LANES_A_CHANNEL = 16  # lanes that share a connection; servers allow about a hundred streams on one
_CONNECT_S = 5.0
_MOST_BYTES = 1 << 30


class GrpcRoad:
    """Channels to one server, each shared by some lanes.

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
        metadata: Sequence[tuple[str, str]] = (),
        tls: bool = False,
    ) -> None:
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._tls = tls
        self._channels: list[Any] = []
        self._lanes = 0
        self.requests = requests
        self.metadata = tuple((name.lower(), value) for name, value in metadata)

    def lane(self, ended: Ended) -> GrpcLane:
        """A place on a channel."""
        if self._lanes % _LANES_A_CHANNEL == 0:
            self._channels.append(self._channel())
        self._lanes += 1
        return GrpcLane(self, self._channels[-1], ended)

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels:
            await channel.close()
        self._channels.clear()
        self._lanes = 0

    def _channel(self) -> Any:
        options = [
            ("grpc.use_local_subchannel_pool", 1),  # otherwise all channels share one connection
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.enable_http_proxy", 0),
        ]
        if self._tls:
            return grpc.aio.secure_channel(self._address, grpc.ssl_channel_credentials(), options)
        return grpc.aio.insecure_channel(self._address, options)


class GrpcLane:
    """One call at a time. See `lanes.Lane`."""

    __slots__ = ("_call", "_channel", "_ended", "_method", "_road", "_task", "busy", "open", "start_ns")

    def __init__(self, road: GrpcRoad, channel: Any, ended: Ended) -> None:
        self._road = road
        self._channel = channel
        self._ended = ended
        self._method = channel.unary_unary(method_path("ModelInfer"))
        self._call: Any = None
        self._task: asyncio.Task[None] | None = None
        self.open = False
        self.busy = False
        self.start_ns = 0

    async def connect(self) -> None:
        """Wait for the channel."""
        async with asyncio.timeout(_CONNECT_S):
            await self._channel.channel_ready()
        self.open = True

    def send(self, request: int) -> None:
        """Begin a call."""
        self.busy = True
        call = self._method(self._road.requests[request], metadata=self._road.metadata)
        self._call = call
        self._task = asyncio.get_running_loop().create_task(self._wait(call))

    def give_up(self, reason: str) -> None:
        """Cancel the call."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        if self.busy:
            self.busy = False
            self._ended(self, reason, 0)

    def close(self) -> None:
        """Cancel the call without telling anybody."""
        self.busy = False
        self.open = False
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def _wait(self, call: Any) -> None:
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            self._done(call, f"grpc {error.code().name}", 0)
        except asyncio.CancelledError:
            self._done(call, "grpc CANCELLED", 0)
        else:
            self._done(call, OK, len(answer))

    def _done(self, call: Any, reason: str, size: int) -> None:
        if self._call is call:  # otherwise it was given up, and told already
            self._call = None
            self.busy = False
            self._ended(self, reason, size)
