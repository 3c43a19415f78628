"""The benchmark itself, run for real on the servers that need nothing but this project."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.figures import captured_percent, rates
from benchmarks.starts import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed"),
]
COMMAND = [sys.executable, "-m", "benchmarks.serving", "--rounds", "1", "--seconds", "1", "--warm-up", "1"]


def test_a_run_on_our_own_server_measures_every_cell_and_accounts_for_every_record(tmp_path: Path) -> None:
    output = tmp_path / "serving.json"
    only = ["--only", "ours_standalone", "ours_standalone_nocapture", "--output", str(output)]
    done = subprocess.run([*COMMAND, *only], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(output.read_text())
    measured = rates(results, "ours_standalone", "front/oip-binary/64")
    assert measured[0] > 0
    assert rates(results, "ours_standalone_nocapture", "front/oip-binary/64")[0] > 0
    assert captured_percent(results, "ours_standalone") == [100.0]
    requests = sum(m["requests"] for m in results["measurements"] if m["target"] == "ours_standalone")
    assert results["capture"][0]["records"]["captured"] > requests  # warm-up and controls are recorded as well
    assert str(ROOT) not in output.read_text()


def test_a_run_that_is_interrupted_leaves_no_server_behind(tmp_path: Path) -> None:
    only = ["--only", "ours_standalone", "--output", str(tmp_path / "serving.json"), "--seconds", "60"]
    run = subprocess.Popen([*COMMAND, *only], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        servers: list[psutil.Process] = []
        deadline = time.monotonic() + 90
        while not servers and time.monotonic() < deadline:
            below = psutil.Process(run.pid).children(recursive=True)
            servers = [p for p in below if "serving.standalone" in p.cmdline()]
            time.sleep(0.1)
        assert servers, "the server was not started"
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=40) == 130
        assert [p.pid for p in servers if p.is_running()] == []
        assert not (tmp_path / "serving.json").exists()
    finally:
        run.kill()
        run.wait()
