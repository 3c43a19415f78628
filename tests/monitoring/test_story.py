"""The story that the alarms are for, over HTTP, with a real server and a real monitor process.

A healthy day, a harmless change of brightness, a harmful rotation, recovery: no page, no page, a page within 60 labels,
resolution; and all of the evidence can be read afterwards. The same log read by monitors that are killed at random
points ends in the same alarms, windows and cases, to the byte.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import story
from tests.support.server import standalone

PAGE_WITHIN = 60  # labels after the rotation began, stated beforehand: 60 % are wrong then, 10 % are tolerated


@dataclass(kw_only=True)
class Told:
    """A story that was told once: what the API said at the end of each chapter, and the folder with the log."""

    folder: Path
    chapters: dict[str, dict[str, Any]]
    details: list[dict[str, Any]]
    pages: dict[str, int]
    rotation_at: int
    cases: list[dict[str, Any]]
    metrics: str


def until(client: httpx.Client, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 90) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while not holds(found := client.get("/api/alarms").json()):
        assert time.monotonic() < deadline, str(found)[:2000]
        time.sleep(0.2)
    return found


def firing(found: dict[str, Any]) -> list[str]:
    return [a["promise"] for a in found["alarms"] if a["state"] != "resolved"]


def labels(found: dict[str, Any]) -> int:
    return next((w["labels"] for w in found["watching"] if w["version"]), 0)


def tell(folder: Path, scale: float) -> Told:
    """Tell it; `scale` stretches the chapters that need not be short."""
    story.registry(folder)
    (folder / "live").mkdir()
    chapters: dict[str, dict[str, Any]] = {}
    with standalone(folder / "server", folder / "registry") as server:
        command = [sys.executable, "-m", "tests.support.story", str(folder)]
        monitor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert monitor.stdout is not None
            with httpx.Client(base_url=f"http://127.0.0.1:{int(monitor.stdout.readline())}", timeout=30) as client:
                day = story.Day(server)

                def settled(found: dict[str, Any]) -> bool:
                    """Every label of what was sent is joined, and those of audits are counted."""
                    windows = client.get("/api/models/digits/windows", params={"limit": 5000}).json()["windows"]
                    audited = sum(x["audit_labelled"] for x in windows)
                    return sum(x["labelled"] for x in windows) == day.sent and labels(found) == audited

                def chapter(name: str, count: int, change: Callable[[Any], Any] | None = None) -> None:
                    day.send(count, *([change] if change else []))
                    chapters[name] = until(client, settled)

                chapter("healthy", int(260 * scale))
                chapter("darker", int(240 * scale), story.darker)
                rotation_at = labels(chapters["darker"])
                chapter("turned", int(150 * scale), story.turned)
                for _ in range(12):
                    chapter("recovered", 150)
                    if not firing(chapters["recovered"]):
                        break
                found = chapters["recovered"]
                details = [client.get(f"/api/alarms/{a['id']}").json() for a in found["alarms"]]
                pages = {a["id"]: client.get(a["page"]).status_code for a in found["alarms"]}
                address = found["alarms"][0]["failing_inputs"]
                pages["failing inputs"] = client.get(address).status_code
                cases = client.get(address.replace("/cases?", "/api/cases?limit=500&")).json()["cases"]
                metrics = client.get("/metrics").text
        finally:
            monitor.send_signal(signal.SIGTERM)
            monitor.wait(30)
            if monitor.stdout is not None:
                monitor.stdout.close()
    return Told(
        folder=folder,
        chapters=chapters,
        details=details,
        pages=pages,
        rotation_at=rotation_at,
        cases=cases,
        metrics=metrics,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(tmp_path_factory.mktemp("story"), 1.0)


def check(told: Told) -> None:
    """What the story must have shown."""
    healthy, darker, turned = (told.chapters[name] for name in ("healthy", "darker", "turned"))
    assert labels(healthy) > 100
    assert not healthy["alarms"]
    assert not darker["alarms"], "a change that costs nothing woke somebody up"
    watching = darker["watching"][0]
    assert watching["drift"]["exceeded"] > 0, "the change of brightness was not even seen"
    assert watching["drift"]["harm"] == "harmless_so_far"
    assert watching["drift"]["labels"] >= 30
    assert {a["promise"] for a in turned["alarms"]} == {"lifetime", "run_length"}
    assert turned["watching"][0]["drift"]["harm"] == "harmful"
    assert not firing(told.chapters["recovered"]), "the alarms did not end"
    assert len(told.chapters["recovered"]["alarms"]) == 2, "an alarm came back"


def check_evidence(told: Told) -> None:
    """What can be read of it afterwards."""
    for alarm in told.details:
        assert [e["state"] for e in alarm["events"] if e["state"] in ("firing", "resolved")] == ["firing", "resolved"]
        fired = alarm["events"][0]["position"]
        assert told.rotation_at < fired <= told.rotation_at + PAGE_WITHIN
        assert alarm["evidence"] >= alarm["threshold"]
        path = {point["position"]: point for point in alarm["path"]}
        assert path[fired][alarm["promise"]] == alarm["evidence"]
        assert path[fired - 1][alarm["promise"]] < alarm["threshold"]
        assert {point["inclusion_probability"] for point in alarm["path"]} == {story.AUDIT_RATE}
        assert alarm["low"] <= alarm["estimate"] <= alarm["high"]
        assert alarm["estimate"] > alarm["limit"]
        assert alarm["moved"], "what moved beside it is not known"
        assert alarm["examples"]
    assert set(told.pages.values()) == {200}
    assert told.cases
    assert all(case["correct"] is False for case in told.cases)
    assert set(told.details[0]["examples"]) & {case["id"] for case in told.cases}
    assert 'hardcase_alarm{model="digits",promise="lifetime",state="quiet"} 1.0' in told.metrics


@pytest.mark.fault
@pytest.mark.timeout(240)
def test_a_day_pages_once_for_what_costs_and_never_for_what_does_not(told: Told) -> None:
    check(told)


@pytest.mark.timeout(240)
def test_all_of_the_evidence_can_be_read_afterwards(told: Told) -> None:
    check_evidence(told)


def drain(folder: Path, *databases: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "tests.support.story", str(folder), "--drain", *databases]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed(folder: Path, database: str, cycles: int, delay_s: float) -> bool:
    """Start a monitor and kill it `delay_s` after so many cycles; whether it was at work then."""
    process = drain(folder, database)
    assert process.stdout is not None
    with process.stdout as lines:
        for _ in range(1 + cycles):
            lines.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        rest = lines.read().split()
    process.wait()
    return "done" not in rest


def compare(told: Told, kills: int) -> None:
    """Monitors that read the same log, killed `kills` times, find what the one found that saw it happen."""
    (told.folder / "killed").mkdir()
    chance, at_work = random.Random(kills), 0
    for _ in range(kills):
        at_work += killed(told.folder, "killed", chance.randrange(3), chance.uniform(0.0, 0.3))
    assert at_work >= 0.6 * kills, "the kills came too late to mean anything"
    process = drain(told.folder, "killed", "live")
    lines, _ = process.communicate(timeout=200)
    assert (process.returncode, lines.split()[-1]) == (0, "done")
    got, wanted = (story.findings(told.folder / name) for name in ("killed", "live"))
    assert len(wanted["alarms"]) == 2
    assert len(wanted["audit_labels"]) > 250
    for table in story.FINDINGS:
        assert got[table] == wanted[table], table
    shutil.rmtree(told.folder / "killed")


@pytest.mark.fault
@pytest.mark.timeout(240)
def test_a_monitor_killed_at_random_points_finds_the_same(told: Told) -> None:
    compare(told, 2)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(900)
def test_a_long_day_with_many_kills(tmp_path: Path) -> None:
    long = tell(tmp_path, 5.0)
    check(long)
    check_evidence(long)
    compare(long, 30)
