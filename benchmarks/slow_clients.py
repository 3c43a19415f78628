"""A thousand connections that take their time: `python -m benchmarks.slow_clients [--quick]`, about a minute.

Good clients send one request after the other, first alone, then beside a thousand connections that dribble: a byte of
their headers, or of their body, every second; and some that never read their answers, once they are stuck. Measured:
what the good clients notice, and when each slow one is cut. Memory of the server besides.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import select
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil
import uvloop

from benchmarks.machine import machine_facts
from benchmarks.model import BenchModel, make_registry
from benchmarks.open_loop import Lines, closed_loop
from benchmarks.overload import percentile_ms, request_bytes, serving
from benchmarks.payloads import Wire, make_payload
from benchmarks.processes import adopt_orphans
from benchmarks.starts import ROOT
from benchmarks.stored import store_result

RECEIVE_S = 9.5  # serving.limits.receive_s; connections are looked at four times a second
_READERS = 4  # each takes some hundred answers of 256 rows before its buffers are full
_PATIENCE_S = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _options(arguments)
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="hc-") as scratch:
        registry, model = make_registry(Path(scratch))
        limits = {"limits": {"receive_s": options.receive_s}}
        with serving(Path(scratch) / "a", registry, limits) as (port, process):
            measured = uvloop.run(_measure(port, process, model, options))
    result = {
        "machine": machine_facts(ROOT),
        "settings": {k: str(v) for k, v in vars(options).items() if k != "output"},
        **measured,
    }
    store_result(result, "slow_clients", asked=options.output, quick=options.quick)
    print(json.dumps(measured, indent=2))
    return 0


async def _measure(
    port: int, process: psutil.Process, model: BenchModel, options: argparse.Namespace
) -> dict[str, Any]:
    good = request_bytes(make_payload(Wire.OIP_BINARY, model.image))
    rows = make_payload(Wire.OIP_BINARY, np.repeat(model.image, 256, axis=0))
    lines = Lines(port)
    await lines.open(8)
    await closed_loop(lines, good, 8, 2.0)
    seconds = options.receive_s + 1.0
    before = await closed_loop(lines, good, 8, seconds)
    memory = process.memory_info().rss
    heads = options.connections // 2
    slow = [_dribble(port, good[: len(good) // 3], good[len(good) // 3 :]) for _ in range(heads)]
    body = good.index(b"\r\n\r\n") + 4
    slow += [_dribble(port, good[:body], good[body:]) for _ in range(options.connections - heads - _READERS)]
    stuck = [asyncio.Event() for _ in range(_READERS)]
    tasks = [asyncio.ensure_future(_never_read(port, request_bytes(rows), event)) for event in stuck]
    await asyncio.gather(*(event.wait() for event in stuck))  # until then they are not slow, but busy
    tasks += [asyncio.ensure_future(one) for one in slow]
    beside = await closed_loop(lines, good, 8, seconds)
    peak = process.memory_info().rss
    cut = await asyncio.gather(*tasks)
    readers, dribblers = sorted(cut[:_READERS]), sorted(cut[_READERS:])
    p99 = [percentile_ms(samples.latencies(200), 99) or 0.0 for samples in (before, beside)]
    return {
        "slow_connections": options.connections,
        "good_p50_ms": [percentile_ms(samples.latencies(200), 50) for samples in (before, beside)],
        "good_p99_ms": p99,
        "good_p99_ratio": round(p99[1] / p99[0], 3),
        "good_failed": sum(status != 200 for status in beside.status),
        "good_statuses": {str(status): count for status, count in sorted(Counter(beside.status).items())},
        "cut_first_s": round(dribblers[0], 2),
        "cut_last_s": round(dribblers[-1], 2),
        "readers_cut_last_s": round(readers[-1], 2),
        "memory_growth_mib": round((peak - memory) / 2**20, 1),
    }


async def _dribble(port: int, begin: bytes, rest: bytes) -> float:
    """Send the beginning of a request at once, then a byte a second; seconds until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = perf_counter()
    writer.write(begin)
    end = asyncio.ensure_future(reader.read())
    for i in range(len(rest)):
        done, _ = await asyncio.wait((end,), timeout=1.0)
        if done:
            break
        writer.write(rest[i : i + 1])
    spent = perf_counter() - begun
    writer.transport.abort()
    return spent


async def _never_read(port: int, request: bytes, stuck: asyncio.Event) -> float:
    """Send requests until the server takes no more, read nothing; seconds from then until the server hangs up."""
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await loop.sock_connect(deaf, ("127.0.0.1", port))
        hung_up = select.poll()
        hung_up.register(deaf, 0)  # errors and hang-ups are always told
        rest, moved = memoryview(request * 1000), perf_counter()
        while not hung_up.poll(0) and perf_counter() - moved < _PATIENCE_S:
            with contextlib.suppress(BlockingIOError):
                rest, moved = rest[deaf.send(rest) :], perf_counter()
            if perf_counter() - moved > 1.0:
                stuck.set()
            await asyncio.sleep(0.05)
    return perf_counter() - moved


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_clients", description="connections that dribble")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--receive-s", type=float, default=RECEIVE_S, help="serving.limits.receive_s")
    parser.add_argument("--quick", action="store_true", help="100 connections, three seconds: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    if options.quick:
        options.connections, options.receive_s = 100, 3.0
    return options


if __name__ == "__main__":
    sys.exit(main())
