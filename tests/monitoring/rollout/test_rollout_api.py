"""Roll-outs over the API, and their pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.reports import ReportOptions, ReportService
from tests.support.console_server import client as connected
from tests.support.console_store import MemoryCatalogue, StillMonitor, manifest
from tests.support.rollout_world import Character, World


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[World, httpx.Client]]:
    """A world with traffic, and a console on it."""
    world = World(folder=tmp_path)
    catalogue = MemoryCatalogue(manifests=(manifest(version="1"), manifest(version="2")), champion="1")
    reports = ReportService(ReportOptions(folder=tmp_path / "reports"), lambda *a, **k: None)  # type: ignore[arg-type,return-value]
    app = build_console(
        world.store,
        catalogue,
        StillMonitor(),
        list,
        ConsoleOptions(),
        reports=reports,
        clock=lambda: datetime.fromtimestamp(world.wall(), UTC),
    )
    with connected(app) as client:
        yield world, client
    reports.close()


def test_begin_steer_and_read_one(desk: tuple[World, httpx.Client]) -> None:
    world, client = desk
    asked = {"model": "digits", "version": "2", "disagreement": 0.05}
    made = client.post("/api/rollouts", json=asked)
    assert made.status_code == 201, made.text
    identity = made.json()["id"]
    assert client.post("/api/rollouts", json=asked).status_code == 409
    assert client.post("/api/rollouts", json={"model": "digits", "version": "9"}).status_code == 400
    for _ in range(3):
        world.second()
    found = client.get(f"/api/rollouts/{identity}").json()
    assert (found["state"], found["step_words"], found["requests"]) == ("running", "shadow", 600 - 200)
    assert [step["state"] for step in found["steps"]] == ["running", "waiting", "waiting"]
    errors = next(r for r in found["readings"] if r["metric"] == "errors")
    assert errors["against"] == 0
    assert errors["proved"] == 1
    assert client.post(f"/api/rollouts/{identity}/pause", json={"note": "lunch"}).json()["asked"] == "pause"
    world.turn()
    assert client.get(f"/api/rollouts/{identity}").json()["state"] == "paused"
    assert client.post(f"/api/rollouts/{identity}/resume", json={}).status_code == 200
    world.turn()
    assert client.post(f"/api/rollouts/{identity}/promote", json={}).status_code == 200
    world.turn()
    assert world.plans.now.champion == "2"
    assert client.post(f"/api/rollouts/{identity}/abort", json={}).status_code == 200
    world.turn()
    assert world.plans.now.champion == "1"
    assert client.post(f"/api/rollouts/{identity}/abort", json={}).status_code == 409
    assert client.get("/api/rollouts/0123456789abcdef").status_code == 404
    (listed,) = client.get("/api/rollouts", params={"model": "digits"}).json()["rollouts"]
    assert (listed["state"], listed["id"]) == ("aborted", identity)


def test_the_pages_say_where_it_stands_and_why(desk: tuple[World, httpx.Client]) -> None:
    world, client = desk
    assert "None yet" in client.get("/rollouts").text
    sent = client.post("/rollouts", data={"what": "digits 2"}, headers={"Origin": str(client.base_url)})
    assert sent.status_code == 303, sent.text
    page = sent.headers["location"]
    world.characters["2"] = Character(errors=0.3)
    world.second()
    text = client.get(page).text
    assert "it begins" in text
    assert "Abort" in text
    world.run(page.rsplit("/", 1)[1], 20)
    text = client.get(page).text
    assert "rolled back" in text
    assert "errors: " in text
    assert "Abort" not in text
    plain = client.get(page, params={"format": "json"}).json()
    assert plain["line"]["state"] == "rolled back"
    assert plain["meters"][0]["tone"] == "bad"
    assert "rolled back" in client.get("/rollouts").text
