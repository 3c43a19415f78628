"""Pairs, flips and intervals; runs over stored cases against a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.explore.paired import holm, mcnemar_exact, mean_difference, paired
from monitoring.review.test_sets import insert_test_set
from tests.support import monitor_world as w
from tests.support.explore_world import World, explored
from tests.support.watching import until


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with explored(tmp_path_factory.mktemp("compare"), requests=160) as made:
        yield made


def test_the_interval_holds_its_level_with_few_flips() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        kinds = rng.choice(4, 60, p=[0.85, 0.07, 0.03, 0.05])  # both right, left only, right only, both wrong
        made = paired((kinds < 2).tolist(), ((kinds == 0) | (kinds == 2)).tolist())
        assert made.low is not None
        assert made.high is not None
        covered += made.low <= -0.04 <= made.high
    assert 0.94 <= covered / 2000 <= 0.985


def test_nothing_known_is_not_zero() -> None:
    made = paired([], [])
    assert (made.n, made.difference, made.low, made.high, made.p_value) == (0, None, None, None, None)
    assert mean_difference([0.1] * 9, [0.2] * 9) is None
    assert mcnemar_exact(0, 0) == 1.0
    assert holm([0.5, None, 0.01]) == [0.5, None, 0.02]


def test_a_shadow_is_compared_on_the_same_requests(world: World) -> None:
    with httpx.Client(base_url=world.address, trust_env=False, timeout=60) as client:
        found = client.get("/api/models/digits/compare?left=1&right=2&limit=500&show=all").json()
        assert found["counts"]["request"] == found["pairs"] == 160
        assert found["counts"]["without_truth"] == 0
        negative = [p for p in found["items"] if p["left"]["correct"] and p["right"]["correct"] is False]
        assert len(negative) == found["negative"] == found["overall"]["left_only"] > 0
        order = [{-1: 0, 1: 1, 0: 2}[p["flip"]] for p in found["items"]]
        assert order == sorted(order)
        assert found["different"] == sum(p["left"]["predicted"] != p["right"]["predicted"] for p in found["items"])
        cell = next(c for c in found["matrix"]["cells"] if c["left"] != c["right"])
        asked = f"show=all&left_class={cell['left']}&right_class={cell['right']}&limit=500"
        assert client.get(f"/api/models/digits/compare?left=1&right=2&{asked}").json()["listed"] == cell["count"]
        assert sum(line["n"] for line in found["by_class"]) == 160
        other = client.get("/api/models/digits/compare?left=2&right=1").json()
        assert (other["negative"], other["positive"]) == (found["positive"], found["negative"])
        assert client.get("/api/models/digits/compare?left=1&right=1").status_code == 400
        assert client.get("/api/models/digits/compare?left=1&right=9").status_code == 404


def test_stored_cases_are_sent_to_both_and_answer_as_they_did(world: World) -> None:
    with httpx.Client(base_url=world.address, trust_env=False, timeout=60) as client:
        started = client.post("/api/models/digits/replays", json={"versions": ["1", "2"]})
        assert started.status_code == 202, started.text
        number = started.json()["id"]
        until(lambda: client.get(f"/api/replays/{number}").json()["finished_at"], 60, "the run does not end")
        done = client.get(f"/api/replays/{number}").json()
        assert (done["state"], done["done"], done["failed"]) == ("done", done["total"], {})
        listed = client.get("/api/models/digits/replays").json()
        assert (listed["replays"][0]["id"], set(listed["loaded"])) == (number, {"1", "2"})
        by_case = client.get("/api/models/digits/compare?left=1&right=2&set=case&show=all&limit=5000").json()
        by_request = client.get("/api/models/digits/compare?left=1&right=2&set=request&show=all&limit=5000").json()
        said = {p["record_id"]: p["right"]["predicted"] for p in by_request["items"]}
        assert by_case["pairs"] > 20
        assert all(said[p["record_id"]] == p["right"]["predicted"] for p in by_case["items"])
        refused = client.post(f"/api/replays/{number}/cancel", json={})
        assert (refused.status_code, refused.json()["error"]) == (409, "this comparison run has ended already")


def test_versions_are_compared_on_a_test_set_with_its_own_truth_and_on_a_selection(world: World) -> None:
    with httpx.Client(base_url=world.address, trust_env=False, timeout=60) as client:
        path = "/api/models/digits/compare?left=1&right=2&show=all&limit=5000"
        whole = {p["case"]: p for p in client.get(path).json()["items"] if p["case"]}
        cases = sorted(whole)[:7]
        with world.store.write() as connection:
            made = insert_test_set(connection, actor="ann", name="seven", cases=cases, now_ns=1)
            i = t.test_set_items
            # Since the set was made, somebody has come to see one of its cases otherwise; the set is as it was.
            connection.execute(i.update().where(i.c.position == 0).values(label=json.dumps(w.NAMES[0])))
            odd = connection.scalar(sa.select(i.c.case_id).where(i.c.position == 0))
        found = client.get(f"{path}&test_set={made}").json()
        items = {p["case"]: p for p in found["items"]}
        assert (found["within"], found["counts"]["in_set"]) == ("seven", len(items))
        assert set(items) <= set(cases)
        assert len(items) > 3
        assert items[odd]["truth"] == w.NAMES[0]
        assert items[odd]["left"]["correct"] is (items[odd]["left"]["label"] == w.NAMES[0])
        for case in set(items) - {odd}:
            assert items[case] == whole[case]
        kept = client.post("/api/selections", json={"model": "digits", "cases": cases[:3], "title": "three"}).json()
        three = client.get(f"{path}&selection={kept['id']}").json()
        assert (three["within"], {p["case"] for p in three["items"]}) == ("three", set(cases[:3]))
        both = client.get(f"{path}&selection={kept['id']}&test_set={made}")
        assert (both.status_code, both.json()["error"]) == (
            400, "test_set: name a test set or a selection, not both",
        )  # fmt: skip
        assert client.get(f"{path}&test_set=000000000000").status_code == 404
        sent = client.post("/api/models/digits/replays", json={"versions": ["1", "2"], "test_set": made})
        assert sent.status_code == 202, sent.text
        assert 0 < sent.json()["total"] <= len(items)  # inputs that are no longer kept cannot be sent
        page = client.get(f"/models/digits/compare?left=1&right=2&test_set={made}").text
        assert "Within <strong>seven</strong>" in page
        assert f'<option value="{made}" selected>seven</option>' in page
