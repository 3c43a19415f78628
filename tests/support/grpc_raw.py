"""A gRPC client that sends exactly the frames it is told to, and a lane over a data plane to send them to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import hpack

from serving.grpc import http2
from serving.grpc.http2 import Kind
from serving.grpc.lane import GrpcLane
from serving.grpc.messages import messages
from serving.grpc.service import INFER, GrpcService
from tests.support.planes import Plane


@asynccontextmanager
async def lane_over(plane: Plane) -> AsyncIterator[GrpcLane]:
    """A started lane on a free port."""
    lane = GrpcLane(GrpcService(plane.data), "127.0.0.1", 0)
    await lane.start()
    try:
        yield lane
    finally:
        for client in RawClient.opened:
            client.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()
        RawClient.opened.clear()
        await lane.stop(2.0)


def infer_request(model: str, name: str, datatype: str, shape: tuple[int, ...], raw: bytes, **more: Any) -> bytes:
    """A ModelInferRequest with one raw input."""
    message = messages().ModelInferRequest(model_name=model, **more)
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    message.raw_input_contents.append(raw)
    data: bytes = message.SerializeToString()
    return data


def framed(message: bytes, compressed: int = 0) -> bytes:
    """A message with gRPC's prefix."""
    return bytes((compressed,)) + len(message).to_bytes(4, "big") + message


class RawClient:
    """One connection.

    Attributes:
        frames: Every frame received, as (kind, flags, stream, payload).
        goaway: Error code of the server's GOAWAY, None before one.
        opened: Those that `lane_over` closes at its end.
    """

    opened: ClassVar[list[RawClient]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.goaway: int | None = None
        self._decoder = hpack.Decoder()

    @classmethod
    async def open(cls, port: int, *, settings: bytes = http2.settings({}), greet: bool = True) -> RawClient:
        """Connect, and send the preface."""
        made = cls(*await asyncio.open_connection("127.0.0.1", port))
        cls.opened.append(made)
        if greet:
            made.send(http2.PREFACE + settings)
        return made

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def begin(self, stream: int, path: str = INFER, *, end: bool = False, **metadata: str) -> None:
        """Send the head of a call."""
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"test")]
        fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
        fields += [(name.replace("_", "-").encode(), value.encode()) for name, value in metadata.items()]
        flags = http2.END_HEADERS | (http2.END_STREAM if end else 0)
        self.send(http2.frame(Kind.HEADERS, flags, stream, http2.header_block(fields)))

    def data(self, stream: int, payload: bytes, *, end: bool = True) -> None:
        """Send a DATA frame."""
        self.send(http2.frame(Kind.DATA, http2.END_STREAM if end else 0, stream, payload))

    def call(self, stream: int, message: bytes, path: str = INFER, **metadata: str) -> None:
        """Send a whole unary call."""
        self.begin(stream, path, **metadata)
        self.data(stream, framed(message))

    async def frame(self, seconds: float = 10.0) -> tuple[int, int, int, bytes] | None:
        """The next frame; None when the server has closed."""
        try:
            head = await asyncio.wait_for(self.reader.readexactly(9), seconds)
            word, flags, stream = http2.FRAME.unpack(head)
            payload = await self.reader.readexactly(word >> 8)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        found = (word & 0xFF, flags, stream, payload)
        self.frames.append(found)
        if found[0] == Kind.GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        return found

    async def closed(self, seconds: float = 10.0) -> int | None:
        """Wait until the server closes; the code of its GOAWAY."""
        async with asyncio.timeout(seconds):
            while await self.frame(seconds) is not None:
                pass
        return self.goaway

    async def answer(self, stream: int, seconds: float = 10.0) -> tuple[int, str, bytes]:
        """Status, text and body of a call; the body is without gRPC's prefix."""
        body, fields = b"", {}
        while True:
            found = await self.frame(seconds)
            assert found is not None, f"closed: {self.goaway}"
            kind, flags, number, payload = found
            if kind == Kind.HEADERS:
                decoded = dict(self._decoder.decode(payload, raw=True))
                if number == stream:
                    fields.update(decoded)
            elif number == stream and kind == Kind.DATA:
                body += payload
            elif number == stream and kind == Kind.RST_STREAM:
                return -int.from_bytes(payload, "big"), "reset", body
            if number == stream and flags & http2.END_STREAM:
                if b"grpc-status" not in fields:
                    return -1000 - int(fields[b":status"]), "", body
                return int(fields[b"grpc-status"]), fields.get(b"grpc-message", b"").decode(), body[5:]

    def close(self) -> None:
        self.writer.close()
