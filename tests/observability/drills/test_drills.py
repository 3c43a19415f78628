"""Drills: the real fault on a real stack, until a real Alertmanager has told somebody, and again when it is over.

Days are played in minutes (`PACE`): windows and waiting times are a sixtieth, expressions and limits are those that
users get. About ten minutes together.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
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
PEOPLE = ("HardcaseNoticesLate", "HardcaseNoticesLost", "HardcaseSliceRegressed")  # other settings: stacks of their own


def test_every_alert_has_a_drill() -> None:
    drilled = [name for names in FAULTS.values() for name in names] + [*ELSEWHERE, *PEOPLE]
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


@contextmanager
def pager() -> Iterator[tuple[str, list[int]]]:
    """A receiver of notices and the status it answers with, which the test sets."""
    status = [503]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status[0])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", status
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_notices_that_do_not_arrive_are_told_another_way(tmp_path: Path) -> None:
    """A channel whose receiver is down, then gone for good."""
    late, lost = PEOPLE[:2]
    with pager() as (url, status):
        channel = {"name": "pager", "kind": "slack", "url": url}
        with watched(tmp_path, **{**SETTINGS, "notify": [channel]}) as stack:
            assert not set_of(stack, late, lost)
            asked = httpx.post(f"{stack.place.console}/api/notices/test", json={"channel": "pager"}, trust_env=False)
            assert asked.status_code == 202, asked.text
            waiting = 'hardcase_notices_waiting{channel="pager"} == 1'
            until(lambda: stack.prometheus.ask(waiting), PATIENCE_S, "the notice does not wait")
            # A quarter of an hour later: what waits is as old as its notice.
            database = stack.place.paths.monitor / "monitor.db"
            with sqlite3.connect(database, timeout=30) as connection:
                connection.execute("UPDATE notices SET time_ns = time_ns - 1200000000000")
            connection.close()
            until(lambda: said(stack, 0, late, "firing"), PATIENCE_S, f"nobody was told of {late}")
            status[0] = 410
            until(lambda: said(stack, 0, lost, "firing"), PATIENCE_S, f"nobody was told of {lost}")
            for name in (late, lost):
                until(lambda name=name: said(stack, 0, name, "resolved"), PATIENCE_S, f"{name} does not end")


def test_a_fixed_slice_that_fails_again_is_told_until_somebody_takes_it_up(tmp_path: Path) -> None:
    """A slice is said to be fixed in the version that still fails on it."""
    name = PEOPLE[2]
    monitor = {**SETTINGS["monitor"], "slices": {"every_windows": 2}}
    with watched(tmp_path, **{**SETTINGS, "monitor": monitor}) as stack:
        console = stack.place.console

        def found() -> dict[str, Any] | None:
            slices = httpx.get(f"{console}/api/slices", params={"model": MODEL}, trust_env=False).json()["slices"]
            return next((s for s in slices if s["state"] == "new" and s["rows"] > 60), None)

        def act(identity: str, **asked: str) -> None:
            done = httpx.post(f"{console}/api/slices/{identity}/acts", json=asked, trust_env=False)
            assert done.status_code == 200, done.text

        with stack.traffic(labels=True), stack.traffic(turned, labels=True):
            one = until(found, PATIENCE_S, "no slice is found")
            assert not set_of(stack, name)
            act(one["id"], act="fix", version="1")
            until(lambda: said(stack, 0, name, "firing"), PATIENCE_S, f"nobody was told of {name}")
        for line in httpx.get(f"{console}/api/slices", params={"model": MODEL}, trust_env=False).json()["slices"]:
            if line["state"] == "regressed":
                act(line["id"], act="acknowledge")
        until(lambda: said(stack, 0, name, "resolved"), PATIENCE_S, f"{name} does not end")


def set_of(stack: Stack, *names: str) -> set[str]:
    """Those of the alerts that fire."""
    return {name for name in names if stack.prometheus.ask(f'ALERTS{{alertname="{name}",alertstate="firing"}}')}
