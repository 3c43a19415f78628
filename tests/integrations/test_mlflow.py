"""Against a real MLflow server and, where something is registered or read, MLflow's own client.

python -m benchmarks.peers.setup mlflow                       # once: about a minute, 0.9 GB
pytest -m slow tests/integrations/test_mlflow.py              # about a minute
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.integrations import tool_rows
from monitoring.integrations.mlflow.names import Service
from tests.support.mlflow_server import PROGRAM, RealMlflow, real_mlflow
from tests.support.mlflow_world import MlflowWorld, mlflow_world

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PROGRAM.exists(), reason="no .venvs/mlflow: run python -m benchmarks.peers.setup mlflow"),
]
TRAINING = "0123456789ab"

# What somebody sees who looks with MLflow's own client.
LOOK = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
champion = client.get_model_version_by_alias("digits", "champion")
run = client.get_run(champion.run_id)
history = [[m.step, m.value] for m in client.get_metric_history(champion.run_id, "val_accuracy")]
def walk(path):
    for item in client.list_artifacts(champion.run_id, path):
        if item.is_dir:
            yield from walk(item.path)
        else:
            yield item.path
print(json.dumps({
    "version": champion.tags, "number": champion.version, "run": run.data.tags, "params": run.data.params,
    "metrics": run.data.metrics, "status": run.info.status, "history": history, "source": champion.source,
    "files": sorted(walk(None)), "versions": len(client.search_model_versions("name='digits'")),
    "runs": len(client.search_runs([run.info.experiment_id])),
    "experiment": client.get_experiment(run.info.experiment_id).name,
}))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMlflow]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with real_mlflow(tmp_path_factory.mktemp("mlflow"), port) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, server: RealMlflow) -> Iterator[MlflowWorld]:
    made = mlflow_world(tmp_path, server.url, imports=True)
    yield made
    made.store.close()


def test_a_promoted_version_appears_with_alias_metrics_and_lineage(server: RealMlflow, world: MlflowWorld):
    world.story(points=1500)  # more than MLflow takes in one call
    assert server.process is not None
    world.turns()
    seen = server.script(LOOK)
    assert seen["version"]["hardcase.version"] == "2"
    assert seen["version"]["hardcase.training"] == TRAINING
    assert seen["version"]["hardcase.gate_says"] == "better by 3 points"
    assert seen["run"]["hardcase.snapshot"] == "sha256:" + "a" * 64
    assert seen["run"]["hardcase.parent_version"] == "1"
    assert (seen["status"], seen["experiment"]) == ("FINISHED", "hardcase/digits")
    assert seen["params"]["lr"] == "0.01"
    assert sorted(seen["history"]) == [[i, 0.5 + i / 100] for i in range(1500)]
    assert seen["metrics"]["final/val_accuracy"] == 0.97
    assert seen["metrics"]["gate/negative_flips"] == 2.0
    assert {"gate/report.html", "gate/verdict.json", "manifest.json", "package/model.onnx"} <= set(seen["files"])
    assert (seen["versions"], seen["runs"]) == (2, 2)

    # Once more from nothing, as after a monitor that was killed before it could note anything down.
    with world.store.write() as connection:
        from monitoring import schema as t

        connection.execute(t.experiment_runs.delete())
        connection.execute(t.experiment_versions.delete())
    world.later()
    world.turns()
    assert server.script(LOOK) == seen

    # Back to the version before; the server is stopped meanwhile, with SIGKILL.
    server.process.send_signal(signal.SIGKILL)
    server.stop()
    world.registry.rollback("digits", author="ann", reason="errors")
    world.turns()
    assert tool_rows.tool_row(world.store, Service.MLFLOW).failures > 0
    server.start()
    world.later()
    world.turns()
    assert server.script(LOOK)["version"]["hardcase.version"] == "1"
    assert tool_rows.tool_row(world.store, Service.MLFLOW).failures == 0
