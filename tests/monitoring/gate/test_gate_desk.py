"""Gates in the database, over the API, and on their pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.gate.job import run_gate
from export.contracts.errors import NotFound
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.gate.contracts import Outcome, SetKind
from monitoring.gate.job import GateResult
from monitoring.gate.rows import look, newest, one_gate, record_gate, uses
from monitoring.loop.contracts import Workshop
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support import gate_world as world
from tests.support.console_server import client as connected
from tests.support.console_store import MemoryCatalogue, StillMonitor, manifest


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GateResult]:
    """The loop's folder with the files of a gate that was really held, and its result."""
    folder = tmp_path_factory.mktemp("loop")
    champion, better = world.package(folder / "p", "1", 60), world.package(folder / "p", "2", 700)
    audited = world.live(folder / "s", 400)
    request = world.request(
        folder / "trainings" / "t1" / "gate",
        champion,
        better.dir,
        [("audited", SetKind.AUDITED, audited.folder)],
        training_id="t1",
    )
    return folder, run_gate(request, start=world.InThisProcess)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    yield made
    made.close()


@pytest.fixture
def client(tmp_path: Path, store: Store, held: tuple[Path, GateResult]) -> Iterator[httpx.Client]:
    workshop = Workshop(jobs=None, candidates=None, plans=None, folder=held[0], datasets=held[0])  # type: ignore[arg-type]
    reports = ReportService(ReportOptions(folder=tmp_path / "reports"), lambda *a, **k: None)  # type: ignore[arg-type,return-value]
    catalogue = MemoryCatalogue(manifests=(manifest(version="1"),), champion="1")
    app = build_console(store, catalogue, StillMonitor(), list, ConsoleOptions(), reports=reports, workshop=workshop)
    with connected(app) as made:
        yield made
    reports.close()


def record(store: Store, result: GateResult) -> None:
    with store.write() as connection:
        record_gate(connection, result, now_ns=1_700_000_000_000_000_000)


def test_a_gate_is_written_down_once_and_its_looks_are_counted(store: Store, held: tuple[Path, GateResult]) -> None:
    result = held[1]
    record(store, result)
    record(store, result)
    with store.read() as connection:
        row = look(connection, "gate-1")
        assert uses(connection, "digits") == {"audited": 1}
        assert uses(connection, "others") == {}
        assert look(connection, "gate-2") is None
    assert row is not None
    assert (row.outcome, row.words, row.training_id) == (Outcome.PASSED, result.words, "t1")
    assert row.result.checks == result.checks
    assert row.negative_flips == len(result.negative_flips) > 0
    assert row.result.negative_flips == ()
    assert [g.id for g in newest(store, "digits")] == ["gate-1"]
    assert newest(store, "others") == []
    with pytest.raises(NotFound):
        one_gate(store, "gate-2")


def test_the_api_shows_gates_their_report_and_their_files(
    store: Store, client: httpx.Client, held: tuple[Path, GateResult]
) -> None:
    assert client.get("/api/gates").json() == {"gates": []}
    record(store, held[1])
    (listed,) = client.get("/api/gates", params={"model": "digits"}).json()["gates"]
    assert (listed["outcome"], listed["candidate"], listed["training"]) == ("passed", "2", "t1")
    detail = client.get("/api/gates/gate-1").json()
    assert {c["subject"] for c in detail["checks"]} >= {"package", "inputs", "audited", "size_mib"}
    report = client.get("/api/gates/gate-1/report")
    assert report.headers["content-type"].startswith("text/html")
    assert "sandbox" in report.headers["content-security-policy"]
    assert report.text.startswith("<!doctype html>")
    junit = client.get("/api/gates/gate-1/files/junit.xml")
    assert "attachment" in junit.headers["content-disposition"]
    assert client.get("/api/gates/gate-1/files/request.json").status_code == 400
    assert client.get("/api/gates/gate-9").status_code == 404
    assert client.get("/api/gates/gate-9/report").status_code == 404


def test_the_plan_says_what_the_labels_there_are_can_tell(client: httpx.Client) -> None:
    plan = client.get("/api/gates/plan", params={"model": "digits"}).json()
    assert plan["labels"] == 0
    assert "labels would do" in plan["words"]
    assert [s["effect"] for s in plan["sights"]] == sorted(s["effect"] for s in plan["sights"])


def test_the_pages_say_what_was_asked_and_how_it_came_out(
    store: Store, client: httpx.Client, held: tuple[Path, GateResult]
) -> None:
    assert "None yet" in client.get("/gates").text
    record(store, held[1])
    assert 'href="/gates/gate-1"' in client.get("/gates").text
    page = client.get("/gates/gate-1").text
    assert "better by" in page
    assert "/api/gates/gate-1/report" in page
    twin = client.get("/gates/gate-1", params={"format": "json"}).json()
    assert twin["line"]["outcome"] == "passed"
    assert client.get("/gates/none").status_code == 404
