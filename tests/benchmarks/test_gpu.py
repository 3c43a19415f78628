"""The benchmarks of accelerators and heavy models run here in miniature, and on a machine with only torch and numpy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.networks import make_module, networks
from benchmarks.pressure import Outcome
from tests.support.source_tree import ROOT

# An interpreter in which nothing but torch, numpy and our own packages can be imported.
BARE_MACHINE = """
import importlib.abc, runpy, sys
TORCH = {"torch", "typing_extensions", "sympy", "mpmath", "jinja2", "markupsafe", "networkx", "fsspec", "filelock",
         "torchgen", "triton", "functorch"}
ALLOWED = {"numpy", "benchmarks", "export", "serving", "monitoring"} | TORCH | set(sys.stdlib_module_names)

class Fence(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        top = name.split(".")[0]
        if top not in ALLOWED and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named '{top}'", name=top)

sys.meta_path.insert(0, Fence())
sys.argv = ["benchmarks.gpu", *sys.argv[1:]]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def run(command: list[str], seconds: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )


def results(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_text())
    assert document["machine"]["versions"]["torch"] == torch.__version__
    found: list[dict[str, Any]] = document["results"]
    return found


def test_with_only_torch_and_numpy_the_runtime_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--quick", "--seconds", "0.1", "--only", "bert-base", "resnet50"]
    done = run(["-c", BARE_MACHINE, *arguments, "--no-http", "--output", str(out)])
    assert done.returncode == 0, done.stderr
    measured = results(out)
    assert [r["network"] for r in measured] == ["resnet50", "bert-base"]
    for result in measured:
        assert "not_measured" not in result
        assert result["bare"]["rows_per_s"] > 0
        assert result["lanes"]["rows_per_s"] > 0


def test_through_http_on_the_double(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["--device", "double:4ms", "--quick", "--seconds", "0.5", "--only", "bert-base", "--precision", "bf16"]
    done = run(["-m", "benchmarks.gpu", *arguments, "--output", str(out)])
    assert done.returncode == 0, done.stderr
    (result,) = results(out)
    assert result["precision"] == "bfloat16"
    assert result["facts"]["graphs"] == "1,2,4,8"
    assert result["bare"]["batch_ms"] >= 4
    http = result["http"]
    assert http["rows_per_s"] > 0
    assert http["failures"] == http["half_load"]["failures"] == {}


def test_without_a_device_it_says_what_to_do() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = run(["-m", "benchmarks.gpu"])
    assert done.returncode == 2
    assert "--device cpu" in done.stderr


@pytest.mark.slow
def test_the_heavy_model_runs(tmp_path: Path) -> None:
    out = tmp_path / "heavy.json"
    done = run(["-m", "benchmarks.heavy_model", "--quick", "--batches", "8", "--output", str(out)])
    assert done.returncode in (0, 1), done.stderr  # 1: the figure is not reached, as it may be on a busy machine
    for result in json.loads(out.read_text())["results"]:
        assert result["failures"] == 0
        assert result["bare"]["batch_ms"] >= 5 / 2
        assert result["of_bare"] > 0.3


def test_the_full_networks_have_their_papers_sizes() -> None:
    """He et al. 25.6 M, Dosovitskiy et al. 86 M, Devlin et al. 110 M parameters (BERT without pooler, and a head)."""
    millions = {
        n.name: sum(p.numel() for p in make_module(n, torch.float32, torch.device("meta")).parameters()) / 1e6
        for n in networks(small=False)
        if n.name == "resnet50"
    }
    assert millions["resnet50"] == pytest.approx(25.6, abs=0.1)


def test_percentiles_are_by_nearest_rank() -> None:
    outcome = Outcome(seconds=2.0, latencies_ms=[float(n) for n in range(100, 0, -1)])
    assert outcome.per_s == 50
    assert (outcome.percentile(50), outcome.percentile(99), outcome.percentile(100)) == (51, 100, 100)
    assert Outcome().percentile(99) != Outcome().percentile(99), "not a number"
