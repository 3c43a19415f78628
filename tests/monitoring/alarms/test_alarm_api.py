"""Alarms over HTTP: lists, silences with their record, pages, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions, IngestHealth
from monitoring.cycle import make_loop, run_cycle
from monitoring.metrics_alarms import alarm_metrics
from monitoring.options import CaseOptions
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.console_server import client as serve

NOW = datetime(2026, 2, 25, 7, tzinfo=UTC)


class Healthy:
    def health(self) -> IngestHealth:
        return IngestHealth(heartbeat_age_s=0.0)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Store]]:
    folder: Path = tmp_path_factory.mktemp("alarms")
    w.day(folder / "records", seconds=60, rate=40, shift_from=30, replicas=1)
    options = dataclasses.replace(w.options(folder), window_s=10, cases=CaseOptions(audit_rate=1.0))
    store, catalogue = Store(options.database_url), w.catalogue(folder / "reference")
    loop = make_loop(options, store, catalogue)
    while run_cycle(loop):
        pass
    loop.roster.finish(loop)
    reports = ReportService(ReportOptions(folder=folder / "reports"), lambda request: None)  # type: ignore[arg-type, return-value]
    app = build_console(store, catalogue, Healthy(), lambda: [], ConsoleOptions(), reports=reports, clock=lambda: NOW)
    with serve(app) as http:
        yield http, store
    reports.close()
    store.close()


def test_an_open_alarm_leads_to_its_failing_inputs(console: tuple[httpx.Client, Store]) -> None:
    http, _ = console
    found = http.get("/api/alarms", params={"model": "digits"}).json()
    assert {(a["promise"], a["state"]) for a in found["alarms"]} == {("lifetime", "firing"), ("run_length", "firing")}
    assert found["watching"][0]["drift"]["harm"] == "harmful"
    page = http.get("/alarms", params={"model": "digits"}).text
    for alarm in found["alarms"]:
        assert alarm["page"] in page
        assert alarm["failing_inputs"].replace("&", "&amp;") in page
        detail = http.get(alarm["page"], params={"format": "json"}).json()
        assert detail["failing"]
        assert detail["panels"][0]["limit"] == 1.0
        assert all(card["correct"] is False for card in detail["failing"])
        cases = http.get(alarm["failing_inputs"] + "&format=json").json()["cases"]
        assert cases
        assert all(line["card"]["correct"] is False for line in cases)
    events = http.get("/api/alarm-events").json()["events"]
    assert http.get("/api/alarm-events", params={"after": events[0]["id"]}).json()["events"] == events[1:]


def test_a_silence_holds_back_the_page_and_stays_on_record(console: tuple[httpx.Client, Store]) -> None:
    http, store = console

    def held() -> dict[str, float]:
        samples = alarm_metrics(store, ["digits"], wall=NOW.timestamp)[1].samples
        return {s.labels["promise"]: s.value for s in samples}

    asked = {"model": "digits", "promise": "lifetime", "minutes": 30, "author": "Ada", "reason": "retraining"}
    made = http.post("/api/silences", json=asked)
    assert made.status_code == 201
    assert made.json()["holds"] is True
    assert held() == {"lifetime": 1.0, "run_length": 0.0}
    silenced = {a["promise"]: a["silenced"] for a in http.get("/api/alarms").json()["alarms"]}
    assert silenced == {"lifetime": True, "run_length": False}
    ended = http.post(f"/api/silences/{made.json()['id']}/end", json={"author": "Grace"}).json()
    assert (ended["holds"], ended["ended_by"]) == (False, "Grace")
    assert held() == {"lifetime": 0.0, "run_length": 0.0}
    again = http.post(f"/api/silences/{made.json()['id']}/end", json={"author": "Eve"}).json()
    assert again == ended, "who ended it first is remembered"
    form = {"model": "digits", "promise": "", "minutes": "5", "author": "Ada", "reason": "<b>why</b>"}
    answer = http.post("/silences", data=form, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code in (200, 303)
    page = http.get("/alarms").text
    assert "&lt;b&gt;why" in page
    assert "<b>why" not in page
    assert len(http.get("/api/silences").json()["silences"]) == 2


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"minutes": 30, "until": "2026-02-25T08:00:00Z"}, "minutes"),
        ({}, "minutes"),
        ({"until": (NOW - timedelta(hours=1)).isoformat()}, "until"),
        ({"minutes": 30, "author": " "}, "author"),
        ({"minutes": 30, "promise": "never"}, "promise"),
        ({"minutes": 30, "model": "nobody"}, "nobody"),
    ],
)
def test_a_silence_without_end_author_or_model_is_refused(
    console: tuple[httpx.Client, Store], body: dict[str, object], word: str
) -> None:
    asked = {"model": "digits", "author": "Ada", "reason": "why"} | body
    answer = console[0].post("/api/silences", json=asked)
    assert answer.status_code in (400, 404)
    assert word in answer.json()["error"]
