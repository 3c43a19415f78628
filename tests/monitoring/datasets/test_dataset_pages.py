"""The pages about data sets and lineage."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from monitoring.datasets.rows import items
from tests.support.dataset_world import DatasetWorld, dataset_console, dataset_world

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatasetWorld]:
    made = dataset_world(tmp_path_factory.mktemp("pages"), cases=60)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def client(world: DatasetWorld) -> Iterator[httpx.Client]:
    with dataset_console(world) as made:
        yield made


def test_every_page_shows_what_it_is_about_and_has_a_twin(world: DatasetWorld, client: httpx.Client):
    first = world.build(holdout_audit=0.0, name=HOSTILE)
    world.trained_on("3", first.digest, parent="2")
    relabelled = world.labelled()[0]
    world.set_case(relabelled, label='"nine"')
    second = world.build(holdout_audit=0.0, name="second")
    with world.store.read() as connection:
        item = items(connection, snapshot=second.id)[0]
    pages = {
        "/datasets": [first.id, second.id, world.base.id],
        f"/datasets/{second.id}": ["second", "validation", f"/datasets/{first.id}/diff/{second.id}"],
        f"/datasets/{first.id}/diff/{second.id}": ["relabelled", "nine"],
        "/lineage/version/digits?version=3": ["digits 3", first.id],
        f"/lineage/case/{item.case_id}": [second.id, item.record_id],
        f"/lineage/record/{item.record_id}": [second.id],
    }
    for path, said in pages.items():
        html = client.get(path).text
        for text in said:
            assert text in html, (path, text)
        assert HOSTILE not in html
        assert not re.search(r'\sstyle="|<script>|\son[a-z]+="', html), path
        twin = client.get(path + ("&" if "?" in path else "?") + "format=json")
        assert twin.status_code == 200
        assert twin.json()["shell"]["section"] == "datasets"


def test_the_form_makes_a_snapshot_and_leads_to_it(client: httpx.Client):
    form = {"model": "digits", "name": "by hand", "labels": "any", "noise": "list", "new_percent": "40"}
    answer = client.post("/datasets", data=form, headers={"origin": str(client.base_url).rstrip("/")})
    assert answer.status_code == 303, answer.text
    made = client.get(answer.headers["location"] + "?format=json").json()
    assert made["card"]["name"] == "by hand"
    assert {f["name"]: f["value"] for f in made["recipe"]}["new_share"] == "0.4"


def test_bands_lead_from_answers_over_people_to_versions(world: DatasetWorld, client: httpx.Client):
    made = world.build(holdout_audit=0.0, name="bands")
    world.trained_on("7", made.digest)
    picture = client.get("/lineage/version/digits?version=7&format=json").json()["picture"]
    columns = sorted({node["x"] for node in picture["nodes"]})
    assert len(columns) == len(picture["heads"]) == 4
    assert len(picture["links"]) >= 4
    assert all(node["y"] + node["height"] <= picture["height"] for node in picture["nodes"])


def test_a_damaged_snapshot_says_so_on_its_page(world: DatasetWorld, client: httpx.Client):
    made = world.build(holdout_audit=0.0, name="damaged")
    data = made.folder / "data.parquet"
    data.write_bytes(data.read_bytes()[:-1])
    page = client.get(f"/datasets/{made.id}")
    assert page.status_code == 200
    assert "data.parquet" in page.text
    assert client.get(f"/api/datasets/{made.id}/check").json()["whole"] is False
    assert client.get(f"/api/datasets/{made.id}/rows").status_code == 404
