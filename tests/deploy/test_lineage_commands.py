"""`hardcase lineage` and `hardcase mlflow` against a console that listens: from an answer to a version, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deploy.cli import main
from deploy.monitor_client import MonitorClient
from monitoring import schema as t
from monitoring.datasets.rows import items
from monitoring.integrations.mlflow.names import ImportState
from tests.support.dataset_world import DatasetWorld, dataset_console, dataset_world
from tests.support.loop_pages import MLFLOW, WholeTurn, whole_turn

Call = Callable[..., str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatasetWorld]:
    made = dataset_world(tmp_path_factory.mktemp("lineage"), cases=40)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def turn(world: DatasetWorld) -> WholeTurn:
    made = world.build(holdout_audit=0.0, name="November")
    world.trained_on("3", made.digest, parent="2")
    return whole_turn(world.store, "3", champion="2", snapshot=made.id, digest=made.digest, rows=made.rows)


@pytest.fixture(scope="module")
def console(world: DatasetWorld, turn: WholeTurn) -> Iterator[httpx.Client]:
    with dataset_console(world, mlflow=MLFLOW) as client:
        yield client


@pytest.fixture
def call(
    console: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    client = MonitorClient(str(console.base_url), client=console)
    monkeypatch.setattr(MonitorClient, "of", lambda settings: client)

    def made(*arguments: str, code: int = 0) -> str:
        assert main(list(arguments)) == code
        return capsys.readouterr().out

    return made


def test_an_answer_leads_to_the_version_trained_on_its_label_and_its_proof_and_back(
    call: Call, world: DatasetWorld, turn: WholeTurn
) -> None:
    with world.store.read() as connection:
        snapshot = world.catalogue.manifests[-1].provenance.dataset_snapshot or ""
        item = items(connection, snapshot=snapshot.removeprefix("sha256:")[:16])[0]
    for name in (item.record_id, item.case_id):
        said = call("lineage", name)
        assert f"snapshot {item.snapshot_id}" in said
        assert "digits 3" in said
        assert f"turn {turn.training}: rolling out" in said
        assert f"gate {turn.gate}: passed" in said
        assert f"roll-out {turn.rollout}: running" in said
        assert f"MLflow digits/7 · {MLFLOW}/#/models/digits/versions/7" in said
        assert f"{MLFLOW}/#/experiments/3/runs/{'f' * 32}" in said
    back = json.loads(call("lineage", "digits:3", "--json"))
    assert item.case_id in {record["case"] for record in back["records"]}
    assert item.record_id in {record["record_id"] for record in back["records"]}


def test_mlflow_is_asked_for_a_version_and_says_what_became_of_it(
    call: Call, world: DatasetWorld, turn: WholeTurn
) -> None:
    assert "was not called yet" in call("mlflow", "status")
    assert "digits/7" in call("mlflow", "status")
    call("mlflow", "pull", "digits", code=2)
    call("mlflow", "pull", "cats/1", code=3)
    assert "digits/12 is going to be fetched" in call("mlflow", "pull", "models:/digits/12")
    i = t.experiment_imports
    world.sql(i.update().values(state=ImportState.TAKEN.value, version="3", training_id=turn.training))
    trainings = t.trainings.update().where(t.trainings.c.id == turn.training)
    world.sql(trainings.values(stage="promoted", ended_ns=1, flight=None))
    assert json.loads(call("mlflow", "pull", "digits/12", "--wait", "--json"))["turn"]["stage"] == "promoted"
    world.sql(trainings.values(stage="rolled_back", problem="errors"))
    assert "rolled back. errors" in call("mlflow", "pull", "digits/12", "--wait", code=4)
    assert "digits/12" in call("mlflow", "status")
