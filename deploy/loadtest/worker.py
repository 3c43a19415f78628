"""A generator process: `python -m deploy.loadtest.worker`. Orders on standard input, windows on standard output.

Standard input that ends means that the parent has died: the worker ends, too.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from deploy.loadtest.arrivals import schedule
from deploy.loadtest.http_lane import HttpRoad
from deploy.loadtest.lanes import Ended, Lane, Road
from deploy.loadtest.loops import ClosedLoop, Loop, OpenLoop
from deploy.loadtest.orders import STOP, Mode, Order, Protocol, Setup
from deploy.loadtest.windows import Recorder
from export.contracts import codec

_LINE_BYTES = 1 << 20
_DRAIN_S = 5.0  # how long requests under way may take after the last window
_NS = 1_000_000_000


def main() -> int:
    """The process."""
    setup = codec.loads(Setup, sys.stdin.buffer.readline())
    with contextlib.suppress(KeyboardInterrupt):  # a terminal's Ctrl-C: the parent decides
        uvloop.run(_serve_orders(setup))
    return 0


async def _serve_orders(setup: Setup) -> None:
    asyncio.get_running_loop().set_exception_handler(_fail)
    road = make_road(setup)
    lines = await _standard_input()
    _tell("ready", True)
    while line := await lines.readline():
        order = codec.loads(Order, line)
        await _carry_out(order, road, len(setup.requests), lines)
    await road.close()


def make_road(setup: Setup) -> Road:
    """The way to the server."""
    requests = [base64.b64decode(text) for text in setup.requests]
    roads: list[Road] = []
    for host, port in zip(setup.hosts, setup.ports, strict=True):
        if setup.protocol is Protocol.HTTP:
            roads.append(HttpRoad(host, port, requests, tls=setup.tls))
        else:
            from deploy.loadtest.grpc_lane import GrpcRoad

            roads.append(GrpcRoad(host, port, requests, metadata=setup.metadata, tls=setup.tls))
    return roads[0] if len(roads) == 1 else _Roads(roads)


class _Roads:
    """Several instances of a server; lanes go to them in turn."""

    def __init__(self, roads: list[Road]) -> None:
        self._roads = roads
        self._next = 0

    def lane(self, ended: Ended) -> Lane:
        self._next += 1
        return self._roads[self._next % len(self._roads)].lane(ended)

    async def close(self) -> None:
        for road in self._roads:
            await road.close()


async def _carry_out(order: Order, road: Road, requests: int, lines: asyncio.StreamReader) -> None:
    """Warm up, count windows until a line says stop, and tell the account by intended start."""
    recorder = Recorder(order.begin_ns, order.window_ns)
    loop = _make_loop(order, road, requests, recorder)
    await loop.start()
    heard = asyncio.ensure_future(lines.readline())
    number, begun = -1, time.monotonic_ns()
    busy_ns, starved_ns = time.process_time_ns(), _starved_ns()
    while True:
        end_ns = order.begin_ns + (number + 1) * order.window_ns
        await asyncio.wait({heard}, timeout=max(0.0, (end_ns - time.monotonic_ns()) / _NS))
        if heard.done():
            break
        now, used_ns, waited_ns = time.monotonic_ns(), time.process_time_ns(), _starved_ns()
        window = recorder.close(number)
        if number >= 0:
            window.cpu_share = (used_ns - busy_ns) / (now - begun)
            window.starved_share = (waited_ns - starved_ns) / (now - begun)
            window.waiting = loop.waiting
            _tell("window", {"number": number, "elapsed_ns": now - begun, **window.to_plain()})
        begun, busy_ns, starved_ns, number = now, used_ns, waited_ns, number + 1
    stopped = heard.result().strip() == STOP
    await loop.stop(min(_DRAIN_S, order.timeout_ns / _NS) if stopped else 0.0)
    recorder.close(number)
    if stopped:
        windows = [recorder.by_start(n).to_plain() for n in range(number)]
        in_all = {"answered": recorder.answered_in_all, "failed": recorder.failed_in_all}
        _tell("done", {"windows": windows, **in_all})


def _make_loop(order: Order, road: Road, requests: int, recorder: Recorder) -> Loop:
    common: dict[str, Any] = {"requests": requests, "timeout_ns": order.timeout_ns, "offset": order.offset}
    if order.mode is Mode.CONCURRENCY:
        ramp_s = min(1.0, max(0.0, (order.begin_ns - order.now_ns) / _NS / 2))
        return ClosedLoop(road, recorder, callers=int(order.value), ramp_s=ramp_s, **common)
    times = schedule(order.arrivals, order.value, order.now_ns, seed=order.seed + order.offset, phase=order.phase)
    ready = max(2, min(32, int(order.value / 100)))
    return OpenLoop(road, recorder, times=times, lanes=order.lanes, ready_lanes=ready, **common)


def _starved_ns() -> int:
    """How long this process has been ready to run without a core, as Linux counts it; 0 where it does not."""
    try:
        return int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nobody handles ends the worker: its figures would mean nothing."""
    loop.default_exception_handler(context)
    sys.stderr.flush()
    os._exit(1)


def _tell(kind: str, what: Any) -> None:
    sys.stdout.buffer.write(json.dumps({kind: what}).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
