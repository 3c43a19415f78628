"""A gate whose inputs are answered by Ray's tasks gives the verdict of one that is held here."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.gate.job import run_gate
from monitoring.gate.contracts import Outcome, SetKind
from monitoring.gate.job import read_result
from serving.ray_environment import ADDRESS_FILE
from tests.support import gate_world as world
from tests.support.ray_cluster import RayServing

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

# Several shards of a small set, beside the cluster's replicas, which hold its processors.
JOB = """
import sys
from deploy import gate_job
from deploy.gate import ray_tasks
ray_tasks.SHARD, ray_tasks.CPUS = 150, 0.1
sys.exit(gate_job.main(sys.argv[1:]))
"""


def test_the_verdict_is_the_same_as_on_one_machine(cluster: RayServing, tmp_path: Path) -> None:
    champion, better = world.package(tmp_path, "1", 60), world.package(tmp_path, "2", 700)
    audited = world.live(tmp_path / "sets").folder
    here = world.request(tmp_path / "here", champion, better.dir, [("audited", SetKind.AUDITED, audited)])
    one = run_gate(here, start=world.InThisProcess)
    address = (cluster.folder / "ray" / ADDRESS_FILE).read_text()
    there = replace(here, output=str(tmp_path / "there"), ray=address)
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(cluster.folder / "token")}
    command = [sys.executable, "-c", JOB, str(there.write(tmp_path / "job"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shard 12 of 12" in done.stdout
    many = read_result(tmp_path / "there")
    assert many.outcome is one.outcome is Outcome.PASSED
    assert [c for c in many.checks if c.subject != "memory_mib"] == [c for c in one.checks if c.subject != "memory_mib"]
    assert (many.sets, many.negative_flips) == (one.sets, one.negative_flips)
    assert (tmp_path / "there" / "inputs.csv").read_bytes() == (tmp_path / "here" / "inputs.csv").read_bytes()
