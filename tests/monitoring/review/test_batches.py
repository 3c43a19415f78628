"""Labelling batches: over the API, and what they do when cases are decided or gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from export.contracts.errors import InvalidRequest
from monitoring import schema as t
from monitoring.erasure.rows import erase_rows
from monitoring.review import batches as b
from monitoring.slice_queries import cases_of_slice
from tests.support.slice_world import EIGHTS, SliceWorld, slice_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SliceWorld]:
    with slice_world(tmp_path) as made:
        yield made


def test_a_batch_of_a_slice_counts_its_progress_and_keeps_its_order(world: SliceWorld) -> None:
    made = world.post("/api/batches", {"name": "dark eights", "slice": EIGHTS, "limit": 30, "key": "k1"}, 201)
    again = world.post("/api/batches", {"name": "another name", "slice": EIGHTS, "limit": 30, "key": "k1"}, 201)
    assert made == again
    assert world.get("/api/batches")["batches"] == [made]
    telling = cases_of_slice(world.store, EIGHTS, 30)
    assert made["cases"] == len(telling) > 5
    assert made["slice"] == EIGHTS
    assert made["model"] == "digits"
    page = world.get(f"/api/batches/{made['id']}/cases", limit=4)
    rest = world.get(f"/api/batches/{made['id']}/cases", after=page["next"])
    assert page["cases"] + rest["cases"] == telling
    assert rest["next"] is None

    with world.store.write() as connection:
        c = t.cases.c
        connection.execute(t.cases.update().where(c.id.in_(telling)).values(state="open"))
        connection.execute(t.cases.update().where(c.id.in_(telling[:3])).values(state="labelled"))
        connection.execute(t.cases.delete().where(c.id == telling[-1]))
    now = world.get(f"/api/batches/{made['id']}")
    assert (now["decided"], now["gone"], now["state"]) == (3, 1, "open")
    assert now["waiting"] + now["decided"] + now["gone"] == now["cases"] == len(telling)
    assert world.get(f"/api/batches/{made['id']}/cases", waiting=True)["cases"] == telling[3:-1]
    with world.store.write() as connection:
        connection.execute(t.cases.update().where(t.cases.c.id.in_(telling)).values(state="dismissed"))
    assert world.get(f"/api/batches/{made['id']}")["state"] == "done"
    assert world.get("/api/batches", state="open")["batches"] == []
    assert world.get("/api/batches", state="done")["batches"][0]["id"] == made["id"]


def test_cases_are_added_once_and_to_an_open_batch_only(world: SliceWorld) -> None:
    ids = list(world.day.case_ids[:6])
    made = world.post("/api/batches", {"name": "by hand", "cases": [ids[2], ids[0], ids[2]]}, 201)
    assert made["cases"] == 2
    assert made["created_by"] == "local"
    more = world.post(f"/api/batches/{made['id']}/cases", {"cases": ids[:4]})
    assert more["cases"] == 4
    assert world.get(f"/api/batches/{made['id']}/cases")["cases"] == [ids[2], ids[0], ids[1], ids[3]]
    assert world.post(f"/api/batches/{made['id']}/close")["state"] == "closed"
    world.post(f"/api/batches/{made['id']}/cases", {"cases": ids}, 409)
    assert world.post(f"/api/batches/{made['id']}/open")["state"] in ("open", "done")


def test_what_cannot_be_a_batch_is_refused(world: SliceWorld) -> None:
    unknown = "0" * 16
    world.post("/api/batches", {"name": "x", "cases": [unknown]}, 400)
    world.post("/api/batches", {"name": "x", "cases": [unknown], "slice": EIGHTS}, 400)
    world.post("/api/batches", {"name": " ", "slice": EIGHTS}, 400)
    world.post("/api/batches", {"name": "x", "slice": "0" * 12}, 404)
    world.post(f"/api/batches/{'0' * 12}/close", None, 404)
    with pytest.raises(InvalidRequest, match="at most"):
        b.make_batch(world.store, actor="a", name="n", cases=[f"{i:016x}" for i in range(50_001)], now_ns=1)


def test_an_erased_record_leaves_its_batches(world: SliceWorld) -> None:
    made = world.post("/api/batches", {"name": "x", "cases": list(world.day.case_ids[:2])}, 201)
    gone = world.store.case(world.day.case_ids[0])
    assert gone is not None
    with world.store.write() as connection:
        counts, _ = erase_rows(connection, [gone.record_id], None)
    assert counts["batch_cases"] == 1
    assert world.get(f"/api/batches/{made['id']}/cases")["cases"] == [world.day.case_ids[1]]
