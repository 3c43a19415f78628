"""Servers come up, or say why not, and leave nothing behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.hotspots import Spot, read_samples
from benchmarks.machine import cpu_model, machine_facts
from benchmarks.peers.setup import PEERS, REQUIREMENTS
from benchmarks.processes import ServerFailed, server
from benchmarks.starts import ROOT

PARENT_WITH_STUBBORN_CHILD = """
import signal, subprocess, sys, time, pathlib
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"],
    stdout=subprocess.PIPE)
child.stdout.readline()
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(60)
"""


def test_a_server_ends_with_its_children_even_those_that_ignore_the_signal(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    command = [sys.executable, "-c", PARENT_WITH_STUBBORN_CHILD, str(told)]
    with server(command, environment={}, folder=tmp_path, ready=lambda: told.exists() and bool(told.read_text())):
        child = int(told.read_text())
        assert psutil.pid_exists(child)
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)


def test_processes_that_were_there_before_are_left_alone(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    other = psutil.Popen(sleeper)
    try:
        with (
            pytest.raises(ServerFailed, match="not ready after"),
            server(sleeper, environment={}, folder=tmp_path, ready=lambda: False, timeout_s=0.3),
        ):
            pytest.fail("it is never ready")
        assert other.is_running()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_server_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the port is taken')"]
    with (
        pytest.raises(ServerFailed, match=r"(?s)ended with 1.*the port is taken"),
        server(command, environment={}, folder=tmp_path, ready=lambda: False),
    ):
        pytest.fail("it is not ready")


def test_every_peer_has_a_requirement_file_in_which_each_package_is_pinned() -> None:
    for peer in PEERS:
        lines = (REQUIREMENTS / f"{peer.name}.txt").read_text().splitlines()
        packages = [line for line in lines if line and not line.startswith("#")]
        assert packages
        assert [line for line in packages if "==" not in line] == []


def test_all_peers_have_the_same_onnxruntime_as_the_project() -> None:
    pin = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("onnxruntime"))
    for peer in PEERS:
        assert pin in (REQUIREMENTS / f"{peer.name}.txt").read_text().splitlines()


def test_facts_name_the_machine_and_no_place_in_it() -> None:
    facts = machine_facts(ROOT)
    assert facts["cores"] == len(os.sched_getaffinity(0))
    text = repr(facts)
    assert os.uname().nodename not in text or len(os.uname().nodename) < 4
    assert str(ROOT) not in text


def test_a_cpuinfo_without_a_name_gives_the_architecture() -> None:
    assert cpu_model("processor : 0\n") == os.uname().machine


def test_samples_give_own_and_inclusive_shares_without_folders() -> None:
    stacks = ["main (/x/a.py:1);run (/x/b.py:5) 6", "main (/x/a.py:2);run (/x/b.py:6);run (/x/b.py:7) 2", "idle 2", ""]
    assert read_samples(stacks) == [
        Spot(function="run (b.py)", own=0.8, below=0.8),
        Spot(function="idle", own=0.2, below=0.2),
        Spot(function="main (a.py)", own=0.0, below=0.8),
    ]
    assert read_samples(stacks, lines=True)[0] == Spot(function="run (b.py:5)", own=0.6, below=0.6)
