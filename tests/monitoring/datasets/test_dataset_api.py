"""Snapshots and lineage through the API."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from monitoring import schema as t
from tests.support.console_store import manifest
from tests.support.dataset_world import DatasetWorld, dataset_console, dataset_world
from tests.support.loop_pages import MLFLOW, whole_turn


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatasetWorld]:
    made = dataset_world(tmp_path_factory.mktemp("datasets"))
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def client(world: DatasetWorld) -> Iterator[httpx.Client]:
    with dataset_console(world) as made:
        yield made


def test_a_snapshot_is_made_listed_and_read(world: DatasetWorld, client: httpx.Client):
    answer = client.post("/api/datasets", json={"model": "digits", "recipe": {"holdout_audit": 0.0}})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["sources"]["base"] == 60
    assert made["base"] == world.base.digest
    listed = client.get("/api/datasets").json()["datasets"]
    assert {made["id"], world.base.id} <= {d["id"] for d in listed}
    assert next(d for d in listed if d["id"] == world.base.id)["versions"] == ["2"]
    assert client.get(f"/api/datasets/{made['id']}").json() == made
    assert client.get(f"/api/datasets/{made['id']}/check").json()["whole"] is True
    seen, after = [], ""
    while True:
        page = client.get(f"/api/datasets/{made['id']}/rows", params={"limit": 40, "after": after}).json()
        seen += [row["row_id"] for row in page["rows"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert len(seen) == made["rows"] == len(set(seen))


def test_the_same_question_gives_the_same_snapshot(client: httpx.Client):
    body = {"model": "digits", "recipe": {"holdout_audit": 0.0, "validation": 0.3}}
    first, second = (client.post("/api/datasets", json=body).json() for _ in range(2))
    assert first == second


def test_the_difference_to_the_base_is_what_was_reviewed(world: DatasetWorld, client: httpx.Client):
    made = client.post("/api/datasets", json={"model": "digits", "recipe": {"holdout_audit": 0.0}}).json()
    found = client.get(f"/api/datasets/{world.base.id}/diff/{made['id']}").json()
    assert found["counts"] == {"added": made["rows"] - 60, "removed": 0, "relabelled": 0, "moved": 0}
    assert found["same"] == 60
    assert {row["change"] for row in found["rows"]} == {"added"}
    back = client.get(f"/api/datasets/{made['id']}/diff/{world.base.id}").json()
    assert back["counts"]["removed"] == found["counts"]["added"]


def test_lineage_leads_from_a_record_to_the_version_trained_on_it_and_back(world: DatasetWorld, client: httpx.Client):
    made = client.post("/api/datasets", json={"model": "digits", "recipe": {"holdout_audit": 0.0}}).json()
    world.trained_on("3", made["digest"], parent="2")
    row = next(r for r in client.get(f"/api/datasets/{made['id']}/rows?limit=1000").json()["rows"] if r["case"])
    by_record = client.get(f"/api/lineage/record/{row['record_id']}?model=digits").json()
    by_case = client.get(f"/api/lineage/case/{row['case']}").json()
    for found in (by_record, by_case):
        assert made["id"] in {s["dataset"]["id"] for s in found["snapshots"]}
        assert "3" in {v["version"] for v in found["versions"]}
        assert row["row_id"] in {i["row_id"] for i in found["items"]}
    back = client.get("/api/lineage/version/digits?version=3").json()
    assert row["case"] in {r["case"] for r in back["records"]}
    assert [s["dataset"]["id"] for s in back["snapshots"]] == [made["id"], world.base.id]
    assert back["total"] == made["rows"] - 60


def test_lineage_leads_on_to_the_turn_the_gate_the_rollout_and_mlflow(world: DatasetWorld):
    snapshot = world.build(holdout_audit=0.0, name="whole")
    world.trained_on("8", snapshot.digest, parent="2")
    made = whole_turn(world.store, "8", champion="2", snapshot=snapshot.id, digest=snapshot.digest, rows=snapshot.rows)
    world.catalogue.manifests += (manifest(version="9"),)  # trained elsewhere, taken from MLflow
    with world.store.write() as connection:
        there = {"model": "digits", "version": "9", "name": "digits", "number": "9", "run": "", "digest": ""}
        connection.execute(t.experiment_versions.insert().values(**there))
    with dataset_console(world, mlflow=MLFLOW) as client:
        row = next(r for r in client.get(f"/api/datasets/{snapshot.id}/rows?limit=1000").json()["rows"] if r["case"])
        for found in (
            client.get(f"/api/lineage/case/{row['case']}").json(),
            client.get("/api/lineage/version/digits?version=8").json(),
        ):
            eight = next(v for v in found["versions"] if v["version"] == "8")
            assert (eight["training"], eight["stage"], eight["snapshot"]) == (
                made.training, "rolling_out", snapshot.id,
            )  # fmt: skip
            assert (eight["gate"], eight["gate_outcome"]) == (made.gate, "passed")
            assert (eight["rollout"], eight["rollout_state"]) == (made.rollout, "running")
            assert eight["mlflow"] == {
                "name": "digits", "number": "7", "url": f"{MLFLOW}/#/models/digits/versions/7",
                "run": "f" * 32, "run_url": f"{MLFLOW}/#/experiments/3/runs/{'f' * 32}",
            }  # fmt: skip
        nine = client.get("/api/lineage/version/digits?version=9").json()
        assert (nine["records"], nine["snapshots"], nine["versions"][0]["mlflow"]["number"]) == ([], [], "9")
        assert nine["versions"][0]["mlflow"]["run_url"] == ""
        status = client.get("/api/mlflow").json()
        assert {(v["version"], v["number"]) for v in status["versions"]} == {("8", "7"), ("9", "9")}
        assert (status["answers"], status["imports"], status["runs"], status["pulled"]) == (None, False, 1, [])
        asked = client.post("/api/mlflow/pull", json={"name": "digits", "number": "12"})
        assert asked.status_code == 202
        assert (asked.json()["state"], asked.json()["asked_by"]) == ("found", "local")
        assert asked.json()["url"] == f"{MLFLOW}/#/models/digits/versions/12"
        assert client.get("/api/mlflow").json()["pulled"] == [asked.json()]
        assert client.post("/api/mlflow/pull", json={"name": "cats", "number": "1"}).status_code == 404
        assert client.post("/api/mlflow/pull", json={"name": "a/b", "number": "x"}).status_code == 400


def test_without_mlflow_there_is_nothing_to_ask_it(client: httpx.Client):
    assert client.get("/api/mlflow").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/datasets/0000000000000000", 404),
        ("/api/datasets/zz", 400),
        ("/api/lineage/case/0000000000000000", 404),
        ("/api/lineage/record/nobody", 404),
        ("/api/lineage/version/digits?version=99", 404),
        ("/api/lineage/version/digits?version=1", 404),
    ],
)
def test_what_is_not_there_is_said_so(client: httpx.Client, path: str, status: int):
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "recipe",
    [{"validation": 1.5}, {"nonsense": 1}, {"since": "yesterday"}, {"base": "0123456789abcdef"}, {"slices": 3}],
)
def test_a_recipe_that_is_none_is_refused(client: httpx.Client, recipe: dict[str, object]):
    answer = client.post("/api/datasets", json={"model": "digits", "recipe": recipe})
    assert answer.status_code in (400, 404)
    assert set(answer.json()) == {"error"}
