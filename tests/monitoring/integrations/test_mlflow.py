"""MLflow kept in step with the loop, against a server in memory that can be away and lose answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.integrations import tool_rows
from monitoring.integrations.mlflow.names import Service
from monitoring.loop.contracts import Stage
from tests.support.mlflow_stub import StubMlflow, stub_mlflow
from tests.support.mlflow_world import REPORT, SECOND, START, MlflowWorld, mlflow_world

TRAINING = "0123456789ab"


@pytest.fixture
def server() -> Iterator[StubMlflow]:
    with stub_mlflow() as stub:
        yield stub


@pytest.fixture
def world(tmp_path: Path, server: StubMlflow) -> Iterator[MlflowWorld]:
    made = mlflow_world(tmp_path, server.url)
    yield made
    made.store.close()


def test_a_promoted_version_has_its_alias_its_metrics_and_its_lineage(server: StubMlflow, world: MlflowWorld):
    world.story()
    world.turns()
    model = server.models["digits"]
    by_version = {v["tags"]["hardcase.version"]: v for v in model["versions"]}
    assert sorted(by_version) == ["1", "2"]
    assert model["aliases"] == {"champion": by_version["2"]["version"]}
    (run,) = [r for r in server.runs.values() if r["tags"].get("hardcase.training") == TRAINING]
    assert run["status"] == "FINISHED"
    assert by_version["2"]["run_id"] == run["id"]
    points = {(name, step, value) for name, step, _, value in run["metrics"] if name == "val_accuracy"}
    assert points == {("val_accuracy", i, 0.5 + i / 100) for i in range(3)}
    values = {name: value for name, _, _, value in run["metrics"]}
    assert values["final/val_accuracy"] == 0.97
    assert (values["gate/passed"], values["gate/negative_flips"], values["gate/candidate/p99_ms"]) == (1.0, 2.0, 1.25)
    assert run["params"] == {"lr": "0.01", "seed": "7", "budget_s": "600", "labels": "0", "recipe.base": "parent"}
    tags = by_version["2"]["tags"]
    assert tags["hardcase.training"] == TRAINING
    assert run["tags"]["hardcase.snapshot"] == "sha256:" + "a" * 64
    assert run["tags"]["hardcase.parent_version"] == "1"
    assert tags["hardcase.gate_says"] == "better by 3 points"
    below = f"{run['experiment']}/{run['id']}/artifacts"
    assert server.files[f"{below}/gate/report.html"] == REPORT
    package = world.registry.package("digits", "2").dir
    assert server.files[f"{below}/package/manifest.json"] == (package / "manifest.json").read_bytes()
    assert server.files[f"{below}/package/model.onnx"] == (package / "model.onnx").read_bytes()


def test_aliases_follow_every_change_of_the_plan(server: StubMlflow, world: MlflowWorld):
    world.version("2", seed=1)
    world.plan("1", challenger="2")
    world.turns()
    number = {v["tags"]["hardcase.version"]: v["version"] for v in server.models["digits"]["versions"]}
    assert server.models["digits"]["aliases"] == {"champion": number["1"], "candidate": number["2"]}
    world.plan("2")
    world.turns()
    assert server.models["digits"]["aliases"] == {"champion": number["2"]}
    world.registry.rollback("digits", author="ann", reason="errors")
    world.turns()
    assert server.models["digits"]["aliases"] == {"champion": number["1"]}


def test_an_alias_that_somebody_moved_is_put_back_at_the_next_look(server: StubMlflow, world: MlflowWorld):
    world.turns()
    server.models["digits"]["aliases"]["champion"] = "99"
    world.turns()
    assert server.models["digits"]["aliases"]["champion"] == "99"  # nothing changed here: not looked at yet
    world.later(31)
    world.turns()
    assert server.models["digits"]["aliases"]["champion"] == "1"


def test_what_is_new_of_a_running_training_is_told_while_it_runs(server: StubMlflow, world: MlflowWorld):
    world.training(TRAINING, Stage.TRAINING, version="2")
    world.metrics(TRAINING, {0: 0.25})
    world.turns()
    (run,) = [r for r in server.runs.values() if "hardcase.training" in r["tags"]]
    assert (run["status"], len(run["metrics"])) == ("RUNNING", 1)
    world.metrics(TRAINING, {1: 0.5, 2: 0.75})
    world.turns()
    assert {value for *_, value in run["metrics"]} == {0.25, 0.5, 0.75}
    before = len(server.calls)
    world.turns()
    assert len(server.calls) == before, "nothing is new, and MLflow was called"
    world.move(TRAINING, Stage.FAILED, problem="out of memory")
    world.turns()
    assert (run["status"], run["tags"]["hardcase.problem"]) == ("FAILED", "out of memory")


def test_a_server_that_is_away_costs_nothing_and_loses_nothing(server: StubMlflow, world: MlflowWorld):
    server.away = True
    world.story(points=5)
    world.turns()
    assert tool_rows.tool_row(world.store, Service.MLFLOW).failures == 1
    before = len(server.calls)
    assert not world.worker.turn(), "it is left alone for a while"
    assert len(server.calls) == before
    server.away = False
    world.later()
    world.turns()
    assert tool_rows.tool_row(world.store, Service.MLFLOW).failures == 0
    (run,) = [r for r in server.runs.values() if "hardcase.training" in r["tags"]]
    assert sum(1 for name, *_ in run["metrics"] if name == "val_accuracy") == 5
    assert server.models["digits"]["aliases"]["champion"] == "2"


@pytest.mark.parametrize(
    "losing", ["runs/create", "runs/log-batch", "model-versions/create", "registered-models/create", "artifacts"]
)
def test_an_answer_that_was_lost_makes_nothing_twice(server: StubMlflow, world: MlflowWorld, losing: str):
    server.lose, server.losing = 2, losing
    world.story()
    for _ in range(6):
        world.turns()
        world.later()
    assert server.lose == 0, "the fault did not happen"
    assert len([r for r in server.runs.values() if "hardcase.training" in r["tags"]]) == 1
    assert len(server.runs) == 2  # and one of the version that was made by hand
    assert sorted(v["tags"]["hardcase.version"] for v in server.models["digits"]["versions"]) == ["1", "2"]
    assert server.models["digits"]["aliases"]["champion"] == "2"


def test_a_monitor_killed_between_call_and_note_does_it_again_to_the_same_end(server: StubMlflow, world: MlflowWorld):
    """As after SIGKILL at the worst moment: MLflow has everything, the database nothing of it."""
    world.story()
    world.turns()
    runs, versions = dict(server.runs), list(server.models["digits"]["versions"])
    metrics = {run: set(r["metrics"]) for run, r in runs.items()}
    with world.store.write() as connection:
        connection.execute(t.experiment_runs.delete())
        connection.execute(t.experiment_versions.delete())
    world.later()
    world.turns()
    assert set(server.runs) == set(runs)
    assert server.models["digits"]["versions"] == versions
    assert {run: set(r["metrics"]) for run, r in server.runs.items()} == metrics


def test_a_run_that_somebody_deleted_is_made_anew(server: StubMlflow, world: MlflowWorld):
    world.training(TRAINING, Stage.TRAINING, version="2")
    world.turns()
    (gone,) = [key for key, r in server.runs.items() if "hardcase.training" in r["tags"]]
    del server.runs[gone]
    world.metrics(TRAINING, {0: 0.5})
    world.turns()
    world.later()
    world.turns()
    (run,) = [r for r in server.runs.values() if "hardcase.training" in r["tags"]]
    assert {value for *_, value in run["metrics"]} == {0.5}


def test_packages_stay_here_where_the_settings_say_so(tmp_path: Path, server: StubMlflow):
    world = mlflow_world(tmp_path, server.url, upload_packages=False, registered="hc-{model}", experiment="all")
    world.story()
    world.turns()
    assert not [path for path in server.files if "/package/" in path]
    assert list(server.experiments) == ["all"]
    (model,) = server.models.values()
    assert {v["source"] for v in model["versions"]} == {"hardcase://digits/1", "hardcase://digits/2"}
    world.store.close()


def test_large_files_are_left_out_and_said_so(tmp_path: Path, server: StubMlflow):
    world = mlflow_world(tmp_path, server.url, file_bytes=4000)
    world.story()
    world.turns()
    assert not [path for path in server.files if path.endswith("model.onnx")]
    r = t.experiment_runs.c
    with world.store.read() as connection:
        problem: Any = connection.scalar(sa.select(r.problem).where(r.training_id == TRAINING))
    assert "model.onnx" in problem
    world.store.close()


def test_credentials_are_sent_and_never_said(tmp_path: Path, server: StubMlflow):
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    world = mlflow_world(tmp_path, server.url, username="ann", password_file=str(secret))
    assert world.worker.runs.client.credentials() == "Basic YW5uOnMzY3JldA=="
    secret.unlink()
    world.turns()
    problem = tool_rows.tool_row(world.store, Service.MLFLOW).problem
    assert "s3cret" not in problem
    assert str(tmp_path) not in problem
    world.store.close()


def test_times_are_those_of_the_log_not_of_the_look(server: StubMlflow, world: MlflowWorld):
    world.story(points=2)
    world.turns()
    (run,) = [r for r in server.runs.values() if "hardcase.training" in r["tags"]]
    stamps = {stamp for name, _, stamp, _ in run["metrics"] if name == "val_accuracy"}
    assert stamps == {(START + i * SECOND) // 10**6 for i in range(2)}
