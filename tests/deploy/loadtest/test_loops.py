"""The two loops against a real server that misbehaves: what is told of it must be what a caller felt."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.loadtest.arrivals import Arrivals
from deploy.loadtest.measure import Stability
from deploy.loadtest.orders import Mode
from deploy.loadtest.parsing import parse_target
from deploy.loadtest.results import Level
from deploy.loadtest.session import Plan, run
from export.registry import Registry
from tests.support import packages
from tests.support.load import Ending
from tests.support.server import standalone
from tests.support.stalling_server import Stalling, chunked, framed, stalling_server

FOUR = Stability(most=4, least=4, share=0.000001)  # always four windows, all of them counted
PLAN = Plan(model="m", window_s=0.5, warm_up_s=0.2, stability=FOUR, workers=1)
SHORT = replace(PLAN, window_s=0.25, stability=replace(FOUR, most=2, least=2))


def measured(server: Stalling, plan: Plan) -> Level:
    (subject,), interrupted = asyncio.run(run([parse_target(f"127.0.0.1:{server.port}", None)], plan))
    assert not interrupted
    (level,) = subject.levels
    return level


def test_an_open_loop_shows_a_stall_to_every_request_that_was_meant_to_leave_during_it():
    plan = replace(PLAN, mode=Mode.RATE, levels=(200.0,), arrivals=Arrivals.CONSTANT)
    with stalling_server(Stalling(stall_after=120, stall_s=1.0)) as server:
        level = measured(server, plan)
        assert server.stalled_at is not None, "positive control: it did stall"
    latency = level.latency
    assert level.errors == {}
    assert latency.p99_us is not None
    assert latency.p90_us is not None
    # 200 of some 400 requests fell into the stall and waited 0.5 s on average; the slowest waited all of it.
    assert 0.9e6 < latency.p99_us < 1.5e6
    assert latency.p90_us > 0.6e6
    assert latency.count == pytest.approx(400, abs=12)


def test_a_closed_loop_hides_the_same_stall():
    """The negative control: two callers cannot have more than two slow requests, and p99 does not see them."""
    plan = replace(PLAN, levels=(2.0,))
    with stalling_server(Stalling(stall_after=400, stall_s=1.0)) as server:
        level = measured(server, plan)
        assert server.stalled_at is not None
    assert level.latency.max_us is not None
    assert level.latency.p99_us is not None
    assert level.latency.max_us > 0.9e6
    assert level.latency.count > 300
    assert level.latency.p99_us < 0.3e6


def test_a_rate_that_the_server_cannot_keep_up_with_is_said_to_be_one():
    plan = replace(PLAN, mode=Mode.RATE, levels=(300.0,), connections=1, timeout_s=0.5)
    with stalling_server(Stalling(stall_after=0, stall_s=60)) as server:
        server.stall_after = 1
        level = measured(server, plan)
    assert level.throughput < 30
    assert any("did not keep up" in note for note in level.notes)
    assert set(level.errors) <= {"timeout", "not sent"}
    assert level.failed > 300
    assert level.latency.p50_us is not None
    assert level.latency.p50_us >= 0.45e6, "who was never answered counts with the time that it waited"


def test_requests_that_are_never_answered_time_out_and_count():
    plan = replace(SHORT, window_s=0.5, levels=(3.0,), timeout_s=0.3)
    with stalling_server(Stalling()) as server:

        def go_silent(status: int, body: bytes) -> bytes:
            server.silent = server.inferred > 50
            return framed(status, body)

        server.frame = go_silent
        level = measured(server, plan)
    assert level.errors.keys() == {"timeout"}
    assert level.errors["timeout"] >= 3
    assert level.latency.max_us is not None
    assert level.latency.max_us >= 0.3e6


@pytest.mark.parametrize("status", [503, 404])
def test_refusals_are_counted_by_status_and_are_no_throughput(status: int):
    with stalling_server(Stalling()) as server:

        def refuse_later(_: int, body: bytes) -> bytes:
            return framed(200 if server.inferred < 5 else status, body)

        server.frame = refuse_later
        level = measured(server, replace(SHORT, levels=(2.0,)))
    assert level.errors.keys() == {f"http {status}"}
    assert level.throughput == 0
    assert any(f"http {status}" in note for note in level.notes)


@pytest.mark.parametrize("framing", ["chunked", "closing", "until_end", "dripping"])
def test_answers_in_every_framing_are_understood(framing: str):
    def closing(status: int, body: bytes) -> bytes:
        return framed(status, body, "Connection: close\r\n")

    def until_end(status: int, body: bytes) -> bytes:
        return b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n%s" % (status, body)

    def dripping(status: int, body: bytes) -> bytes:
        return b"HTTP/1.1 100 Continue\r\n\r\n" + framed(status, body + b" " * 200_000)

    frame = {"chunked": chunked, "closing": closing, "until_end": until_end, "dripping": dripping}[framing]
    with stalling_server(Stalling(frame=frame)) as server:
        level = measured(server, replace(SHORT, levels=(2.0,)))
        counted = server.inferred
    assert level.errors == {}
    assert level.latency.count > 20
    assert level.answered_in_all + 1 == counted


def test_an_answer_that_is_no_http_is_an_error_of_its_own():
    with stalling_server(Stalling()) as server:

        def nonsense(status: int, body: bytes) -> bytes:
            return framed(status, body) if server.inferred < 5 else b"SSH-2.0-nonsense\r\n\r\n"

        server.frame = nonsense
        level = measured(server, replace(SHORT, levels=(1.0,)))
    assert level.errors.keys() == {"not HTTP"}


def test_poisson_load_of_several_processes_has_the_rate_that_was_asked_for():
    plan = replace(PLAN, mode=Mode.RATE, levels=(800.0,), workers=2)
    with stalling_server(Stalling()) as server:
        level = measured(server, plan)
    assert level.latency.count == pytest.approx(1600, rel=0.12)
    assert level.errors == {}
    assert level.lag_p99_us is not None


def test_a_server_that_dies_under_load_ends_no_measurement(tmp_path: Path):
    """Its place stays empty: requests fail, at first because connections break, then because none can be made."""
    package = packages.digits_like_package(tmp_path / "made")
    registry = Registry(tmp_path / "registry")
    registry.add(package.dir)
    registry.promote("digits", "1", author="test")
    with standalone(tmp_path / "server", registry.root) as server:
        plan = replace(PLAN, model="digits", levels=(4.0,))
        killer = Ending(server.pid, signal.SIGKILL)
        ((subject,), _) = asyncio.run(run([parse_target(server.url, None)], plan, killer))
    (level,) = subject.levels
    assert level.latency.count > 10
    assert level.errors.keys() == {"connection lost", "cannot connect"}
    assert level.errors["connection lost"] < level.errors["cannot connect"]
    assert not level.stable
    assert level.windows[-1].throughput == 0
