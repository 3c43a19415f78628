"""The search by Ray Tune itself, on a small cluster of its own that ends with the program."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

SCRIPT = """
import json, math, sys
from pathlib import Path
import ray
from export.training.search import Plan
from export.training.search_space import LogUniform, draw
from export.training.tune_search import tune

def train(parameters):
    end = 1.0 - abs(math.log10(parameters["lr"]) + 2.0) / 4
    for step in range(100):
        yield end * (1 - 0.5 ** (step + 1))

ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[2], log_to_driver=False)
sets = draw({"lr": LogUniform(low=1e-4, high=1e-1)}, 8, seed=0)
found = tune(sets, train, Plan(trials=8, rungs=(1, 3, 9)), budget_s=float(sys.argv[3]), folder=Path(sys.argv[1]))
ray.shutdown()
print(json.dumps({
    "best": found.best.parameters, "sets": sets, "steps": [len(t.scores) for t in found.trials],
    "numbers": [t.number for t in found.trials], "complete": found.complete, "seconds": found.seconds,
}))
"""


def test_tune_tries_what_was_drawn_and_finds_the_best(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }
    sockets = tmp_path_factory.mktemp("r")  # Ray's sockets need a short path
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "tune"), str(sockets), "200"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["best"] == min(said["sets"], key=lambda one: abs(math.log10(one["lr"]) + 2.0))
    assert said["numbers"] == list(range(8))
    assert max(said["steps"]) == 9
    assert said["complete"]
