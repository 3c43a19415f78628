"""The generator's processes, from the parent's side: start, order, read windows, stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import CommandError
from deploy.loadtest.arrivals import Arrivals
from deploy.loadtest.orders import STOP, Mode, Order, Setup
from deploy.loadtest.windows import Window, together
from export.contracts import codec

_LINE_BYTES = 256 << 20
_START_S = 60.0
_NS = 1_000_000_000
_LEAD_NS = 20_000_000  # orders need a moment to arrive before the first of them begins


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """A level of load, before it is divided among workers.

    Attributes:
        connections: At most, open loop; closed loop has one a caller.
    """

    mode: Mode
    value: float
    window_s: float
    warm_up_s: float
    timeout_s: float
    connections: int
    arrivals: Arrivals
    seed: int


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a level was, seen from its end.

    Attributes:
        windows: Its windows by intended start, with what ended after them.
        answered: Requests with a success, warm-up and the time after the last window included.
        failed: Requests without one, likewise.
    """

    windows: list[Window]
    answered: int
    failed: int


class Workers:
    """Generator processes that live as long as the block; they end by themselves should this process die.

    Args:
        setup: What they send, and where.
        count: How many processes.
    """

    def __init__(self, setup: Setup, count: int) -> None:
        self._setup = setup
        self._count = count
        self._processes: list[asyncio.subprocess.Process] = []
        self._working: list[asyncio.subprocess.Process] = []
        self._window_ns = 0
        self.begin_ns = 0

    async def __aenter__(self) -> Workers:
        """Start them and wait until they are ready."""
        try:
            line = codec.dumps(self._setup) + b"\n"
            self._processes = [await self._start() for _ in range(self._count)]
            async with asyncio.timeout(_START_S):
                await asyncio.gather(*(self._write(p, line) for p in self._processes))
                await asyncio.gather(*(self._read(p, "ready") for p in self._processes))
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        """End them."""
        await self._end()

    async def begin(self, load: Load) -> None:
        """Start a level on as many workers as it has work for."""
        parts = divide(load, self._count)
        now = time.monotonic_ns() + _LEAD_NS
        self.begin_ns = now + round(load.warm_up_s * _NS)
        self._window_ns = round(load.window_s * _NS)
        self._working = self._processes[: len(parts)]
        for number, (process, value) in enumerate(zip(self._working, parts, strict=True)):
            order = Order(
                mode=load.mode,
                value=value,
                now_ns=now,
                begin_ns=self.begin_ns,
                window_ns=self._window_ns,
                timeout_ns=round(load.timeout_s * _NS),
                lanes=max(1, load.connections // len(parts)),
                arrivals=load.arrivals,
                seed=load.seed,
                offset=number,
                phase=number / len(parts),
            )
            await self._write(process, codec.dumps(order) + b"\n")

    async def window(self) -> tuple[Window, float]:
        """The next window of all workers together, and its length in seconds."""
        told = await asyncio.gather(*(self._read(p, "window") for p in self._working))
        seconds = sum(t["elapsed_ns"] for t in told) / len(told) / _NS
        return together(Window.from_plain(t) for t in told), seconds

    async def stop(self) -> Ended:
        """End the level."""
        for process in self._working:
            await self._write(process, STOP + b"\n")
        told = await asyncio.gather(*(self._read(p, "done", skip="window") for p in self._working))
        shortest = min(len(t["windows"]) for t in told)
        windows = [together(Window.from_plain(t["windows"][n]) for t in told) for n in range(shortest)]
        return Ended(
            windows=windows,
            answered=sum(t["answered"] for t in told),
            failed=sum(t["failed"] for t in told),
        )

    async def _start(self) -> asyncio.subprocess.Process:
        root = str(Path(__file__).resolve().parents[2])
        search = [root, *(part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part)]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deploy.loadtest.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to act on
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
        )

    async def _write(self, process: asyncio.subprocess.Process, line: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise CommandError("a generator process has ended unexpectedly") from None

    async def _read(self, process: asyncio.subprocess.Process, kind: str, skip: str = "") -> Any:
        assert process.stdout is not None
        while True:
            line = await process.stdout.readline()
            if not line:
                raise CommandError("a generator process has ended unexpectedly", "its error is above")
            told: dict[str, Any] = json.loads(line)
            if kind in told:
                return told[kind]
            if skip not in told:
                raise CommandError(f"a generator process said {sorted(told)} instead of {kind}")

    async def _end(self) -> None:
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


def divide(load: Load, workers: int) -> Sequence[float]:
    """A level in parts: whole callers, none of them zero; or equal rates.

    Example:
        >>> from dataclasses import replace
        >>> load = Load(mode=Mode.CONCURRENCY, value=5, window_s=1, warm_up_s=0, timeout_s=1, connections=9,
        ...             arrivals=Arrivals.POISSON, seed=0)
        >>> divide(load, 2), divide(replace(load, value=1), 2), divide(replace(load, mode=Mode.RATE), 2)
        ((3, 2), (1,), (2.5, 2.5))
    """
    if load.mode is Mode.RATE:
        return (load.value / workers,) * workers
    whole, rest = divmod(int(load.value), workers)
    return tuple(whole + (n < rest) for n in range(workers) if whole + (n < rest))
