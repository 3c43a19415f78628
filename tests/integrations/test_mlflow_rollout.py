"""A model that somebody else trained and registered in MLflow becomes the champion: every part is the real one.

The MLflow server, `hardcase up` with its monitor and its stand-alone server, the gate's job on labels that were typed
into the console's API, the roll-out under constant traffic, MLflow's own client before and after.

    python -m benchmarks.peers.setup mlflow                         # once: about a minute, 0.9 GB
    pytest -m slow tests/integrations/test_mlflow_rollout.py        # about two minutes on two quiet cores
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.demo.background import Order
from deploy.demo.crowd import Traffic
from deploy.demo.digits import Digits, Part, load_digits
from deploy.demo.learn import Change, learn
from deploy.demo.overlay import overlay
from deploy.demo.pictures import DEGREES, Scene
from deploy.demo.reviewer import Reviewer
from deploy.demo.train import package
from deploy.monitor_client import MonitorClient
from export.contracts.manifest import RuntimeKind
from export.from_torch import export_module
from export.registry import Registry
from tests.support.hardcase_process import Place, free_ports
from tests.support.mlflow_server import PROGRAM, RealMlflow, real_mlflow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not PROGRAM.exists(), reason="no .venvs/mlflow: run python -m benchmarks.peers.setup mlflow"),
]
RUN = "mlf"
AUDITS = 40  # labelled audit items: the gain is some forty points, which needs no more
TURN_S = 900.0

# What somebody does who has trained a model elsewhere; Hardcase is not installed there.
REGISTER = """
import json, sys
import mlflow, onnx
mlflow.set_experiment("turned digits")
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.9)
    made = mlflow.onnx.log_model(onnx.load(sys.argv[1]), name="model", registered_model_name="digits")
print(json.dumps({"number": str(made.registered_model_version)}))
"""
LOOK = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
champion = client.get_model_version_by_alias("digits", "champion")
run = client.search_runs([client.get_experiment_by_name("hardcase/digits").experiment_id],
                         f"tags.`hardcase.training` = '{champion.tags.get('hardcase.training', '')}'")
print(json.dumps({"number": champion.version, "tags": champion.tags,
                  "run": run[0].data.tags if run else {}, "metrics": run[0].data.metrics if run else {}}))
"""


def theirs(folder: Path, data: Digits) -> Path:
    """An ONNX file, trained on turned digits outside of Hardcase."""
    none = Part(images=np.zeros((0, 1, 8, 8), np.float32), labels=np.zeros(0, np.int64))
    network = learn(data.train, none, seed=11, epochs=12, changes=[Change(degrees=DEGREES)])
    asked: dict[str, Any] = package(data) | {"module": network, "runtimes": (RuntimeKind.ONNX,)}
    return export_module(**asked, out_dir=folder / "theirs").dir / "model.onnx"


def label(client: MonitorClient, data: Digits, audits: int) -> int:
    """Type labels into the console's API until so many audit items have one; returns how many were typed in all."""
    reviewer = Reviewer(client, RUN, data.live.labels, error_rate=0.0, seed=2)
    deadline = time.monotonic() + TURN_S
    while sum(one.audit for one in reviewer.labelled) < audits:
        assert time.monotonic() < deadline, f"{len(reviewer.labelled)} labels, too few audits among them"
        if not reviewer.review(5):
            time.sleep(0.5)
    return len(reviewer.labelled)


def settings(url: str) -> dict[str, Any]:
    """Short windows and dwell times as in the demo; no trainer, so nothing but MLflow brings in a candidate."""
    short = overlay(Path("unused"), quick=True)
    return {
        "serving": {"standalone": True},
        "monitor": short["monitor"],
        "gate": short["gate"],
        "rollout": short["rollout"],
        "experiments": {"url": url, "poll_s": 1.0},
    }


def test_a_version_registered_in_mlflow_is_pulled_gated_and_rolled_out(tmp_path: Path):
    data = load_digits()
    (port,) = free_ports(1)
    with real_mlflow(tmp_path / "mlflow", port) as server:
        running = Place.make(tmp_path / "s", **settings(server.url)).start()
        place = running.place
        try:
            model = theirs(tmp_path, data)
            order = Order(scene=Scene.TURNED.value, rate=100.0)
            traffic = Traffic(
                f"127.0.0.1:{place.serving_port}", None, run=RUN, seed=1, order=order, log=tmp_path / "clients.log"
            )
            try:
                traffic.await_first()
                with closing(MonitorClient(place.console)) as client:
                    label(client, data, AUDITS)
                before = traffic.totals().by_version["1"]
                number = server.script(REGISTER, str(model))["number"]
                done = place.run("mlflow", "pull", f"digits/{number}", "--follow", "--json", timeout=TURN_S)
                told = json.loads(done.stdout)
                assert done.returncode == 0, told
                turn = told["turn"]
                time.sleep(3.0)  # some traffic for the new champion alone
                check_here(place, server, told)
            finally:
                totals = traffic.close()
            assert (totals.failed, totals.reasons) == (0, [])
            assert totals.balanced
            answered, right = totals.by_version[turn["version"]]
            assert answered > 100, "it answers everybody"
            assert right / answered > before[1] / before[0] + 0.2, "and better"
            check_there(server, number, turn)
        finally:
            running.ensure_stopped()
        assert running.left_over() == []


def check_here(place: Place, server: RealMlflow, told: dict[str, Any]) -> None:
    """The registry's plan, and every step from the version back to the gate and to MLflow, by the commands."""
    turn = told["turn"]
    assert (turn["trainer"], turn["stage"], turn["champion"]) == ("mlflow", "promoted", "1")
    assert told["asked_by"]
    assert turn["gate"]
    assert turn["rollout"]
    plan = Registry(place.paths.registry).plan("digits")
    assert plan is not None
    assert plan.champion == turn["version"]
    with closing(MonitorClient(place.console)) as client:
        assert client.get(f"/api/gates/{turn['gate']}")["outcome"] == "passed"
        status = client.get("/api/mlflow")
    mine = next(v for v in status["versions"] if v["version"] == turn["version"])
    assert mine["url"] == f"{server.url}/#/models/digits/versions/{told['number']}"


def check_there(server: RealMlflow, number: str, turn: dict[str, Any]) -> None:
    """What MLflow's own client sees, once the monitor has told it."""
    deadline = time.monotonic() + 60
    while True:
        seen = server.script(LOOK)
        if (seen["number"], seen["tags"].get("hardcase.stage")) == (number, "promoted"):
            break
        assert time.monotonic() < deadline, seen
        time.sleep(1.0)
    assert seen["tags"]["hardcase"] == "taken"
    assert seen["tags"]["hardcase.version"] == turn["version"]
    assert seen["tags"]["hardcase.gate"] == turn["gate"]
    assert seen["run"]["hardcase.rollout"] == turn["rollout"]
    assert seen["metrics"]["gate/passed"] == 1.0
