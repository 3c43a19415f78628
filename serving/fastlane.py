"""The fast lane: a subclass of uvicorn's httptools protocol that answers inference requests without ASGI.

It takes over a request only when nothing about it is special: HTTP/1.1, kept alive, `POST …/infer`, a Content-Length,
no compressed body, no Expect. All else goes to uvicorn and the ASGI app, which answer inference requests just as well.
For every connection, in both lanes, it also enforces what uvicorn does not: a deadline for receiving a request, an
idle limit, a cap on head and chunks, and a bound on what waits to be written.

The hook: uvicorn looks its protocol class up in `uvicorn.config.HTTP_PROTOCOLS`. Ray Serve starts a replica's server
after the deployment's constructor, so an entry set there is used (`docs/decisions/0003-fast-lane.md`). This is the only
place that touches another library's table.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from time import monotonic
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from export.contracts.errors import HardcaseError, InvalidRequest, PayloadTooLarge, Unauthenticated
from serving.call import ANONYMOUS
from serving.dataplane import DataPlane
from serving.drain import Drain
from serving.entry import Entry
from serving.errors import error_body
from serving.http_limits import head_too_large, receive_timeout
from serving.lane_answer import compressed, date_line
from serving.lane_head import LaneHead, read_head

_PREFIX = b"POST /v2/models/"
_HEADS_KEPT = 1024
_HEAD_KEY_BYTES = 4096
_SWEEP_S = 0.25
_PIPELINED = 2  # requests of one connection under way: the next is read while one runs, a flood stays in the socket
_HELD_BYTES = 65_536  # of requests that wait their turn; past it they wait in the socket
_JOIN_BYTES = 65_536  # larger bodies are written beside their head instead of being copied behind it


class FastLaneProtocol(HttpToolsProtocol):
    """One connection. `bind` makes a subclass that knows its data plane.

    A connection is in one of two modes. Between messages, bytes are looked at here. Once a message has gone to
    uvicorn's parser, all bytes go there until the parser is between messages again and its answer is complete.
    """

    plane: DataPlane
    lane: bool = True
    open: weakref.WeakSet[FastLaneProtocol]
    heads: dict[bytes, LaneHead | None]
    around: Any = None  # an object that wraps the ASGI app of the server, where that has to be bypassed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = self.app if self.around is None else self.around(self.app)
        self._pending = b""  # bytes of an incomplete head, or of requests that have to wait their turn
        self._parts: list[bytes] = []  # body of the request that is being received
        self._missing = 0
        self._head: LaneHead | None = None
        self._waiting: deque[Entry] = deque()  # lane requests in order of arrival
        self._passing = False  # uvicorn's parser is inside a message
        self._receiving_since = 0.0  # 0 while no request is arriving
        self._active_at = 0.0
        self._in_head = False  # of a message that uvicorn's parser sees
        self._head_bytes = 0
        self._chunks = 0
        self._closing = False
        self._stalled = False  # bytes for uvicorn wait in _pending for the lane's answers
        self._write_paused = False
        self._drain = Drain()
        self._active = True

    def connection_made(self, transport: Any) -> None:
        """Called by the loop."""
        super().connection_made(transport)
        self._active_at = monotonic()
        self._receiving_since = 0.0
        self.open.add(self)
        self.plane.stats.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: nobody waits for these answers any more."""
        for entry in self._waiting:
            entry.cancelled = True
        self.plane.stats.in_flight -= len(self._waiting)
        self._waiting.clear()
        self._parts = []
        self._pending = b""
        self.open.discard(self)
        self.plane.stats.connections -= 1
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Called by uvicorn: finish what is under way, take nothing new."""
        if self._waiting or self._head is not None:
            self._closing = True
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """The client reads slowly: read no further requests from it."""
        super().pause_writing()
        self._write_paused = True
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """The client caught up."""
        super().resume_writing()
        self._write_paused = False
        self._receiving_since = self._receiving_since and monotonic()  # it was not read, whatever the client did
        self.flow.resume_reading()

    # bytes in

    def data_received(self, data: bytes) -> None:
        """Called by the loop with whatever has arrived."""
        self._active = True
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._closing and self._head is None:  # a request half received is finished first
            return
        if self._passing:
            self._pass(data)
            return
        if self._head is not None:
            data = self._more_body(data)
        elif self._pending:
            data = self._pending + data
            self._pending = b""
        self._take_in(data)

    def _take_in(self, data: bytes) -> None:
        """Look at whole messages, one after the other."""
        while data and not self._closing:
            if self._stalled or len(self._waiting) >= _PIPELINED:
                self._stall(data)
                return
            data = self._next(data)

    def _stall(self, data: bytes) -> None:
        """Keep bytes until the lane's answers before them are out; who stops reading would not see the client go."""
        self._pending, self._stalled = data, True
        if len(data) >= _HELD_BYTES:
            self.flow.pause_reading()

    def _next(self, data: bytes) -> bytes:
        """Look at the beginning of a message; returns the bytes behind it, or none when the rest is dealt with."""
        if not data.startswith(_PREFIX) or not self.lane:
            if len(data) < len(_PREFIX) and self.lane and _PREFIX.startswith(data):
                return self._hold(data)
            return self._pass_in_turn(data)
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > self.plane.options.limits.head_bytes:
                self._refuse_and_close(head_too_large(self.plane.options.limits))
                return b""
            return self._hold(data)
        head = self._look_up(data[:end])
        if head is None or self._asgi_busy():
            return self._pass_in_turn(data)
        length = head.content_length
        if self.plane.auth.enabled and len(data) - end < length:  # a stranger's body is not even taken in
            try:
                self.plane.auth.check(head.authorization)
            except Unauthenticated as refused:
                self.plane.stats.unauthenticated += 1
                self._refuse_and_close(refused)
                return b""
        if length > self.plane.options.limits.body_bytes:
            limit = self.plane.options.limits.body_bytes
            error = PayloadTooLarge(f"header 'Content-Length' is over the limit of {limit} bytes for a body")
            self.plane.refuse(head.call, error)
            self._refuse_and_close(error)
            return b""
        if len(data) - end < length:
            self._head, self._parts, self._missing = head, [data[end:]], length - (len(data) - end)
            self._receiving_since = self._receiving_since or monotonic()
            return b""
        self._receiving_since = 0.0
        self._take(head, data[end : end + length])
        return data[end + length :]

    def _more_body(self, data: bytes) -> bytes:
        """Add to the body that is being received; returns what lies behind it."""
        if len(data) < self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            return b""
        head, missing = self._head, self._missing
        assert head is not None
        self._parts.append(data[:missing])
        body = b"".join(self._parts)
        self._head, self._parts, self._missing = None, [], 0
        self._receiving_since = 0.0
        self._take(head, body)
        if self._closing and not self._waiting:  # it was the last one, and was refused at once
            self.transport.close()
        return data[missing:]

    def _hold(self, data: bytes) -> bytes:
        """Keep an incomplete head until more of it comes."""
        self._pending = data
        self._receiving_since = self._receiving_since or monotonic()
        return b""

    def _pass_in_turn(self, data: bytes) -> bytes:
        """Give bytes to uvicorn, once the lane's answers before them are out."""
        if self._waiting:
            self._stall(data)
        else:
            self._pass(data)
        return b""

    def _look_up(self, raw: bytes) -> LaneHead | None:
        heads = self.heads
        try:
            return heads[raw]
        except KeyError:
            head = read_head(raw, self.plane.sticky_header)
            if len(raw) <= _HEAD_KEY_BYTES:
                if len(heads) >= _HEADS_KEPT:
                    heads.clear()
                heads[raw] = head
            return head

    def _take(self, head: LaneHead, body: bytes) -> None:
        """A whole request: hand it to the data plane."""
        plane = self.plane
        try:
            caller = plane.auth.check(head.authorization) if plane.auth.enabled else ANONYMOUS
            entry = plane.accept(head.call, body, self, caller)
        except HardcaseError as error:
            if isinstance(error, Unauthenticated):
                plane.stats.unauthenticated += 1
            self._answer_now(*error_body(error))
            return
        entry.accept_encoding = head.accept_encoding
        plane.stats.in_flight += 1
        self._waiting.append(entry)

    # answers out

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        """Called by the data plane: the answer of a request that succeeded."""
        self._answer(entry, 200, headers, body)

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        """Called by the data plane: the request ended with an error."""
        self._answer(entry, *error_body(error))

    def _answer(self, entry: Entry, status: int, headers: bytes, body: bytes) -> None:
        """Write an answer, or hold it until the answers before it are out."""
        waiting = self._waiting
        if not waiting or self.transport.is_closing():
            return
        if entry.accept_encoding is not None:
            headers, body = compressed(headers, body, entry.accept_encoding)
        if waiting[0] is entry and len(waiting) == 1:
            waiting.popleft()
            self.plane.stats.in_flight -= 1
            self._write(status, headers, body)
            if self._stalled or self._closing:
                self._resume()
            return
        entry.response = b"".join((STATUS_LINE[status], date_line(), headers, body))
        while waiting and waiting[0].response is not None:
            self.transport.write(waiting.popleft().response)  # type: ignore[arg-type]
            self.plane.stats.in_flight -= 1
        if not waiting and (self._stalled or self._closing):
            self._resume()

    def _answer_now(self, status: int, headers: bytes, body: bytes) -> None:
        """An answer that is ready at once; behind others it becomes a place-holder in their order."""
        if not self._waiting:
            self._write(status, headers, body)
            return
        place = Entry.__new__(Entry)
        place.cancelled = False
        place.response = b"".join((STATUS_LINE[status], date_line(), headers, body))
        self._waiting.append(place)
        self.plane.stats.in_flight += 1

    def _write(self, status: int, headers: bytes, body: bytes) -> None:
        if len(body) <= _JOIN_BYTES:
            self.transport.write(b"".join((STATUS_LINE[status], date_line(), headers, body)))
        else:
            self.transport.writelines((b"".join((STATUS_LINE[status], date_line(), headers)), body))

    def _resume(self) -> None:
        """The lane has answered everything: close, or go on with what had to wait."""
        if self._closing:
            self.transport.close()
            return
        data, self._pending, self._stalled = self._pending, b"", False
        if not self._write_paused:
            self.flow.resume_reading()
        self._take_in(data)

    def _refuse_and_close(self, error: HardcaseError) -> None:
        """Answer and hang up: where the next request begins is not known any more."""
        status, headers, body = error_body(error)
        self._closing, self._head, self._parts = True, None, []
        if self._waiting:
            self._answer_now(status, b"connection: close\r\n" + headers, body)
        else:
            self._write(status, b"connection: close\r\n" + headers, body)
            self.transport.close()

    # uvicorn's way

    def _pass(self, data: bytes) -> None:
        """Feed uvicorn's parser. Whether it ends between two messages decides who sees the next bytes."""
        self._receiving_since = self._receiving_since or monotonic()
        self._passing = True
        super().data_received(data)
        if self._in_head and not self._closing:
            self._head_bytes += len(data)
            if self._head_bytes > self.plane.options.limits.head_bytes:
                self._refuse_and_close(head_too_large(self.plane.options.limits))

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what its parser cannot read: the protocol's error instead of a line of text."""
        cycle = self.cycle
        if self._closing:
            return
        if self._in_head and self._asgi_busy():
            cycle.keep_alive = False  # an earlier request is still being answered: hang up behind its answer
            return
        if not self._in_head and self._asgi_busy():
            cycle.disconnected = True  # the app has this request, and will not get the rest of it
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self._refuse_and_close(InvalidRequest("the request is not valid HTTP"))

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._passing = self._in_head = True
        self._head_bytes = self._chunks = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser: the head is whole, unless it is too large to be looked at."""
        self._in_head = False
        size = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
        if size > self.plane.options.limits.head_bytes:
            self._refuse_and_close(head_too_large(self.plane.options.limits))
        else:
            super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Called by the parser for every chunk of a chunked body; uvicorn itself does not count them."""
        self._chunks += 1
        limit = self.plane.options.limits.chunks
        if self._chunks == limit + 1 and not self._closing:
            self._refuse_and_close(PayloadTooLarge(f"the body has more than {limit} chunks"))

    def on_body(self, body: bytes) -> None:
        """Called by the parser; after a refusal the rest of the body is nobody's."""
        if not self._closing:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser: between two messages now."""
        if not self._closing:
            super().on_message_complete()
        self._passing = False
        self._receiving_since = 0.0

    # time

    def sweep(self, now: float) -> None:
        """Called every quarter second: cut what takes too long."""
        limits = self.plane.options.limits
        if self._drain.is_stuck(now, self.transport.get_write_buffer_size(), limits.receive_s):
            self.transport.abort()  # close() would wait for the reader
        elif self._receiving_since:
            late, busy = now - self._receiving_since > limits.receive_s, self._waiting or self._write_paused
            if late and not busy and not self._closing:
                part = "body" if self._head is not None or self._inside_body() else "headers"
                self._refuse_and_close(receive_timeout(limits, part))
        elif self._active or self._waiting or self._asgi_busy():
            self._active = False
            self._active_at = now
        elif now - self._active_at > limits.idle_s:
            self.transport.close()

    def _inside_body(self) -> bool:
        return self._passing and self._asgi_busy()

    def _asgi_busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn declares
        return cycle is not None and not cycle.response_complete


def bind(plane: DataPlane, *, lane: bool = True) -> type[FastLaneProtocol]:
    """A protocol class for this data plane.

    Args:
        plane: Answers the requests.
        lane: False keeps the limits and sends every request through ASGI.
    """
    members = {"plane": plane, "lane": lane, "open": weakref.WeakSet(), "heads": {}}
    protocol: type[FastLaneProtocol] = type("BoundFastLaneProtocol", (FastLaneProtocol,), members)
    return protocol


async def sweep_forever(protocol: type[FastLaneProtocol]) -> None:
    """Enforce the time limits of all connections of a bound class. Run it as a task on the server's loop."""
    while True:
        await asyncio.sleep(_SWEEP_S)
        now = monotonic()
        for connection in list(protocol.open):
            connection.sweep(now)


def install(plane: DataPlane, *, lane: bool = True) -> type[FastLaneProtocol]:
    """Make every uvicorn server that starts later in this process use the lane; sets `plane.stats.lane`."""
    protocol = bind(plane, lane=lane)
    uvicorn.config.HTTP_PROTOCOLS["auto"] = protocol  # type: ignore[assignment]
    return protocol
