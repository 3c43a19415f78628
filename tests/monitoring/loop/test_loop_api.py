"""The loop over HTTP: overview, turns, events, decisions, and what people may ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from export.contracts.training import EventKind, TrainingEvent
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.loop.contracts import Stage
from monitoring.reports import ReportOptions, ReportService
from tests.support.console_server import client
from tests.support.console_store import StillMonitor
from tests.support.loop_world import LoopWorld, loop_world


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LoopWorld, httpx.Client]]:
    folder = tmp_path_factory.mktemp("loop")
    world = loop_world(folder)
    options = ReportOptions(folder=folder / "reports")
    with closing(world.store), closing(ReportService(options, frames=lambda asked: None)) as reports:  # type: ignore[arg-type]
        app = build_console(
            world.store,
            world.catalogue,
            StillMonitor(),
            list,
            ConsoleOptions(),
            reports=reports,
            loop=world.driver.options,
            workshop=world.workshop,
        )
        with client(app) as made:
            yield world, made


def test_a_turn_from_the_dry_run_to_the_cancel(served: tuple[LoopWorld, httpx.Client]) -> None:
    world, http = served
    (model,) = http.get("/api/loop").json()["models"]
    assert (model["champion"], model["trainer"], model["turn"]) == ("2", "small", None)
    assert model["verdict"]["words"] == "wait: no alarm on the error rate is open"

    dry = http.post("/api/loop/retrain", json={"model": "digits", "dry_run": True}).json()
    assert (dry["decision"], dry["training"], dry["version"], dry["snapshot"]["labels"]) == ("retrain", None, "3", 0)
    assert dry["policy"]["decision"] == "wait"
    assert http.get("/api/loop/trainings").json()["trainings"] == []

    begun = http.post("/api/loop/retrain", json={"model": "digits", "reason": "new camera"}).json()["training"]
    assert http.post("/api/loop/retrain", json={"model": "digits"}).status_code == 409
    one = world.until(begun, Stage.TRAINING)
    world.jobs.said[one.id] = [TrainingEvent(kind=EventKind.METRIC, name="loss", value=0.25, step=1)]
    world.driver.turn()
    detail = http.get(f"/api/loop/trainings/{begun}").json()
    assert (detail["training"]["stage"], detail["training"]["metrics"]) == ("training", {"loss": 0.25})
    assert detail["verdict"]["reasons"][0]["name"] == "by_hand"
    events = http.get(f"/api/loop/trainings/{begun}/events").json()
    assert [(e["kind"], e["name"]) for e in events["events"]] == [
        ("stage", "requested"),
        ("stage", "training"),
        ("metric", "loss"),
    ]
    assert http.get(f"/api/loop/trainings/{begun}/events?since={events['next']}").json()["events"] == []
    assert http.get(f"/api/loop/trainings/{begun}/log").json()["text"] == f"log of {begun}\n"
    assert http.get("/api/loop/decisions").json()["decisions"][0]["training"] == begun

    assert http.post(f"/api/loop/trainings/{begun}/reject", json={}).status_code == 400
    assert http.post(f"/api/loop/trainings/{begun}/cancel", json={"reason": "no"}).json()["cancel_by"]
    world.until(begun, Stage.CANCELLED)
    assert http.post(f"/api/loop/trainings/{begun}/cancel", json={}).status_code == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [({"model": "birds"}, 404), ({"model": "../x"}, 400), ({"model": "digits", "no": 1}, 400)],
)
def test_what_cannot_be_trained_is_refused(
    served: tuple[LoopWorld, httpx.Client], body: dict[str, object], status: int
) -> None:
    assert served[1].post("/api/loop/retrain", json=body).status_code == status


@pytest.mark.parametrize("path", ["", "/events", "/log"])
def test_a_training_that_is_none_is_not_found(served: tuple[LoopWorld, httpx.Client], path: str) -> None:
    assert served[1].get(f"/api/loop/trainings/000000000000{path}").status_code == 404


def test_the_pages_are_drawn(served: tuple[LoopWorld, httpx.Client], tmp_path: Path) -> None:
    world, http = served
    begun = world.begin().id
    for path in ("/loop", f"/loop/{begun}"):
        page = http.get(path)
        assert page.status_code == 200, page.text
        assert "digits" in page.text
        assert http.get(f"{path}?format=json").json()["shell"]["section"] == "loop"
