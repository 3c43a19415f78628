"""The service on grpcio's asyncio server: inside Ray's replicas, and wherever the lane is switched off.

Handlers take and give bytes: grpcio never sees a message class.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio

from export.contracts.errors import HardcaseError, Unauthenticated
from serving.auth import is_loopback
from serving.entry import Entry
from serving.grpc.reflection import REFLECT, reflect
from serving.grpc.service import INFER, STREAM_INFER, WATCH, GrpcService, Metadata
from serving.grpc.status import Status, status_of
from serving.grpc.stream import IN_FLIGHT, InferStream
from serving.options import Limits

_CODES = {code.value[0]: code for code in grpc.StatusCode}
MAX_STREAMS = 1024  # calls under way on one connection


def server_options(limits: Limits) -> list[tuple[str, int]]:
    """Settings of a grpcio server, so that one client cannot take more than over HTTP."""
    return [
        ("grpc.max_receive_message_length", limits.body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.head_bytes),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.so_reuseport", 0),
    ]


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Routes every path: what does not exist is refused like the rest, after the credential was looked at.

    Args:
        service: Answers.
        loopback_only: Refuse peers on other machines; for servers that somebody else has bound to all addresses.
    """

    def __init__(self, service: GrpcService, *, loopback_only: bool = False) -> None:
        self._service = service
        self._loopback_only = loopback_only
        self._infer = grpc.unary_unary_rpc_method_handler(self._on_infer)
        self._stream = grpc.stream_stream_rpc_method_handler(self._on_stream)
        self._watch = grpc.unary_stream_rpc_method_handler(self._on_watch)

    def mark_used(self) -> None:
        """Say that a server of grpcio's answers in this process; a lane that starts later says otherwise."""
        self._service.plane.stats.grpc_lane = "grpcio"

    def service(self, handler_call_details: Any) -> Any:
        """Called by grpcio: the handler of a path."""
        return self.of(handler_call_details.method)

    def of(self, path: str) -> Any:
        """The handler of a path; never None."""
        if path == INFER:
            return self._infer
        if path == STREAM_INFER:
            return self._stream
        if path == WATCH:
            return self._watch
        if path in REFLECT:
            return grpc.stream_stream_rpc_method_handler(functools.partial(self._on_reflection, path))

        async def unary(body: bytes, context: Any) -> bytes:
            return await self._on_unary(path, body, context)

        return grpc.unary_unary_rpc_method_handler(unary)

    async def _on_infer(self, body: bytes, context: Any) -> bytes:
        waiter, stats = _Waiter(), self._service.plane.stats
        try:
            entry = self._service.infer(body, self._metadata(INFER, context), waiter, _left_ns(context))
        except Exception as error:
            return end(context, status_of(error))
        stats.in_flight += 1
        try:
            return await waiter.future
        except asyncio.CancelledError:
            entry.cancelled = True
            raise
        except HardcaseError as error:
            return end(context, status_of(error))
        finally:
            stats.in_flight -= 1

    async def _on_unary(self, path: str, body: bytes, context: Any) -> bytes:
        try:
            self._metadata(path, context)
            return await self._service.unary(path, body)
        except Exception as error:
            return end(context, status_of(error))

    async def _on_watch(self, body: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            self._metadata(WATCH, context)
            answers = self._service.watch_health(body)
        except Exception as error:
            end(context, status_of(error))
            return
        async for answer in answers:
            yield answer

    async def _on_reflection(self, path: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            self._metadata(path, context)
        except Exception as error:
            end(context, status_of(error))
            return
        async for body in requests:
            yield reflect(body)

    async def _on_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            metadata = self._metadata(STREAM_INFER, context)
        except Exception as error:
            end(context, status_of(error))
            return
        answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        room = asyncio.Semaphore(IN_FLIGHT)

        def send(answer: bytes) -> None:
            room.release()
            answers.put_nowait(answer)

        stream = InferStream(self._service, metadata, send, _left_ns(context))

        async def read() -> None:
            try:
                async for body in requests:
                    await room.acquire()
                    stream.take(body)
                for _ in range(IN_FLIGHT):  # until the last answer is out
                    await room.acquire()
            finally:
                answers.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (answer := await answers.get()) is not None:
                yield answer
        finally:
            reader.cancel()
            stream.cancel()

    def _metadata(self, path: str, context: Any) -> Metadata:
        given: dict[bytes, bytes] = {}
        for key, value in context.invocation_metadata() or ():
            name = key.encode()
            if name == b"authorization" and name in given:
                raise Unauthenticated("metadata 'authorization' is given twice")
            given[name] = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        if self._loopback_only and not _is_local(context.peer()):
            raise Unauthenticated("no API key is configured: only this machine may call")
        return self._service.metadata(path, given)


class _Waiter:
    """A reply that a handler awaits."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result(body)

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def end(context: Any, status: Status) -> bytes:
    """Let a call end with a status; what is returned is not sent."""
    context.set_code(_CODES[status.code])
    context.set_details(status.message)
    if status.trailers:
        context.set_trailing_metadata(status.trailers)
    return b""


def _left_ns(context: Any) -> int:
    """What is left of the caller's deadline; 0 when it set none."""
    left = context.time_remaining()
    return 0 if left is None else max(1, int(left * 1e9))


def _is_local(peer: str) -> bool:
    """Whether a peer as grpcio names it (`ipv4:127.0.0.1:4711`, `ipv6:[::1]:4711`, `unix:…`) is on this machine.

    Example:
        >>> _is_local("ipv4:127.0.0.1:4711"), _is_local("ipv6:%5B::1%5D:4711"), _is_local("ipv4:192.0.2.1:4711")
        (True, True, False)
    """
    kind, _, rest = peer.partition(":")
    if kind == "unix":
        return True
    host = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0].strip("[]")
    return is_loopback(host.removeprefix("::ffff:"))


class AioServer:
    """grpcio's server with the service on it.

    Args:
        service: Answers.
        host: Address to bind.
        port: Port to bind; 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, service: GrpcService, host: str, port: int) -> None:
        self._server = aio.server(options=server_options(service.plane.options.limits))
        self._handlers = Handlers(service)
        self._server.add_generic_rpc_handlers((self._handlers,))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port: int = self._server.add_insecure_port(address)
        except RuntimeError:
            raise OSError(f"cannot listen on {host} port {port}") from None

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()
        self._handlers.mark_used()

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, finish what is under way, for at most `grace_s`."""
        await self._server.stop(grace_s)
