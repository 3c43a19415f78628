"""Against a real MLflow server and, where something is registered or read, MLflow's own client.

python -m benchmarks.peers.setup mlflow                       # once: about a minute, 0.9 GB
pytest -m slow tests/integrations/test_mlflow.py              # about a minute
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.processes import free_ports
from deploy.workshop import RegistryCandidates, RegistryPlans
from monitoring.integrations import tool_rows
from monitoring.integrations.mlflow.names import Service
from monitoring.loop import rows
from monitoring.loop.contracts import JobState, Stage, Workshop
from monitoring.loop.driver import Driver
from monitoring.loop.machine import RolloutEnd
from monitoring.loop.options import LoopOptions
from monitoring.loop.stations import Rolled
from tests.support.loop_world import MemoryJobs, MemoryStations
from tests.support.mlflow_server import PROGRAM, RealMlflow, real_mlflow
from tests.support.mlflow_world import MlflowWorld, mlflow_world
from tests.support.packages import digits_like_package

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
    with real_mlflow(tmp_path_factory.mktemp("mlflow"), free_ports(1)[0]) as running:
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


# What somebody does who has trained a model elsewhere: MLflow's own ONNX flavour, registered and tagged for Hardcase.
REGISTER = """
import json, sys
import mlflow, onnx
from mlflow import MlflowClient
mlflow.set_experiment("somebody else's")
with mlflow.start_run():
    made = mlflow.onnx.log_model(onnx.load(sys.argv[1]), name="model", registered_model_name="digits")
client = MlflowClient()
version = max(client.search_model_versions("name='digits'"), key=lambda v: int(v.version))
client.set_model_version_tag("digits", version.version, "hardcase", "import")
print(json.dumps({"number": version.version}))
"""
TAGS = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
found = client.get_model_version("digits", sys.argv[1])
print(json.dumps({"tags": found.tags, "aliases": list(found.aliases)}))
"""


def test_a_version_registered_there_is_pulled_gated_and_rolled_out(
    server: RealMlflow, world: MlflowWorld, tmp_path: Path
):
    """MLflow and the registry are real; the stations of the loop (gate's job, roll-out) end as the test says."""
    theirs = digits_like_package(tmp_path / "theirs", seed=9).dir / "model.onnx"
    world.turns()
    number = str(server.script(REGISTER, str(theirs))["number"])
    world.later()
    world.turns()
    (version,) = set(world.registry.versions("digits")) - {"1"}
    package = world.registry.package("digits", version)
    assert package.manifest.provenance.source == f"mlflow:digits/{number}"
    assert (package.dir / "model.onnx").read_bytes() != b""
    seen = server.script(TAGS, number)
    assert (seen["tags"]["hardcase"], seen["tags"]["hardcase.version"]) == ("taken", version)
    assert seen["aliases"] == ["candidate"]

    jobs, stations = MemoryJobs(), MemoryStations()
    driver = Driver(
        store=world.store,
        workshop=Workshop(
            jobs=jobs, candidates=RegistryCandidates(world.registry), plans=RegistryPlans(world.registry),
            folder=tmp_path / "loop", datasets=tmp_path / "datasets",
        ),
        stations=stations,
        options=LoopOptions(),
        clock=lambda: world.now[0] / 1e9,
    )  # fmt: skip
    with world.store.read() as connection:
        (turn,) = rows.turns(connection, open_only=True)
    assert (turn.stage, turn.version, turn.actor) == (Stage.TRAINED, version, "mlflow")
    driver.turn()
    assert jobs.starts == [turn.gate_job], "no training, the gate at once"
    jobs.state[turn.gate_job] = JobState.SUCCEEDED
    for _ in range(4):
        driver.turn()
    assert stations.begun, "the roll-out has not begun"
    world.plan(version)
    stations.end = Rolled(end=RolloutEnd.PROMOTED, words="every step passed")
    driver.turn()
    world.later()
    world.turns()
    seen = server.script(TAGS, number)
    assert seen["aliases"] == ["champion"]
    assert seen["tags"]["hardcase.stage"] == "promoted"
