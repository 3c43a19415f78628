"""Faults F13, F15 and F17 against a real server: who is gone is not run, bodies that lie, descriptors and threads."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.contracts.errors import Unavailable
from export.registry import Registry
from serving.batching import Batcher
from serving.options import BatchOptions, Limits, QueueOptions, RuntimeOptions, ServingOptions
from tests.serving.test_batching import accept, images
from tests.support import wire
from tests.support.http_raw import RawConnection, head
from tests.support.packages import digits_like_package
from tests.support.planes import Collected, Plane
from tests.support.server import Server, infer_path, standalone
from tests.support.traffic import digits

LIMIT = 8 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose batches take 0.2 s and have one row."""
    folder = tmp_path_factory.mktemp("queue-faults")
    registry = Registry(folder / "registry")
    registry.add(digits_like_package(folder).dir)
    registry.promote("digits", "1", author="test")
    options = ServingOptions(
        registry="",
        records="",
        runtime=RuntimeOptions(device="double:200ms"),
        batch=BatchOptions(max_rows=1, inline_below_us=0),
        queue=QueueOptions(target_queue_ms=0),
        limits=Limits(body_bytes=LIMIT, receive_s=3.0),
    )
    with standalone(folder / "server", registry.root, options=options) as running:
        yield running


def executed(server: Server) -> int:
    plain = server.get("/v2/models/digits/stats")
    count: int = plain["model_stats"][0]["execution_count"]
    return count


def outcomes(server: Server) -> dict[str, float]:
    lines = [x for x in server.client.get("/metrics").text.splitlines() if x.startswith("hardcase_requests_total{")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def one_request(**extra: Any) -> bytes:
    headers, body = wire.request(digits(), **extra)
    return head("POST", infer_path("digits"), body, headers) + body


def test_f13_who_is_gone_or_late_never_reaches_the_model(server: Server) -> None:
    server.infer("digits", digits())
    before, counted = executed(server), outcomes(server)
    with contextlib.ExitStack() as open_until_the_end:

        def send(count: int, **extra: Any) -> list[RawConnection]:
            connections = [open_until_the_end.enter_context(RawConnection(server.port)) for _ in range(count)]
            for connection in connections:
                connection.send(one_request(**extra))
            return connections

        first = send(4)  # two of them run
        time.sleep(0.05)
        late = send(3, parameters={"timeout": 900_000, "priority": 3})
        time.sleep(0.05)
        second = send(8)  # before the late ones
        leaving = send(20)
        time.sleep(0.1)
        for connection in leaving:
            connection.socket.close()
        assert [connection.answer().status for connection in late] == [504] * 3
        assert [connection.answer().status for connection in first + second] == [200] * 12
    time.sleep(0.2)
    ended = outcomes(server)
    assert ended["cancelled"] - counted.get("cancelled", 0) == 20, "the positive control: they had been queued"
    assert ended["deadline"] - counted.get("deadline", 0) == 3
    assert executed(server) - before == 12, "0 executions for who was gone or late"


def high_water_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_f15_bodies_that_lie_cost_no_more_than_twice_the_limit(server: Server) -> None:
    server.infer("digits", digits())
    url = f"{server.url}{infer_path('digits')}"
    bomb = gzip.compress(bytes(256 << 20), 9)
    httpx.post(url, content=gzip.compress(bytes(1 << 20)), headers={"Content-Encoding": "gzip"})  # the path is warm
    before = resident_bytes(server)
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the high-water mark begins anew
    answer = httpx.post(url, content=bomb, headers={"Content-Encoding": "gzip"}, timeout=30)
    assert answer.status_code == 413
    for length in ("1099511627776", "8388609", "99999999999999999999"):
        with RawConnection(server.port) as connection:
            connection.send(head("POST", infer_path("digits"), None, {"Content-Length": length}))
            connection.send_unless_closed(bytes(1 << 20))
            assert connection.answer().status in (400, 413)
    with RawConnection(server.port) as connection:  # a chunk of one byte each, far more than may be
        connection.send(head("POST", infer_path("digits"), None, {"Transfer-Encoding": "chunked"}))
        for _ in range(70):
            if not connection.send_unless_closed(b"1\r\nx\r\n" * 1000):
                break
        assert connection.answer().status == 413
    grown = high_water_bytes(server) - before
    assert grown <= 2 * LIMIT, f"{grown / LIMIT:.2f} times the limit"
    assert server.infer("digits", digits())["logits"].shape == (1, 10)


def test_f15_without_the_limit_the_same_bomb_costs_what_it_holds(tmp_path: Path) -> None:
    """Negative control of the test above: what it measures does grow when nothing stops a body."""
    bomb = gzip.compress(bytes(8 * LIMIT), 9)
    registry = Registry(tmp_path / "registry")
    registry.add(digits_like_package(tmp_path).dir)
    registry.promote("digits", "1", author="test")
    options = ServingOptions(registry="", records="", limits=Limits(body_bytes=1 << 30))
    with standalone(tmp_path / "server", registry.root, options=options) as unguarded:
        unguarded.infer("digits", digits())
        before = resident_bytes(unguarded)
        Path(f"/proc/{unguarded.pid}/clear_refs").write_text("5")
        url = f"{unguarded.url}{infer_path('digits')}"
        answer = httpx.post(url, content=bomb, headers={"Content-Encoding": "gzip"}, timeout=60)
        assert answer.status_code == 400, "it was inflated, and then found to be no request"
        assert high_water_bytes(unguarded) - before > 2 * LIMIT


def is_answered(server: Server, patience_s: float) -> bool:
    """Whether a new connection gets an answer to its request."""
    try:
        with RawConnection(server.port) as connection:
            connection.socket.settimeout(patience_s)
            connection.send(one_request())
            return connection.answer().status == 200
    except OSError:
        return False


def test_f17_without_descriptors_the_server_sheds_and_recovers(server: Server) -> None:
    server.infer("digits", digits())
    used = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    _, most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 12, most))
    try:
        crowd = []
        for _ in range(60):
            extra = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            crowd.append(extra)
        time.sleep(0.3)
        held = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
        assert held >= used + 10, "the positive control: there is nothing left"
        assert server.infer("digits", digits())["logits"].shape == (1, 10), "who is connected is served"
        assert not is_answered(server, 1.0), "the negative control: as long as there is none, nobody else is"
        for extra in crowd:
            extra.close()
        deadline = time.monotonic() + 10
        while not is_answered(server, 5.0):
            assert time.monotonic() < deadline, "it does not recover"
            time.sleep(0.1)
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (most, most))


async def test_f17_an_error_that_the_guard_does_not_know_leaves_everybody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the test below: the same fault past the `except` of `Batcher._run_on_thread`."""
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False)
    batcher: Batcher[Any] = plane.versions["digits"].batcher
    reply = Collected()

    def none_left(thread: object) -> None:
        raise OSError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", none_left)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        accept(plane, reply, images(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reply.wait(1), 0.3)
    assert not batcher.idle
    assert reply.answers == []
    plane.close()


async def test_f17_without_threads_a_batch_fails_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False)
    batcher: Batcher[Any] = plane.versions["digits"].batcher
    reply = Collected()

    def none_left(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", none_left)
        accept(plane, reply, images(1))
        accept(plane, reply, images(1))
        await reply.wait(2)
    assert [status for _, status, *_ in reply.answers] == [Unavailable.http_status] * 2
    assert batcher.idle
    accept(plane, reply, images(1))
    await reply.wait(3)
    assert reply.answers[-1][1] == 200
    plane.close()
