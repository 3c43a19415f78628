"""The JSON API over a filled store."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions, IngestHealth
from monitoring.keys import case_id
from monitoring.report_frames import Column, finite_frame
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client as connected
from tests.support.console_store import START_S, Day, MemoryCatalogue, StillMonitor, complete, fill, manifest

START = "2026-02-25T06:14:00.000000Z"


@dataclass(kw_only=True)
class World:
    store: Store
    day: Day
    app: FastAPI
    client: httpx.Client
    monitor: StillMonitor
    catalogue: MemoryCatalogue
    reports: ReportService

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        response = self.client.get(path, params=query)
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("api")
    store = Store(f"sqlite:///{root}/monitor.db")
    day = fill(store)
    reports = ReportService(ReportOptions(folder=root / "reports"), frames)
    monitor = StillMonitor()
    catalogue = MemoryCatalogue(manifests=(manifest(version="1"), manifest(version="2"), manifest("fresh", "1")))
    app = build_console(
        store, catalogue, monitor, lambda: ["127.0.0.1:8000", "127.0.0.1:8001"], ConsoleOptions(), reports=reports
    )
    with connected(app) as client:
        yield World(store=store, day=day, app=app, client=client, monitor=monitor, catalogue=catalogue, reports=reports)
    reports.close()
    store.close()


def frames(request: Any, most: int) -> Any:
    rng = np.random.default_rng(2)
    columns = (Column(name="a"), Column(name="b"))
    return tuple(finite_frame(columns, rng.normal(at, 1, size=(200, 2)), 200) for at in (0.0, 3.0))


def test_health_says_ready_or_why_not(world: World) -> None:
    assert world.get("/api/health")["ready"] is True
    assert world.get("/api/health/ready")["ready"] is True
    world.monitor.state = IngestHealth(heartbeat_age_s=400.0, lag_s=300.0, lag_bytes=77)
    try:
        assert world.get("/api/health/ready", status=503)["reasons"] == [
            "the monitor's loop has not come round for 400 s",
            "the monitor is 300 s behind the record log",
        ]
        assert world.get("/api/health")["lag_bytes"] == 77
        assert world.get("/api/health/live") == {"live": True}
    finally:
        world.monitor.state = StillMonitor().state


def test_models_join_registry_and_log(world: World) -> None:
    digits, fresh = world.get("/api/models")["models"]
    assert digits["name"] == "digits"
    assert digits["plan"]["champion"] == "2"
    versions = {v["version"]: v for v in digits["versions"]}
    windows = world.get("/api/models/digits/windows", version="2", limit=5000)["windows"]
    quality = versions["2"]["quality"]
    assert quality["requests"] == sum(w["requests"] for w in windows) > 0
    labelled = sum(w["labelled"] for w in windows)
    right = sum(round(w["accuracy"] * w["labelled"]) for w in windows if w["accuracy"] is not None)
    assert quality["accuracy"] == pytest.approx(right / labelled)
    assert versions["2"]["cases"]["open"] > 0
    assert versions["1"]["cases"] == {}
    assert fresh["name"] == "fresh"
    assert fresh["versions"][0]["quality"]["accuracy"] is None
    assert fresh["versions"][0]["last_at"] is None
    assert world.get("/api/models/digits") == digits


def test_windows_come_oldest_first_within_the_range(world: World) -> None:
    first = world.get("/api/models/digits/windows", version="2", limit=5000)["windows"]
    assert [w["start"] for w in first] == sorted(w["start"] for w in first)
    assert first[0]["start"] == START
    part = world.get(
        "/api/models/digits/windows",
        version="2",
        **{"from": "2026-02-25T06:20:00Z", "to": "2026-02-25T07:25:00+01:00"},
    )["windows"]
    assert [w["start"][11:16] for w in part] == ["06:20", "06:21", "06:22", "06:23", "06:24"]
    assert len(world.get("/api/models/digits/windows", limit=7)["windows"]) == 7
    assert world.get("/api/models/digits/windows", limit=1)["windows"][0]["start"] > part[-1]["start"]


def test_undefined_is_null_and_not_zero(world: World) -> None:
    windows = world.get("/api/models/digits/windows", limit=5000)["windows"]
    assert any(w["accuracy"] is None and w["labelled"] == 0 for w in windows)
    signals = world.get("/api/models/digits/drift")["signals"]
    unknown = [s for s in signals if s["state"] == "not_enough_data"]
    assert unknown
    assert all(s["value"] is None and not s["exceeded"] for s in unknown)


def test_drift_is_of_the_newest_window_or_of_a_range(world: World) -> None:
    newest = world.get("/api/models/digits/drift", version="2")["signals"]
    assert len({s["start"] for s in newest}) == 1
    assert {s["scope"] for s in newest} == {"rolling"}
    assert all(s["threshold_source"] for s in newest)
    exceeded = world.get("/api/models/digits/drift", version="2", exceeded="true")["signals"]
    assert 0 < len(exceeded) < len(newest)
    ranged = world.get(
        "/api/models/digits/drift", version="2", scope="window", **{"from": START, "to": "2026-02-25T06:16:00Z"}
    )["signals"]
    assert {s["start"][11:16] for s in ranged} == {"06:14", "06:15"}


def walk(world: World, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = world.get("/api/cases", **query, **({"cursor": cursor} if cursor else {}))
        found += page["cases"]
        cursor = page["next"]
        if cursor is None:
            return found


@pytest.mark.parametrize("order", ["rank", "time"])
def test_pages_give_every_case_once_in_order(world: World, order: str) -> None:
    cases = walk(world, order=order, limit=9)
    ids = [c["id"] for c in cases]
    assert sorted(ids) == sorted(world.day.case_ids)
    if order == "time":
        assert [c["time"] for c in cases] == sorted((c["time"] for c in cases), reverse=True)
    else:
        known = [c["p_wrong"] for c in cases if c["p_wrong"] is not None]
        assert known == pytest.approx(sorted(known, reverse=True), abs=0.011)  # the factory rounds ranks, for ties


def test_paging_is_stable_when_cases_arrive_meanwhile(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.db")
    day = fill(store, cases=60)
    reports = ReportService(ReportOptions(folder=tmp_path / "r"), frames)
    app = build_console(store, MemoryCatalogue(), StillMonitor(), list, ConsoleOptions(), reports=reports)
    with connected(app) as client:
        seen, arrivals = walk_while_cases_arrive(client, store)
    reports.close()
    store.close()
    assert arrivals >= 9
    assert len(seen) == len(set(seen))
    assert set(day.case_ids) <= set(seen)


def walk_while_cases_arrive(client: httpx.Client, store: Store) -> tuple[list[str], int]:
    seen: list[str] = []
    cursor = None
    arrivals = 0
    while True:
        page = client.get("/api/cases", params={"limit": 7} | ({"cursor": cursor} if cursor else {})).json()
        seen += [c["id"] for c in page["cases"]]
        cursor = page["next"]
        if cursor is None:
            return seen, arrivals
        with store.write() as connection:
            for rank in (0.999, 0.5, 0.001):
                arrivals += 1
                name = f"late-{arrivals}"
                row = {
                    "id": case_id("digits", name, arrivals), "record_id": name, "model": "digits", "version": "2",
                    "variant": "champion", "time_ns": START_S * 10**9, "state": "open", "flags": 1, "rank": rank,
                    "outcome": "ok", "rows": 1, "input_state": "not_recorded",
                }  # fmt: skip
                connection.execute(t.cases.insert(), complete(t.cases, row))


def test_filters_narrow_the_list(world: World) -> None:
    everything = walk(world)
    for query, holds in (
        ({"state": "open"}, lambda c: c["state"] == "open"),
        ({"reason": "audit"}, lambda c: "audit" in c["reasons"]),
        ({"correct": "false"}, lambda c: c["correct"] is False),
        ({"min_score": 0.8}, lambda c: (c["p_wrong"] or 0) >= 0.8),
        ({"version": "1"}, lambda c: False),
        ({"from": "2026-02-25T07:00:00Z"}, lambda c: c["time"] >= "2026-02-25T07:00"),
    ):
        expected = {c["id"] for c in everything if holds(c)}
        assert {c["id"] for c in walk(world, **query)} == expected
        assert len(expected) < len(everything)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/cases?limit=0", "limit"),
        ("/api/cases?limit=many", "limit"),
        ("/api/cases?order=size", "order"),
        ("/api/cases?min_score=1.5", "min_score"),
        ("/api/cases?min_score=nan", "min_score"),
        ("/api/cases?model=../x", "model"),
        ("/api/cases?from=2026-01-01", "from"),
        ("/api/cases?from=2026-01-01T00:00:00", "from"),
        ("/api/cases?to=9999-01-01T00:00:00Z", "to"),
        ("/api/cases?cursor=bm90", "cursor"),
        ("/api/cases?cursor=WyJyYW5rIiwgMWU5OTksICJ4Il0%3D", "cursor"),
        ("/api/cases?lmit=3", "lmit"),
        ("/api/cases?limit=3&limit=4", "limit"),
        ("/api/accounting?x=1", "x"),
        ("/api/models/digits/windows?version=%00", "version"),
        ("/api/cases/nothex", "case"),
        ("/api/models/digits/drift?scope=week", "scope"),
    ],
)
def test_a_wrong_parameter_is_named(world: World, path: str, names: str) -> None:
    response = world.client.get(path)
    assert response.status_code == 400, response.text[:200]
    assert list(response.json()) == ["error"]
    assert names in response.json()["error"]


@pytest.mark.parametrize(
    "path",
    ["/api/models/nope", "/api/models/digits/windows?version=9", "/api/cases/0123456789abcdef", "/api/records/nope",
     "/api/reports/01234567890123456789", "/api/nope", "/api/reports/01234567890123456789.html"],
)  # fmt: skip
def test_what_does_not_exist_is_404_with_words(world: World, path: str) -> None:
    response = world.client.get(path)
    assert response.status_code == 404
    assert set(response.json()) == {"error"}


def test_a_case_leads_to_its_record_and_back(world: World) -> None:
    for identity in world.day.case_ids[:12]:
        case = world.get(f"/api/cases/{identity}")
        records = world.get(f"/api/records/{case['record_id']}")["records"]
        assert [r["case"] for r in records] == [identity]
        assert case["class_names"][0] == "zero"
        if case["outcome"] == "ok":
            assert sum(case["probabilities"]) == pytest.approx(1, abs=1e-4)
            assert case["tensors"][0]["shape"] == [1, 1, 8, 8]
        else:
            assert case["probabilities"] is None
            assert case["input"] is None
        assert bool(case["feedback"]) == (case["label"] is not None)


def test_the_picture_is_the_recorded_tensor(world: World) -> None:
    case = next(c for c in walk(world) if c["picture"])
    raw = world.client.get(case["input"])
    assert raw.headers["content-disposition"].startswith("attachment")
    assert raw.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in raw.headers["content-security-policy"]
    values = np.frombuffer(raw.content, "<f4").reshape(8, 8)
    picture = world.client.get(case["picture"], params={"side": 80})
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["x-content-type-options"] == "nosniff"
    pixels = np.asarray(Image.open(io.BytesIO(picture.content)))
    assert pixels.shape == (80, 80)
    np.testing.assert_array_equal(pixels[5::10, 5::10], np.rint(values / 16 * 255))


def test_an_input_that_was_not_kept_is_404(world: World) -> None:
    failed = next(c for c in walk(world) if c["outcome"] == "failed")
    assert failed["picture"] is None
    for name in ("input", "input.png"):
        assert "not kept" in world.get(f"/api/cases/{failed['id']}/{name}", status=404)["error"]


def test_accounting_balances(world: World) -> None:
    accounting = world.get("/api/accounting")
    assert accounting["balanced"] is True
    (line,) = accounting["lines"]
    assert line["requests"] == line["captured"] + line["sampled_out"] + sum(line["dropped"].values()) + line["lost"]


def test_prometheus_finds_its_targets_and_metrics_parse(world: World) -> None:
    groups = world.get("/sd/prometheus")
    assert [g["targets"] for g in groups] == [["127.0.0.1:8000"], ["127.0.0.1:8001"]]
    assert all(isinstance(v, str) for g in groups for v in g["labels"].values())
    assert world.client.get("/metrics").headers["content-type"].startswith("text/plain; version=")
    modern = world.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")


def test_a_report_is_started_once_and_read_back(world: World) -> None:
    body = {"model": "digits", "from": START, "to": "2026-02-25T07:00:00Z"}
    started = world.client.post("/api/reports", json=body)
    assert started.status_code == 202, started.text
    report = started.json()
    assert report["version"] == "2"
    assert report["html"] is None
    again = world.client.post("/api/reports", json=body | {"version": "2"}).json()
    assert again["id"] == report["id"]
    world.reports.wait(report["id"], 120)
    done = world.get(f"/api/reports/{report['id']}")
    assert done["state"] == "done", done
    assert [c["drifted"] for c in done["columns"]] == [True, True]
    assert [r["id"] for r in world.get("/api/reports", model="digits")["reports"]] == [report["id"]]
    assert world.get("/api/reports", model="fresh")["reports"] == []
    html = world.client.get(done["html"])
    assert html.headers["content-type"].startswith("text/html")
    assert "sandbox" in html.headers["content-security-policy"]
    assert "allow-same-origin" not in html.headers["content-security-policy"]
    assert "metrics" in world.get(done["json"])


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"model": "digits", "from": START}, "to"),
        ({"model": "digits", "from": START, "to": START}, "from"),
        ({"model": "digits", "from": START, "to": "later"}, "to"),
        ({"model": "digits", "from": START, "to": "2026-02-25T07:00:00Z", "method": "x"}, "method"),
        ([], "body"),
    ],
)
def test_a_wrong_report_request_is_named(world: World, body: Any, names: str) -> None:
    response = world.client.post("/api/reports", json=body)
    assert response.status_code == 400
    assert names in response.json()["error"]


def test_an_unexpected_failure_shows_a_fixed_text_and_the_headers(tmp_path: Path) -> None:
    class Broken(StillMonitor):
        def health(self) -> IngestHealth:
            raise RuntimeError("/secret/place at 10.0.0.1")

    store = Store(f"sqlite:///{tmp_path}/m.db")
    reports = ReportService(ReportOptions(folder=tmp_path / "r"), frames)
    app = build_console(store, MemoryCatalogue(), Broken(), list, ConsoleOptions(), reports=reports)
    with connected(app) as client:
        response = client.get("/api/health")
        page = client.get("/", headers={"accept": "text/html"})
    reports.close()
    store.close()
    assert response.status_code == 500
    assert response.json() == {"error": "the monitor failed to answer: its log says why"}
    assert response.headers["x-content-type-options"] == "nosniff"
    assert page.status_code == 500
    assert "secret" not in page.text
