"""Drills: the real fault on a real stack, until a real Alertmanager has told somebody, and again when it is over.

Days are played in minutes (`PACE`): windows and waiting times are a sixtieth, expressions and limits are those that
users get. About ten minutes together.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.observability.alerts import alerts
from deploy.observability.rules import Objectives
from export.contracts.manifest import Execution
from export.contracts.traffic import ChallengerMode
from export.retune import write_retuned
from tests.observability.drills.conftest import MODEL, SETTINGS, Stack, spoiled, turned, watched
from tests.support import monitor_world as w
from tests.support.packages import digits_like_package, echo_package, narrow_package
from tests.support.traffic import digits, driving
from tests.support.watching import until

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(600)]


@contextmanager
def failing_requests(stack: Stack) -> Iterator[None]:
    """The model answers NaN to what is spoiled."""
    with stack.traffic(), stack.traffic(spoiled):
        yield


@contextmanager
def overload(stack: Stack) -> Iterator[None]:
    """More requests than one device computes."""
    with stack.traffic(clients=48, pause_s=0.0):
        yield


@contextmanager
def wrong_answers(stack: Stack) -> Iterator[None]:
    """The world turns by a quarter; labels say so."""
    with stack.traffic(turned, labels=True):
        yield


@contextmanager
def damaged_versions(stack: Stack) -> Iterator[None]:
    """A new champion whose weights are damaged on the disk, and a model that never had another one."""
    registry, root = stack.registry, stack.place.paths.registry / "models"
    source = registry.package(MODEL, "1")
    write_retuned(source, stack.place.folder / "damaged", version="9", execution=Execution(), metrics={}, how="a drill")
    registry.add(stack.place.folder / "damaged")
    registry.add(echo_package(stack.place.folder / "echo").dir)
    weights = [root / MODEL / "versions" / "9" / "model.onnx", *(root / "echo" / "versions" / "1").glob("*.onnx")]
    whole = [path.read_bytes() for path in weights]
    for path, data in zip(weights, whole, strict=True):
        path.chmod(0o644)
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    registry.promote(MODEL, "9", author="drill")
    registry.promote("echo", "1", author="drill")
    try:
        with stack.traffic():
            yield
    finally:
        for path, data in zip(weights, whole, strict=True):
            path.write_bytes(data)
        registry.rollback(MODEL, author="drill")
        plan = registry.plan("echo")
        assert plan is not None
        registry.set_plan(replace(plan, champion=None), expected_revision=plan.revision)


@contextmanager
def failing_canary(stack: Stack) -> Iterator[None]:
    """A canary that answers NaN to what the champion answers well."""
    registry = stack.registry
    for package in (
        digits_like_package(stack.place.folder, name="twins"),
        narrow_package(stack.place.folder, name="twins"),
    ):
        registry.add(package.dir)
    registry.promote("twins", "1", author="drill")
    registry.challenge("twins", "narrow", ChallengerMode.CANARY, 50.0, author="drill")
    try:
        with driving(stack.place.serving_port, "twins", digits(), threads=2, pause_s=0.02):
            yield
    finally:
        registry.withdraw("twins", author="drill")


@contextmanager
def stalled_rollouts(stack: Stack) -> Iterator[None]:
    """A version that answers NaN to live requests goes back by itself; somebody pauses the next one and forgets it."""
    registry = stack.registry
    for package in (
        digits_like_package(stack.place.folder, name="pair"),
        digits_like_package(stack.place.folder, name="pair", version="2"),
        narrow_package(stack.place.folder, name="pair"),
    ):
        registry.add(package.dir)
    registry.promote("pair", "1", author="drill")
    ended = 'hardcase_rollouts_total{model="pair",state="rolled_back"}'
    with driving(stack.place.serving_port, "pair", digits(), threads=2, pause_s=0.02):
        until(lambda: stack.prometheus.ask(f"{ended} == 0"), 60, "the monitor does not know the model")
        stack.place.json("rollout", "start", "pair", "narrow")
        until(lambda: stack.prometheus.ask(f"{ended} == 1"), 60, "it was not taken back")
        stack.place.json("rollout", "start", "pair", "2")
        stack.place.json("rollout", "pause", "pair", "-m", "a drill")
        try:
            yield
        finally:
            stack.place.json("rollout", "abort", "pair", "-m", "the drill is over")


@contextmanager
def hanging_serving(stack: Stack) -> Iterator[None]:
    """The replica is there and does not answer."""
    with stack.stopped("serving"):
        yield


@contextmanager
def hanging_monitor(stack: Stack) -> Iterator[None]:
    """The monitor hangs while traffic goes on: the log fills up to its quota."""
    with stack.stopped("monitor"), stack.traffic(clients=4, pause_s=0.0):
        yield


@contextmanager
def old_backlog(stack: Stack) -> Iterator[None]:
    """A log of ten minutes ago appears, more than the monitor reads at once."""
    replica = w.Replica(stack.place.paths.records, "backlog", segment_bytes=1 << 16)
    images = w.digits().images
    with stack.stopped("monitor"):
        for part in range(600):
            ids = [f"old-{part}-{i}" for i in range(100)]
            ns = time.time_ns() - 600 * w.SECOND
            replica.offer(w.batch(images[:100], ids, [ns + i for i in range(100)]))
        replica.close()
    yield


@contextmanager
def broken_table(stack: Stack) -> Iterator[None]:
    """The table of drift signals is not there, as after a restore that went wrong."""
    database = stack.place.paths.monitor / "monitor.db"

    def rename(before: str, after: str) -> None:
        with sqlite3.connect(database, timeout=30) as connection:
            connection.execute(f"ALTER TABLE {before} RENAME TO {after}")
        connection.close()

    rename("signals", "signals_away")
    try:
        with stack.traffic(pause_s=0.2):  # a monitor that is behind leaves its duties for later
            yield
    finally:
        rename("signals_away", "signals")


@contextmanager
def damaged_log(stack: Stack) -> Iterator[None]:
    """Bits of the log rot before the monitor has read them; the monitor is started anew afterwards."""
    with stack.stopped("monitor"):
        records = stack.place.paths.records
        known = set(records.glob("*/*.seg"))

        def unread() -> Path | None:
            """A segment that was begun after the monitor stopped, with something in it."""
            return next((p for p in set(records.glob("*/*.seg")) - known if p.stat().st_size > 4096), None)

        with stack.traffic():
            segment = until(unread, 60, "the log does not grow")
        with segment.open("r+b") as file:
            file.seek(segment.stat().st_size // 2)
            file.write(os.urandom(64))
    try:
        with stack.traffic():
            yield
    finally:
        os.kill(stack.pid("monitor"), signal.SIGKILL)


PATIENCE_S = 180.0  # a busy machine; on a quiet one the longest takes 70 s, of which an alert's own hour is 60

# What brings about which alerts, by severity where an alert has two.
FAULTS = {
    failing_requests: ("HardcaseErrorBudgetBurns",),
    overload: ("HardcaseLatencyBudgetBurns", "HardcaseRequestsShed", "HardcaseQueueFull"),
    wrong_answers: ("HardcaseModelAlarm",),
    damaged_versions: ("HardcaseNotReady", "HardcaseChampionBehind", "HardcaseVersionUnavailable"),
    failing_canary: ("HardcaseChallengerTripped",),
    stalled_rollouts: ("HardcaseRolledBack", "HardcaseRolloutWaits"),
    hanging_serving: ("HardcaseNoReplica", "HardcaseTargetDown"),
    hanging_monitor: ("HardcaseMonitorStuck", "HardcaseCaptureLoss", "HardcaseLogFills"),
    broken_table: ("HardcaseDutyFailing",),
    old_backlog: ("HardcaseMonitorLag",),
    damaged_log: ("HardcaseLogDamaged",),
}
ELSEWHERE = ("HardcaseSlowLane", "HardcaseCpuFallback")  # how a replica was started: a stack of their own


def test_every_alert_has_a_drill() -> None:
    drilled = [name for names in FAULTS.values() for name in names] + list(ELSEWHERE)
    assert sorted(drilled) == sorted({a.name for a in alerts(Objectives())})


def said(stack: Stack, since: int, name: str, status: str) -> bool:
    return any(s == status and labels["alertname"] == name for s, labels, _ in stack.heard.alerts[since:])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_the_fault_is_told_and_its_end_too(stack: Stack, fault: Callable[[Stack], Iterator[None]]) -> None:
    names = FAULTS[fault]
    with stack.traffic(labels=True):
        time.sleep(3)
    for name in names:  # the control: it is not firing before
        firing = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
        until(lambda firing=firing: not stack.prometheus.ask(firing), PATIENCE_S, f"{name} fires before the drill")
    since = len(stack.heard.alerts)
    with ExitStack() as running:
        running.enter_context(fault(stack))  # type: ignore[arg-type]
        for name in names:
            until(lambda name=name: said(stack, since, name, "firing"), PATIENCE_S, f"nobody was told of {name}")
    with stack.traffic(labels=True):
        for name in names:
            until(
                lambda name=name: said(stack, since, name, "resolved"), PATIENCE_S, f"nobody was told that {name} ended"
            )


def test_a_replica_started_wrongly_is_told_until_it_is_started_rightly(tmp_path: Path) -> None:
    """The slow lane, and a CPU where an accelerator was asked for."""
    wrong = {**SETTINGS["serving"], "fast_lane": False, "runtime": {"device": "cuda", "allow_cpu_fallback": True}}
    with watched(tmp_path, serving=wrong) as stack:
        for name in ELSEWHERE:
            until(lambda name=name: said(stack, 0, name, "firing"), 60, f"nobody was told of {name}")
        place = stack.place
        stack.system.ensure_stopped()
        text = (place.folder / "hardcase.yaml").read_text()
        (place.folder / "hardcase.yaml").write_text(
            text.replace("fast_lane: false", "fast_lane: true").replace("device: cuda", "device: cpu")
        )
        again = place.start()
        try:
            for name in ELSEWHERE:
                until(lambda name=name: said(stack, 0, name, "resolved"), 60, f"nobody was told that {name} ended")
        finally:
            again.ensure_stopped()
