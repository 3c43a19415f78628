"""A load generator for gRPC that costs less than what it measures: prepared frames on plain sockets, one process.

    python -m benchmarks.grpc_load HOST:PORT --streams 64 --seconds 5 --request FILE

It keeps a number of calls of one method under way (closed loop), always with the same request, and counts a call when
its trailers have come and its answer had the expected size; whoever starts it compares an answer's content before and
after. It understands just enough HTTP/2 for servers that keep to the protocol. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
from pathlib import Path
from time import perf_counter

import uvloop

from serving.grpc import http2
from serving.grpc.http2 import Kind, Setting

INFER = b"/inference.GRPCInferenceService/ModelInfer"


class Client(asyncio.Protocol):
    """One connection with some calls under way.

    Args:
        head: Header block of every call.
        message: The request.
        streams: Calls to keep under way.
    """

    def __init__(self, head: bytes, message: bytes, streams: int) -> None:
        self.streams = streams
        self.running = False
        self.latencies: list[float] = []
        self.sizes: set[int] = set()
        self.failed = 0
        self.lost = False
        self.drained = asyncio.get_running_loop().create_future()
        framed = b"\x00" + len(message).to_bytes(4, "big") + message
        self._before = struct.pack(">IB", len(head) << 8 | Kind.HEADERS, http2.END_HEADERS)
        self._between = head + struct.pack(">IB", len(framed) << 8 | Kind.DATA, http2.END_STREAM)
        self._framed = framed
        self._next = 1
        self._open: dict[int, tuple[float, int]] = {}
        self._rest = b""
        self._taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport
        own = {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: http2.LARGEST_WINDOW}
        self._transport.write(
            http2.PREFACE + http2.settings(own) + http2.window_update(0, http2.LARGEST_WINDOW - http2.FIRST_WINDOW)
        )

    def begin(self) -> None:
        """Start the calls."""
        self.running = True
        self._transport.write(b"".join(self._request() for _ in range(self.streams)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.lost = True
        self.failed += len(self._open)
        if not self.drained.done():
            self.drained.set_result(None)

    def _request(self) -> bytes:
        number, self._next = self._next, self._next + 2
        self._open[number] = (perf_counter(), 0)
        four = number.to_bytes(4, "big")
        return b"".join((self._before, four, self._between, four, self._framed))

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        data = self._rest + data
        at, end, out = 0, len(data), []
        while end - at >= http2.FRAME_BYTES:
            word, flags, number = http2.FRAME.unpack_from(data, at)
            stop = at + http2.FRAME_BYTES + (word >> 8)
            if stop > end:
                break
            kind = word & 0xFF
            if kind == Kind.DATA:
                begun, size = self._open.get(number, (0.0, 0))
                if begun:
                    self._open[number] = (begun, size + (word >> 8))
                self._taken += word >> 8
            elif kind == Kind.SETTINGS and not flags & http2.ACK:
                out.append(http2.frame(Kind.SETTINGS, http2.ACK, 0))
            elif kind == Kind.PING and not flags & http2.ACK:
                out.append(http2.frame(Kind.PING, http2.ACK, 0, data[at + 9 : stop]))
            if (kind in (Kind.DATA, Kind.HEADERS) and flags & http2.END_STREAM) or kind == Kind.RST_STREAM:
                self._ended(number, out)
            at = stop
        self._rest = data[at:]
        if self._taken > 1 << 24:
            out.append(http2.window_update(0, self._taken))
            self._taken = 0
        if out:
            self._transport.write(b"".join(out))

    def _ended(self, number: int, out: list[bytes]) -> None:
        begun, size = self._open.pop(number, (0.0, 0))
        if not begun:
            return  # the reset behind trailers
        self.latencies.append(perf_counter() - begun)
        self.sizes.add(size)
        self.failed += not size
        if self.running:
            out.append(self._request())
        elif not self._open and not self.drained.done():
            self.drained.set_result(None)


async def drive(
    host: str, port: int, message: bytes, *, streams: int, connections: int, seconds: float, warm_up_s: float
) -> dict[str, object]:
    """Keep `streams` calls under way for a while.

    Returns:
        Calls, failures, seconds, latencies (ms) at percentiles, and the sizes of the answers.
    """
    loop = asyncio.get_running_loop()
    head = http2.header_block(
        (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", INFER),
            (b":authority", f"{host}:{port}".encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"grpc-load/1"),
        )
    )
    share = [streams // connections + (n < streams % connections) for n in range(connections)]
    clients = []
    for count in share:
        _, client = await loop.create_connection(lambda n=count: Client(head, message, n), host, port)
        clients.append(client)
    await asyncio.sleep(0.3)
    for client in clients:
        client.begin()
    await asyncio.sleep(warm_up_s)
    for client in clients:
        client.latencies.clear()
    begun = perf_counter()
    await asyncio.sleep(seconds)
    spent = perf_counter() - begun
    calls = [len(client.latencies) for client in clients]
    for client in clients:
        client.running = False
    await asyncio.wait([client.drained for client in clients], timeout=10)
    latencies = sorted(v for client, n in zip(clients, calls, strict=True) for v in client.latencies[:n])
    return {
        "calls": sum(calls),
        "failed": sum(client.failed for client in clients),
        "lost_connections": sum(client.lost for client in clients),
        "seconds": spent,
        "per_s": sum(calls) / spent,
        "answer_bytes": sorted({size for client in clients for size in client.sizes}),
        "latency_ms": {
            f"p{p}": round(1000 * latencies[min(len(latencies) - 1, int(len(latencies) * p / 100))], 3)
            for p in (50, 90, 99)
            if latencies
        },
    }


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc_load", description=__doc__.split("\n")[0])
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("--request", type=Path, required=True, help="file with a serialised ModelInferRequest")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    options = parser.parse_args(argv)
    host, _, port = options.address.rpartition(":")
    result = uvloop.run(
        drive(
            host,
            int(port),
            options.request.read_bytes(),
            streams=options.streams,
            connections=min(options.connections, options.streams),
            seconds=options.seconds,
            warm_up_s=options.warm_up,
        )
    )
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
