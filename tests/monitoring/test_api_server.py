"""The monitor process whole: real log, real engine, real reports, over HTTP, ended by SIGTERM."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import monitor_world

SHIFT_S, DAY_S = 90, 150


@dataclass(kw_only=True)
class Running:
    process: subprocess.Popen[str]
    client: httpx.Client
    right: dict[str, bool]
    folder: Path

    def get(self, path: str, **query: Any) -> Any:
        response = self.client.get(path, params=query)
        assert response.status_code == 200, response.text[:300]
        return response.json()

    def until(self, path: str, holds: Callable[[Any], bool], timeout_s: float = 60) -> Any:
        deadline = time.monotonic() + timeout_s
        while not holds(found := self.get(path)):
            assert time.monotonic() < deadline, str(found)[:500]
            time.sleep(0.1)
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("monitor")
    right = monitor_world.day(folder / "records", seconds=DAY_S, shift_from=SHIFT_S)
    process = start(folder)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
        world = Running(process=process, client=client, right=right, folder=folder)
        world.until("/api/accounting", lambda a: a["requests"] == a["ingested"] >= len(right))
        yield world
    if process.poll() is None:
        process.kill()
    process.wait(10)
    process.stdout.close()


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.console_child", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_every_record_of_the_log_is_on_the_pages(running: Running) -> None:
    accounting = running.get("/api/accounting")
    assert accounting["requests"] == accounting["captured"] == accounting["ingested"]
    (model,) = running.get("/api/models")["models"]
    assert model["versions"][0]["quality"]["requests"] == accounting["requests"]
    overview = running.get("/", format="json")
    assert overview["balance"]["balanced"] is True
    assert overview["balance"]["requests"] == accounting["requests"]


def test_the_shift_shows_in_accuracy_signals_and_cases(running: Running) -> None:
    windows = running.get("/api/models/digits/windows")["windows"]
    assert windows[0]["accuracy"] > 0.9
    assert windows[-1]["accuracy"] < 0.5
    assert windows[-1]["p_wrong_mean"] > windows[0]["p_wrong_mean"]
    drift = running.until("/api/models/digits/drift", lambda d: any(s["exceeded"] for s in d["signals"]))
    assert {s["state"] for s in drift["signals"]} <= {"ok", "not_enough_data", "no_reference"}
    cases = running.get("/api/cases", limit=50, min_score=0, **{"from": "2026-02-25T06:15:30Z"})["cases"]
    wrong = [not running.right[c["record_id"]] for c in cases]
    assert sum(wrong) / len(wrong) >= 0.7


def test_the_true_label_of_feedback_stands_on_its_case(running: Running) -> None:
    known = running.get("/api/cases", correct="false", limit=20)["cases"]
    assert known
    for case in known:
        assert running.right[case["record_id"]] is False
        assert case["label"] in monitor_world.NAMES
        page = running.get(f"/cases/{case['id']}", format="json")
        assert page["verdict"] == "the answer was wrong"
        assert page["card"]["label"] == case["label"]
        assert {b["role"] for b in page["bars"]} == {"", "predicted", "truth"}
        assert running.client.get(case["picture"]).headers["content-type"] == "image/png"


def test_a_failed_request_is_a_case_without_a_picture(running: Running) -> None:
    failed = running.get("/api/cases", reason="rule_error")["cases"]
    assert failed
    page = running.get(f"/cases/{failed[0]['id']}", format="json")
    assert page["card"]["picture"] is None
    assert page["error"] == "the model raised"


def test_metrics_and_targets_name_this_process(running: Running) -> None:
    own = running.client.base_url.netloc.decode()
    assert [g["targets"] for g in running.get("/sd/prometheus")] == [["127.0.0.1:9"], [own]]
    text = running.client.get("/metrics").text
    for name in ("hardcase_monitor_records_ingested_total", "hardcase_records{", "hardcase_drift_signal{"):
        assert name in text


@pytest.mark.timeout(700)
def test_a_report_of_the_shifted_part_finds_drift_and_one_of_the_healthy_part_does_not(running: Running) -> None:
    parts = {
        "healthy": ("2026-02-25T06:14:00Z", "2026-02-25T06:15:00Z"),
        "all": ("2026-02-25T06:14:00Z", "2026-02-25T06:17:00Z"),
    }
    found = {}
    for name, (start_at, end) in parts.items():
        posted = running.client.post(
            "/api/reports", json={"model": "digits", "version": "1", "from": start_at, "to": end}
        )
        assert posted.status_code == 202, posted.text
        path = f"/api/reports/{posted.json()['id']}"
        found[name] = running.until(path, lambda r: r["state"] not in ("queued", "running"), 300)
        assert found[name]["state"] == "done", found[name]
    drifted = {name: {c["column"] for c in report["columns"] if c["drifted"]} for name, report in found.items()}
    assert len(drifted["healthy"]) <= 1, drifted["healthy"]
    assert drifted["all"] >= {"x:sharpness", "x:std"}
    assert "predicted class" in {c["column"] for c in found["all"]["columns"]}
    assert found["all"]["reference_rows"] == 300
    assert found["all"]["current_rows"] >= 100


def test_sigterm_closes_the_database_and_ends_with_zero(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    assert running.process.stdout is not None
    assert running.process.stdout.read().strip() == "closed"
    with sqlite3.connect(running.folder / "monitor.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_second_monitor_on_one_database_is_refused_and_a_taken_port_is_named(tmp_path: Path) -> None:
    from export.contracts.errors import Unavailable
    from monitoring.api.options import ConsoleOptions
    from monitoring.server import serve_monitor
    from monitoring.store import Store

    options = monitor_world.options(tmp_path, port=0)
    store = Store(options.database_url)
    with pytest.raises(Unavailable, match="another process has the monitor's database open"):
        serve_monitor(options, monitor_world.catalogue(tmp_path / "reference"), list)
    store.close()
    with pytest.raises(ValueError, match=r"monitor\.token_sha256"):
        serve_monitor(
            options, monitor_world.catalogue(tmp_path / "reference"), list, console=ConsoleOptions(host="0.0.0.0")
        )
