"""Snapshots and lineage through the API."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.dataset_world import DatasetWorld, dataset_console, dataset_world


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
