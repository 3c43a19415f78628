"""When a replica calls itself ill: a broken device, a batch without end; and when it must not."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from serving.health import trouble

NOW_NS = 10**15


@dataclass
class Queue:
    busy_since_ns: int = 0
    waiting_rows: int = 0


@dataclass
class Runtime:
    healthy: bool = True


@dataclass
class Version:
    model: str = "digits"
    version: str = "1"
    batch_us: float = 500.0
    batcher: Queue = field(default_factory=Queue)
    runtime: Runtime = field(default_factory=Runtime)


def running(seconds: float, *, waiting: int = 0, batch_us: float = 500.0) -> Version:
    return Version(batch_us=batch_us, batcher=Queue(NOW_NS - int(seconds * 1e9), waiting))


def ill(*versions: Version, timeout_s: float = 60.0) -> str | None:
    return trouble(versions, timeout_s, NOW_NS)


def test_nothing_loaded_and_nothing_running_is_health():
    assert ill() is None
    assert ill(Version(), Version()) is None


def test_a_device_that_broke_for_good_is_told_whatever_the_others_do():
    assert ill(Version(), Version(model="big", version="7", runtime=Runtime(healthy=False))) == (
        "the device of big/7 failed for good in this process"
    )


@pytest.mark.parametrize("seconds", [0.1, 9.0])
def test_a_batch_that_takes_a_while_is_not_stuck(seconds: float):
    assert ill(running(seconds, waiting=100)) is None


def test_a_batch_is_stuck_sooner_when_others_wait_for_it():
    assert ill(running(11, waiting=1)) == "a batch of digits/1 has been running for 11 s"
    assert ill(running(11)) is None
    assert ill(running(61)) is not None


def test_a_slow_model_gets_the_time_that_it_needs():
    assert ill(running(30, waiting=1, batch_us=1_000_000)) is None
    assert ill(running(51, waiting=1, batch_us=1_000_000)) is not None


def test_after_the_time_limit_nobody_waits_any_more():
    assert ill(running(3, waiting=1), timeout_s=2.0) is not None
