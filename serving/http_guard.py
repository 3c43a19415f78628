"""uvicorn's HTTP protocol with the limits that uvicorn does not have, for whatever lane runs on top of it.

uvicorn bounds neither the head of a request nor the time in which one arrives, keeps a silent connection for ever, and
answers a malformed request in plain text. `guarded(limits)` makes a protocol class that does:

- head larger than `head_bytes`: 431; more chunks than `chunks`: the body is refused;
- a request that is not complete `receive_s` after its first byte: 408, and the connection is closed;
- a connection without a request for `idle_s`, or one that takes less than 64 KiB of an answer in `receive_s`: closed;
- malformed HTTP: 400 with the protocol's JSON error;
- closing while the client still sends: our side is closed first and what comes is thrown away for a moment, because a
  reset would destroy the answer before the client has read it (RFC 9112, 9.6).

Time is looked at by one sweep of all connections every quarter of a second; a request costs two attribute writes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NoReturn

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from export.contracts.errors import HardcaseError, InvalidRequest, PayloadTooLarge
from serving.http_limits import head_too_large, receive_timeout
from serving.options import Limits

log = logging.getLogger("hardcase.serving")

SWEEP_S = 0.25
# How long a closing connection goes on being read, so that the answer survives.
LINGER_S = 2.0
# A reader must take at least this much in every `receive_s`.
MIN_DRAINED_BYTES = 64 << 10


class ClosingTransport:
    """A transport whose `close` lets a client that is still sending read the answer first."""

    def __init__(self, transport: asyncio.Transport, protocol: GuardedProtocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def close(self) -> None:
        """Close now, or linger when a request is still arriving."""
        self._protocol.close_gently()

    def is_closing(self) -> bool:
        """Whether no more answers should be written."""
        return self._protocol.lingering_since is not None or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedProtocol(HttpToolsProtocol):
    """See the module. Made by `guarded`, which fills in `limits` and `sweep`.

    Attributes:
        raw_transport: The real transport; `transport` is the one that closes gently.
        receiving_since: Loop time of the current request's first byte, 0.0 between requests.
        in_head: Whether its headers are not complete yet.
        lingering_since: Loop time of the gentle close.
    """

    limits: Limits
    sweep: Sweep

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.raw_transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.receiving_since = 0.0
        self.in_head = False
        self.lingering_since: float | None = None
        self.active_at = self.loop.time()
        self._head_bytes = 0
        self._pending_bytes = 0
        self._chunks = 0
        self._refusal: HardcaseError | None = None
        self._drain_since = 0.0
        self._drain_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """A client connected."""
        self.raw_transport = transport
        closing: Any = ClosingTransport(transport, self)
        super().connection_made(closing)
        self.sweep.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.sweep.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the connection is only kept open for its answer."""
        if self.lingering_since is not None:
            return
        self._unset_keepalive_if_required()
        began = self.receiving_since
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # RFC 9110, 7.8: an upgrade may be ignored. The parser took what follows the head for the other protocol.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self.refuse(self._refusal or InvalidRequest("the request is not valid HTTP"))
        else:
            if self.in_head:
                # A header is handed over when it is whole; one that never ends is seen only here.
                self._pending_bytes = self._pending_bytes + len(data) if began == self.receiving_since else 0
                if self._pending_bytes > self.limits.head_bytes:
                    self.refuse(head_too_large(self.limits))

    def on_message_begin(self) -> None:
        """First byte of a request."""
        self.receiving_since = self.loop.time()
        self.in_head = True
        self._head_bytes = self._chunks = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._count_head(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.in_head = False
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """The head of one chunk of a chunked body."""
        self._chunks += 1
        if self._chunks > self.limits.chunks:
            self._stop(PayloadTooLarge(f"the body has more than {self.limits.chunks} chunks"))

    def on_message_complete(self) -> None:
        """Last byte of a request."""
        self.receiving_since = 0.0
        self.active_at = self.loop.time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer was handed over; the connection is idle from now."""
        self.active_at = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """The refusals that uvicorn makes itself, in the protocol's form."""
        self.refuse(InvalidRequest("the request is not valid HTTP"))

    def _should_upgrade_to_ws(self) -> bool:
        return False

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.limits.head_bytes:
            self._stop(head_too_large(self.limits))

    def _stop(self, error: HardcaseError) -> NoReturn:
        # The parser turns whatever a callback raises into its own error, so the reason is kept here.
        self._refusal = error
        raise error

    def refuse(self, error: HardcaseError) -> None:
        """Answer outside the app and close: where this request ends in the stream is not known."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn declares
        if self.transport.is_closing():
            return
        if cycle is not None and not cycle.response_complete:
            if self.in_head:
                # An earlier request of this connection is still being answered: cut after its answer.
                cycle.keep_alive = False
                return
            # The app has this request. It learns that the client is gone; if it has not begun to answer, we do.
            cycle.disconnected = True
            cycle.message_event.set()
            if not cycle.response_started:
                self.transport.write(_render(error))
        elif self.in_head or cycle is None:
            self.transport.write(_render(error))
        self.close_gently()

    def close_gently(self) -> None:
        """Close; while the client is still sending, only our side, until it stops or `LINGER_S` have passed."""
        if self.lingering_since is not None or self.raw_transport.is_closing():
            return
        if self.receiving_since == 0.0 or not self.raw_transport.can_write_eof():
            self.raw_transport.close()
            return
        self.lingering_since = self.loop.time()
        self.raw_transport.write_eof()
        self.flow.resume_reading()

    def eof_received(self) -> None:
        """The client has sent all it will; returning None lets the transport close once answers are written."""

    def check(self, now: float) -> None:
        """What the sweep looks at: four clocks, at most one of which runs out."""
        limits = self.limits
        if self.lingering_since is not None:
            if now - self.lingering_since > LINGER_S:
                self.raw_transport.abort()
        elif self.receiving_since and self.flow.read_paused:
            # We are the slow side: an earlier request of the connection still runs, or the app has not read yet.
            self.receiving_since += SWEEP_S
        elif self.receiving_since and now - self.receiving_since > limits.receive_s + (
            0.0 if self.in_head else SWEEP_S
        ):
            self.refuse(receive_timeout(limits, "headers" if self.in_head else "body"))
        elif (waiting := self.raw_transport.get_write_buffer_size()) > 0:
            self._check_reader(now, waiting)
        else:
            self._drain_since = 0.0
            cycle: RequestResponseCycle | None = self.cycle
            idle = self.receiving_since == 0.0 and (cycle is None or cycle.response_complete)
            if idle and now - self.active_at > limits.idle_s:
                self.raw_transport.close()

    def _check_reader(self, now: float, waiting: int) -> None:
        if self._drain_since == 0.0 or self._drain_size - waiting >= MIN_DRAINED_BYTES:
            self._drain_since, self._drain_size = now, waiting
        elif waiting > self._drain_size:
            self._drain_size = waiting  # another answer was added; the clock goes on
        elif now - self._drain_since > self.limits.receive_s:
            log.info("a client reads its answer too slowly (%g s): closed", self.limits.receive_s)
            self.raw_transport.abort()


class Sweep:
    """Looks at every connection of one event loop four times a second while there are any."""

    def __init__(self) -> None:
        self._connections: set[GuardedProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: GuardedProtocol) -> None:
        """Watch a connection."""
        self._connections.add(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(SWEEP_S, self._run, connection.loop)

    def discard(self, connection: GuardedProtocol) -> None:
        """Stop watching."""
        self._connections.discard(connection)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for connection in tuple(self._connections):
            connection.check(now)
        if self._connections:
            self._timer = loop.call_later(SWEEP_S, self._run, loop)


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """A protocol class for `uvicorn.Config(http=…)` that enforces `limits`. One class serves one event loop."""
    return type("GuardedHttpProtocol", (GuardedProtocol,), {"limits": limits, "sweep": Sweep()})


def _render(error: HardcaseError) -> bytes:
    body = orjson.dumps({"error": error.message})
    status = STATUS_LINE.get(error.http_status, STATUS_LINE[400])
    return b"%scontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (
        status,
        len(body),
        body,
    )
