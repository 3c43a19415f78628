"""Every fault as often as the design asks for, by the benchmark that also writes the figures down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(900)]


@pytest.mark.parametrize("faults", [("kill",), ("stop", "haproxy", "manager", "controller", "roll", "head")])
def test_no_fault_costs_more_than_it_may(faults: tuple[str, ...], tmp_path: Path):
    out = tmp_path / "faults.json"
    only = [word for name in faults for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ray_faults", "--out", str(out), *only],
        cwd=ROOT, capture_output=True, text=True, timeout=880, check=False,
    )  # fmt: skip
    assert out.exists(), done.stdout + done.stderr
    found = json.loads(out.read_text())["faults"]
    assert set(found) == set(faults)
    assert {name: part["breaches"] for name, part in found.items() if part["breaches"]} == {}
    assert done.returncode == 0
