"""Map, selections and tried requests over HTTP, against a real service with real traffic."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.origins import ASIDE
from tests.support import monitor_world as w
from tests.support.explore_world import World, explored
from tests.support.watching import until


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with explored(tmp_path_factory.mktemp("explore")) as made:
        yield made


@pytest.fixture
def client(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.address, trust_env=False, timeout=30) as made:
        yield made


def decoded(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """The documented layout, read by its documentation."""
    assert data[:4] == b"HCM1"
    room = int.from_bytes(data[4:8], "little")
    header = json.loads(data[8 : 8 + room])
    columns = {}
    for column in header["columns"]:
        dtype = np.dtype(column["type"]).newbyteorder("<")
        assert column["offset"] % 8 == 0
        end = column["offset"] + dtype.itemsize * header["count"]
        columns[column["name"]] = np.frombuffer(data[column["offset"] : end], dtype=dtype)
    return header, columns


def test_the_map_holds_records_cases_and_the_reference_and_stays_put(world: World, client: httpx.Client) -> None:
    response = client.get("/api/models/digits/map")
    assert response.headers["content-type"] == "application/octet-stream"
    header, c = decoded(response.content)
    assert header["version"] == "1"
    assert header["projection"]["fitted_on"] == "reference"
    assert (c["kind"] == 2).sum() == 300  # the held-out digits behind the reference
    assert (c["kind"] != 2).sum() == 240
    assert (c["kind"] == 1).sum() == header["totals"]["cases"] > 20
    assert np.isfinite(c["x"]).all()
    wrong = c["truth"][c["kind"] != 2] == 2
    assert wrong.sum() > 30  # turned digits are labelled, and wrong
    assert sum(line["points"] for line in header["clusters"]) == header["count"]
    assert header["clusters"][0]["points"] >= header["clusters"][-1]["points"]
    ids = {f"{i:016x}" for i in c["id"][c["kind"] == 1].tolist()}
    assert ids == {case["id"] for case in client.get("/api/cases?model=digits&version=1&limit=500").json()["cases"]}
    assert client.get("/api/models/digits/map").content == response.content
    few, fewer = decoded(client.get("/api/models/digits/map?limit=400").content)
    place = dict(zip(c["id"][c["kind"] == 0].tolist(), c["x"][c["kind"] == 0].tolist(), strict=True))
    assert few["count"] <= 400
    for seq, x in zip(fewer["id"][fewer["kind"] == 0].tolist(), fewer["x"][fewer["kind"] == 0].tolist(), strict=True):
        assert place[seq] == x


def test_a_selection_is_kept_under_a_short_name(client: httpx.Client) -> None:
    ids = [case["id"] for case in client.get("/api/cases?model=digits&limit=9").json()["cases"]]
    response = client.post("/api/selections", json={"model": "digits", "cases": [*ids, ids[0], "0" * 16], "title": "T"})
    assert response.status_code == 201, response.text
    made = response.json()
    assert (made["cases"], made["left"], made["actor"]) == (9, 9, "local")
    assert set(client.get(f"/api/selections/{made['id']}/cases").json()["cases"]) == set(ids)
    assert client.get("/api/selections?model=digits").json()["selections"][0] == made
    assert client.get("/api/selections/000000000000").status_code == 404
    refused = client.post("/api/selections", json={"model": "digits", "cases": ["f" * 16]})
    assert (refused.status_code, refused.json()["error"]) == (400, "cases: none of these is a case of this model")


def test_a_tried_input_is_answered_scored_placed_and_no_traffic(world: World, client: httpx.Client) -> None:
    before, since_ns = counts(world), time.time_ns()
    image = w.turned(w.digits().images[:1], 30.0).astype("<f4")
    asked = {"inputs": [{"name": "x", "shape": [1, 1, 8, 8], "base64": base64.b64encode(image.tobytes()).decode()}]}
    response = client.post("/api/models/digits/try", json=asked)
    assert response.status_code == 200, response.text
    tried = response.json()
    logits = w.digits().answer(image)["logits"][0]
    row = tried["rows"][0]
    assert (tried["version"], row["predicted"]) == ("1", int(logits.argmax()))
    assert row["predicted_label"] == w.NAMES[row["predicted"]]
    assert sum(row["probabilities"]) == pytest.approx(1.0, abs=1e-4)
    assert 0.0 < row["p_wrong"] < 1.0
    assert all(np.isfinite(row["place"]))
    assert len(tried["neighbours"]) == 8
    assert tried["neighbours"][0]["likeness"] >= tried["neighbours"][-1]["likeness"] > 0.5
    assert tried["missing"] is None
    as_list = {"inputs": [{"name": "x", "data": image.tolist()}], "version": "2"}
    other = client.post("/api/models/digits/try", json=as_list).json()
    assert (other["version"], other["missing"]) == ("2", None)
    assert f"{world.server.url}/v2/models/digits/versions/2/infer" in other["curl"]
    subprocess.run([sys.executable, "-c", other["python"]], check=True, timeout=60)  # as people run it
    # The champion's answer, the shadow's to the same request, and version 2's.
    until(lambda: world.read() or aside(world, since_ns) == 3, 20, "what was tried is not in the index")
    # The snippet's request says nothing of trying, so it counts.
    until(lambda: world.read() or counts(world)[0] == before[0] + 1, 20, "the snippet's request is not counted")
    assert aside(world, since_ns) == 3


def aside(world: World, since_ns: int) -> int:
    """Records since then that are no traffic."""
    r = t.records.c
    with world.store.read() as connection:
        asked = sa.select(sa.func.count()).where(r.variant == ASIDE, r.time_ns >= since_ns)
        return int(connection.scalar(asked) or 0)


def counts(world: World) -> tuple[int, int]:
    """Requests in windows, and cases."""
    windows = world.store.windows("digits", limit=500)
    cases = world.store.cases(model="digits", limit=500)
    return sum(row.requests for row in windows if row.variant != "shadow"), len(cases.cases)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([{"name": "y", "data": [1]}], "this model has no input 'y'; it has x"),
        ([{"name": "x"}], "'x' needs either data or base64"),
        ([{"name": "x", "data": [1.0] * 63}], "the model takes [-1, 1, 8, 8]"),
        ([{"name": "x", "data": ["a"] * 64}], "'x'.data must be numbers that FP32 holds"),
        ([{"name": "x", "base64": "%"}], "'x'.base64 is not base64"),
        ([{"name": "x", "base64": "AAAA"}], "'x'.base64 is 3 bytes, no multiple of 4"),
        ([{"name": "x", "data": [0] * 64}, {"name": "x", "data": [0] * 64}], "'x' is given twice"),
    ],
)
def test_an_input_that_does_not_fit_is_named(client: httpx.Client, inputs: list[Any], text: str) -> None:
    response = client.post("/api/models/digits/try", json={"inputs": inputs})
    assert response.status_code == 400, response.text
    assert text in response.json()["error"]


def test_examples_can_be_sent_as_they_come(client: httpx.Client) -> None:
    examples = client.get("/api/models/digits/try").json()["examples"]
    assert len(examples) == 12
    # Of the day's own records: what another test sent to version 2 may be a case by now, and nothing of version 1's.
    cases = client.get("/api/cases?model=digits&version=1&limit=500").json()["cases"]
    sent = {case["id"] for case in cases if case["record_id"].startswith("story-")}
    own = [example for example in examples if example["case"] in sent]
    assert len(own) >= 2
    for example in own[:2]:
        response = client.post("/api/models/digits/try", json={"inputs": example["inputs"]})
        assert response.status_code == 200, response.text
        assert response.json()["neighbours"][0]["likeness"] > 0.999  # itself, or the same input as the shadow had it


def test_a_service_that_is_gone_is_said_in_words(world: World, client: httpx.Client) -> None:
    from monitoring.explore.serving_client import DOWN, ServingClient
    from monitoring.inference_options import InferenceOptions

    gone = ServingClient(replace(InferenceOptions(), url="http://127.0.0.1:9"))
    with pytest.raises(Exception, match=r"does not answer just now") as raised:
        gone.infer("digits", None, [], [], "try")
    assert (raised.value.http_status, str(raised.value)) == (503, DOWN)
    assert gone.loaded("digits") == ()
    unknown = client.post("/api/models/digits/try", json={"version": "9", "inputs": [{"name": "x", "data": [0] * 64}]})
    assert unknown.status_code == 404
