"""The review API over HTTP: what a console, a script and a second reviewer see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.people.contracts import Principal, Role
from monitoring.reports import ReportOptions, ReportService
from monitoring.review.ledger import Ledger
from monitoring.store import Store
from tests.support.console_server import client as connected
from tests.support.console_store import MemoryCatalogue, StillMonitor, manifest
from tests.support.review_cases import Clock, fill


@dataclass(kw_only=True)
class World:
    store: Store
    client: httpx.Client
    clock: Clock
    role: Role = Role.ADMIN
    name: str = "ann"

    def post(self, path: str, status: int = 200, **body: Any) -> Any:
        answer = self.client.post(f"/api/review/{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


class Named:
    """Says who asks: what signing in does."""

    def __init__(self, app: FastAPI, world: list[World]) -> None:
        self._app, self._world = app, world

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self._world:
            world = self._world[0]
            scope.setdefault("state", {})["principal"] = Principal(name=world.name, role=world.role)
        await self._app(scope, receive, send)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tmp_path = tmp_path_factory.mktemp("review")
    store = Store(f"sqlite:///{tmp_path}/m.db")
    reports = ReportService(ReportOptions(folder=tmp_path / "r"), lambda *_: None)  # type: ignore[arg-type]
    clock, known = Clock(time.time_ns()), []  # answers look at leases by the wall clock
    app = build_console(
        store,
        MemoryCatalogue(manifests=(manifest(version="1"), manifest(version="2"))),
        StillMonitor(),
        list,
        ConsoleOptions(),
        reports=reports,
        ledger=Ledger(store, clock=clock),
    )
    app.user_middleware.append(type(app.user_middleware[0])(Named, world=known))  # inside the guard
    with connected(app) as client:
        made = World(store=store, client=client, clock=clock)
        known.append(made)
        yield made
    reports.close()
    store.close()


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """One console for all; every test starts as Ann, the administrator, without cases and without a trail."""
    shared.name, shared.role = "ann", Role.ADMIN
    yield shared
    with shared.store.write() as connection:
        for table in (t.decisions, t.acts, t.case_tags, t.settle_due, t.feedback, t.cases):
            connection.execute(table.delete())


def test_from_a_lease_to_a_decision_and_back(world: World):
    fill(world.store, 3, model="letters")
    got = world.post("lease", model="letters", count=2)
    assert [c["record_id"] for c in got["cases"]] == ["r0", "r1"]
    assert got["waiting"] == 3
    first = got["cases"][0]
    assert first["standing"]["lease_by"] == "ann"
    asked = [{"case": first["id"], "edition": first["standing"]["edition"], "verdict": "correct", "comment": "clear"}]
    done = world.post("decisions", key="k", decisions=asked)
    assert done["results"][0]["standing"] | {"decided_at": None} == {
        "state": "labelled",
        "edition": 1,
        "lease_by": None,
        "lease_until": None,
        "assignee": None,
        "priority": 0,
        "opinions": 1,
        "verdict": "correct",
        "label": first["predicted_label"],
        "decided_by": "ann",
        "decided_at": None,
    }
    assert world.post("decisions", key="k", decisions=asked) == done
    history = world.client.get(f"/api/cases/{first['id']}/history").json()["steps"]
    assert (history[0]["comment"], history[0]["after"]["verdict"], history[0]["withdrawn"]) == (
        "clear",
        "correct",
        False,
    )
    pace = world.client.get("/api/review/pace").json()
    assert pace.pop("waiting") in (2, 3)  # counted every other second
    assert pace == {
        "decided": 1,
        "single": 1,
        "per_minute": 1.0,
        "agreement": {"pairs": 0, "share": None, "kappa": None},
    }
    assert world.post(f"acts/{done['act']}/undo", key="u")["changed"] == 1
    acts = world.client.get("/api/review/acts", params={"actor": "ann"}).json()["acts"]
    assert [act["kind"] for act in acts] == ["undo", "decide", "lease"]
    assert acts[1]["undone_by"] == acts[0]["id"]
    assert world.client.get("/api/review/acts", params={"case": first["id"], "limit": 1}).json()["next"] is not None


def test_the_second_reviewer_sees_what_the_first_one_said(world: World):
    (case,) = fill(world.store, 1, model="letters")
    world.post("decisions", key="k", decisions=[{"case": case, "edition": 0, "verdict": "label", "label": "two"}])
    world.name = "bob"
    late = world.post("decisions", key="k", decisions=[{"case": case, "edition": 0, "verdict": "dismiss"}])["results"][
        0
    ]
    assert not late["ok"]
    assert (late["standing"]["decided_by"], late["standing"]["label"]) == ("ann", "two")
    assert "ann said label" in late["conflict"]


def test_a_selection_is_previewed_decided_and_undone_as_one(world: World):
    fill(world.store, 40, model="letters")
    body = {"selection": {"filter": {"model": "letters"}}, "verdict": "correct"}
    seen = world.post("bulk/preview", **body)
    assert seen["count"] == sum(seen["by"].values()) == 40
    assert len(seen["examples"]) == 24
    assert "look at them again" in world.post("bulk", 409, key="b", expect=39, **body)["error"]
    done = world.post("bulk", key="b", expect=40, **body)
    assert done["changed"] == 40
    listed = world.client.get("/api/cases", params={"model": "letters", "verdict": "correct", "limit": 500}).json()
    assert {case["standing"]["decided_by"] for case in listed["cases"]} == {"ann"}
    assert world.post(f"acts/{done['act']}/undo", key="u")["changed"] == 40
    assert world.client.get("/api/cases", params={"model": "letters", "verdict": "correct"}).json()["cases"] == []


def test_lists_know_assignees_tags_and_leases(world: World):
    ids = fill(world.store, 3, model="letters")
    world.post("assign", key="1", selection={"cases": ids[:1]}, assignee="bob")
    world.post("tags", key="2", selection={"cases": ids[1:]}, add=["night"])
    world.post("priority", key="3", selection={"cases": ids[2:]}, priority=3)
    world.post("comments", key="4", selection={"cases": ids[:1]}, comment="<script>alert(1)</script>")
    world.post("opinions", key="5", selection={"cases": ids[:1]}, opinions=2)

    def listed(**query: str) -> list[str]:
        found = world.client.get("/api/cases", params={"model": "letters", **query}).json()["cases"]
        return [case["record_id"] for case in found]

    assert listed(assignee="bob") == ["r0"]
    assert sorted(listed(tag="night")) == ["r1", "r2"]
    assert world.post("lease", model="letters")["cases"][0]["record_id"] == "r2"
    assert listed(state="leased") == ["r2"]
    assert "r2" not in listed(state="open")
    assert world.post("release", cases=[ids[2]]) == {"released": 1}
    assert listed(state="leased") == []
    assert world.client.get(f"/api/cases/{ids[1]}/history").json()["tags"] == ["night"]


def test_what_a_role_may_not_do_is_refused(world: World):
    (case,) = fill(world.store, 1, model="letters")
    act = world.post("decisions", key="k", decisions=[{"case": case, "edition": 0, "verdict": "correct"}])["act"]
    world.name, world.role = "bob", Role.REVIEWER
    assert "operator" in world.post(f"acts/{act}/undo", 403, key="u")["error"]
    world.role = Role.VIEWER
    assert "reviewer" in world.post("lease", 403)["error"]
    assert world.client.get("/api/review/acts").status_code == 200
    world.role = Role.OPERATOR
    assert world.post(f"acts/{act}/undo", key="u")["changed"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("decisions", {"key": "k", "decisions": []}, 400, "decisions"),
        ("decisions", {"key": "k", "decisions": [{"case": "0" * 16, "edition": 0, "verdict": "label"}]}, 400, "label"),
        ("bulk/preview", {"selection": {}, "verdict": "correct"}, 400, "exactly one"),
        ("bulk/preview", {"selection": {"slice": "0" * 12}, "verdict": "correct"}, 404, "slice"),
        ("bulk/preview", {"selection": {"like": "0" * 16}, "verdict": "correct"}, 404, "case"),
        ("acts/99/undo", {"key": "k"}, 404, "act"),
        ("tags", {"key": "k", "selection": {"cases": ["0" * 16]}, "add": ["a,b"]}, 400, "commas"),
        ("lease", {"count": 51}, 400, "count"),
        ("lease", {"place": 1}, 400, "place"),
    ],
)
def test_what_is_asked_wrongly_is_refused_in_words(world: World, path: str, body: Any, status: int, words: str):
    assert words in world.post(path, status, **body)["error"]
