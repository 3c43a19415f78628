"""The two ways to load a server, in one worker process.

Closed loop: N callers, each of whom sends its next request when the last one was answered. A server that stalls is then
sent less, so a stall of a second costs N slow requests and no more, and the percentiles look as if little had happened.
(G. Tene called it coordinated omission: the measurement and the measured agree on when not to look.)

Open loop: requests leave by a schedule. One that finds no free connection waits for it, and its latency counts from the
moment at which it was meant to leave. This is what callers feel who do not know about each other.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Iterator

from deploy.loadtest.lanes import OK, Lane, Road
from deploy.loadtest.timer import PreciseTimer
from deploy.loadtest.windows import NOT_SENT, TIMED_OUT, Recorder

_RETRY_S = 0.05  # pause before a broken connection is made again
_WATCH_S = 0.05  # how often requests are looked at that may have timed out
CANNOT_CONNECT = "cannot connect"


class Loop:
    """What both loops share: lanes, time limits, and the end.

    Args:
        road: The way to the server.
        recorder: Takes what ends.
        requests: How many prepared requests there are; they take turns.
        timeout_ns: From a request's intended start; then it counts as timed out.
        offset: Where among the requests to begin.
    """

    def __init__(self, road: Road, recorder: Recorder, *, requests: int, timeout_ns: int, offset: int = 0) -> None:
        self._road = road
        self._recorder = recorder
        self._requests = requests
        self._timeout_ns = timeout_ns
        self._next_request = offset % requests
        self._lanes: list[Lane] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Requests that have not ended."""
        return sum(lane.busy for lane in self._lanes)

    async def start(self) -> None:
        """Begin to send."""
        self._spawn(self._watch())

    async def stop(self, drain_s: float) -> None:
        """Begin no request any more, wait for those under way, and count what is still missing then as timed out."""
        self._stopping = True
        deadline = time.monotonic() + drain_s
        while self.waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        now = time.monotonic_ns()
        for lane in self._lanes:
            if lane.busy:
                self._recorder.failed(lane.start_ns, now, TIMED_OUT)
            lane.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send(self, lane: Lane, start_ns: int) -> None:
        lane.start_ns = start_ns
        number = self._next_request
        self._next_request = number + 1 if number + 1 < self._requests else 0
        lane.send(number)

    def _ended(self, lane: Lane, reason: str, size: int) -> None:
        """Told by the lane."""
        now = time.monotonic_ns()
        recorder = self._recorder
        if reason == OK:
            recorder.answered(lane.start_ns, now)
            recorder.received_bytes += size
        else:
            recorder.failed(lane.start_ns, now, reason)
        if lane.open:
            self._free(lane, now)
        elif not self._stopping:
            self._spawn(self._connect(lane))

    def _free(self, lane: Lane, now_ns: int) -> None:
        """A lane can send."""
        raise NotImplementedError

    async def _connect(self, lane: Lane, delay_s: float = 0.0) -> None:
        """Make a lane usable, however often that takes."""
        await asyncio.sleep(delay_s)
        while not self._stopping:
            begun = time.monotonic_ns()
            try:
                await lane.connect()
            except (OSError, TimeoutError):
                self._unreachable(begun, time.monotonic_ns())
                await asyncio.sleep(_RETRY_S)
                continue
            if not self._stopping:
                self._free(lane, time.monotonic_ns())
            return

    def _unreachable(self, begun_ns: int, now_ns: int) -> None:
        """A connection could not be made."""
        self._recorder.failed(begun_ns, now_ns, CANNOT_CONNECT)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            self._expire(time.monotonic_ns() - self._timeout_ns)

    def _expire(self, before_ns: int) -> None:
        for lane in self._lanes:
            if lane.busy and lane.start_ns < before_ns:
                lane.give_up(TIMED_OUT)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            context = {"message": "the generator failed", "exception": task.exception(), "task": task}
            asyncio.get_running_loop().call_exception_handler(context)


class ClosedLoop(Loop):
    """`callers` callers without a pause.

    Args:
        callers: How many, each with a lane of its own.
        ramp_s: Time over which they begin, one after the other.
    """

    def __init__(
        self,
        road: Road,
        recorder: Recorder,
        *,
        requests: int,
        timeout_ns: int,
        offset: int,
        callers: int,
        ramp_s: float,
    ) -> None:
        super().__init__(road, recorder, requests=requests, timeout_ns=timeout_ns, offset=offset)
        self._callers = callers
        self._ramp_s = ramp_s

    async def start(self) -> None:
        """Begin to send."""
        await super().start()
        self._lanes = [self._road.lane(self._ended) for _ in range(self._callers)]
        for number, lane in enumerate(self._lanes):
            self._spawn(self._connect(lane, self._ramp_s * number / self._callers))

    def _free(self, lane: Lane, now_ns: int) -> None:
        if not self._stopping:
            self._send(lane, now_ns)


class OpenLoop(Loop):
    """Requests by a schedule.

    Args:
        times: When requests are meant to leave.
        lanes: How many there may be at most; requests that find none free wait.
        ready_lanes: How many are made before the first request.
    """

    def __init__(
        self,
        road: Road,
        recorder: Recorder,
        *,
        requests: int,
        timeout_ns: int,
        offset: int,
        times: Iterator[int],
        lanes: int,
        ready_lanes: int,
    ) -> None:
        super().__init__(road, recorder, requests=requests, timeout_ns=timeout_ns, offset=offset)
        self._times = times
        self._most = lanes
        self._ready_lanes = min(lanes, ready_lanes)
        self._idle: list[Lane] = []
        self._queue: deque[int] = deque()
        self._opening = 0
        self._next_ns = 0
        self._timer: PreciseTimer | None = None

    @property
    def waiting(self) -> int:
        """Requests that have not ended, or not even left."""
        return super().waiting + len(self._queue)

    async def start(self) -> None:
        """Begin to send."""
        await super().start()
        for _ in range(self._ready_lanes):
            self._grow()
        self._timer = PreciseTimer(asyncio.get_running_loop(), self._due)
        self._next_ns = next(self._times)
        self._timer.set(self._next_ns)

    async def stop(self, drain_s: float) -> None:
        """End the schedule; what it had begun is sent as long as `drain_s` lasts."""
        if self._timer is not None:
            self._timer.close()
        await super().stop(drain_s)
        now = time.monotonic_ns()
        for start in self._queue:
            self._recorder.failed(start, now, NOT_SENT)
        self._queue.clear()

    def _due(self) -> None:
        assert self._timer is not None
        now = time.monotonic_ns()
        while self._next_ns <= now:
            self._leave(self._next_ns)
            self._next_ns = next(self._times)
            now = time.monotonic_ns()
        self._timer.set(self._next_ns)

    def _leave(self, start_ns: int) -> None:
        while self._idle:
            lane = self._idle.pop()
            if lane.open:
                self._send(lane, start_ns)
                self._recorder.sent_late(max(0, time.monotonic_ns() - start_ns))
                return
            self._lanes.remove(lane)  # it was closed while nobody used it
        self._queue.append(start_ns)
        if self._opening < len(self._queue):
            self._grow()

    def _grow(self) -> None:
        if len(self._lanes) < self._most:
            lane = self._road.lane(self._ended)
            self._lanes.append(lane)
            self._opening += 1
            self._spawn(self._first(lane))

    async def _first(self, lane: Lane) -> None:
        try:
            await self._connect(lane)
        finally:
            self._opening -= 1

    def _free(self, lane: Lane, now_ns: int) -> None:
        if self._queue:
            self._send(lane, self._queue.popleft())
        else:
            self._idle.append(lane)

    def _unreachable(self, begun_ns: int, now_ns: int) -> None:
        """The request that wanted the connection fails, not one more a try."""
        if self._queue:
            self._recorder.failed(self._queue.popleft(), now_ns, CANNOT_CONNECT)

    def _expire(self, before_ns: int) -> None:
        super()._expire(before_ns)
        while self._queue and self._queue[0] < before_ns:
            self._recorder.failed(self._queue.popleft(), before_ns + self._timeout_ns, NOT_SENT)
