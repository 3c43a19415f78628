"""Pictures of every page for the documentation: `HARDCASE_DOCS_IMAGES=docs/images pytest tests/browser/…images.py`.

The console stands over a real log: a monitor reads a day with a shift in it, finds its slices, and people have done
something. The pages are those of the routes, so a new page is in the pictures without a change here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Browser, Page

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.monitor import Monitor
from monitoring.options import SliceSearchOptions
from monitoring.refetch import Refetch
from monitoring.report_plan import plan_reports
from monitoring.report_source import frame_source
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support import monitor_world
from tests.support.console_pages import addresses
from tests.support.console_server import listening
from tests.support.dataset_world import dataset_console, dataset_world
from tests.support.explore_world import explored
from tests.support.loop_pages import MLFLOW, NS, START, whole_turn

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "HARDCASE_DOCS_IMAGES" not in os.environ, reason="set HARDCASE_DOCS_IMAGES to the folder of the pictures"
    ),
]

SECONDS, SHIFT_S, RATE = 1500, 1000, 10
TWICE = ("overview", "model", "cases", "case", "review", "slices", "slice", "loop", "lineage")  # in both themes
NAMES = {"/": "overview"}
ONE_OF = {"slices": "slice", "cases": "case", "batches": "batch", "alarms": "alarm", "models": "model"}
ONE_OF |= {"reports": "report"}
EXPLORED = ("model-compare", "model-try")  # over a service with two versions
SKIPPED = ("/review/classes/{model}", "/review/sheets/{case}", "/selections/{selection_id}")  # no pages of their own


def test_take_the_pictures(browser: Browser, tmp_path: Path) -> None:
    target = Path(os.environ["HARDCASE_DOCS_IMAGES"])
    target.mkdir(parents=True, exist_ok=True)
    right = monitor_world.day(tmp_path / "records", seconds=SECONDS, rate=RATE, shift_from=SHIFT_S, replicas=1)
    options = replace(monitor_world.options(tmp_path), slices=SliceSearchOptions(every_windows=2))
    catalogue = monitor_world.catalogue(tmp_path / "reference")
    store = Store(options.database_url)
    monitor = Monitor(options, store, catalogue)
    reports = ReportService(ReportOptions(folder=tmp_path / "reports"), frame_source(store, catalogue))
    monitor.start()
    _until(lambda: sum(a.ingested for a in store.accounting()) >= len(right) and not monitor.loop.progress.signals_due)
    app = build_console(
        store,
        catalogue,
        monitor,
        list,
        ConsoleOptions(),
        reports=reports,
        refetch=Refetch(options, store),
        searching=options,
    )
    taken = []
    with listening(app) as address, httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        _until(lambda: bool(client.get("/api/slices?current=true").json()["slices"]))
        paths = _addresses(app, client, _work(client))
        for name in EXPLORED:
            del paths[name]  # there is one version and no service here
        while plan_reports(store, options, reports.start):
            pass
        _until(lambda: all(r["state"] not in ("queued", "running") for r in _reports(client)))
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1280, "height": 860},
                color_scheme=scheme,  # type: ignore[arg-type]  # a literal
                device_scale_factor=1.25,
            )
            page = context.new_page()
            for name, path in paths.items():
                if scheme == "light" or name in TWICE:
                    taken.append(_picture(page, address + path, target, name, scheme))
            if scheme == "light":
                for cause in ("asked", "alarm"):
                    made = next(r for r in _reports(client) if r["cause"] == cause and r["kind"] == "drift")
                    page.goto(f"{address}/reports/{made['id']}")
                    whole = page.get_by_role("link", name="Open the whole report").get_attribute("href")
                    taken.append(_picture(page, f"{address}{whole}", target, f"evidently-{cause}", scheme))
            context.close()
    assert monitor.stop()
    reports.close()
    store.close()
    assert all(path.stat().st_size > 8_000 for path in taken)


def test_take_the_pictures_of_the_loop(browser: Browser, tmp_path: Path) -> None:
    """Of a model that is just being rolled out: over tables, because a whole turn takes minutes."""
    target = Path(os.environ["HARDCASE_DOCS_IMAGES"])
    target.mkdir(parents=True, exist_ok=True)
    world = dataset_world(tmp_path, cases=130)
    first = world.build(holdout_audit=0.0, name="October", now_ns=START - 86_400 * NS)
    world.set_case(world.labelled()[0], label='"nine"')
    second = world.build(holdout_audit=0.0, name="November", now_ns=START)
    world.trained_on("3", second.digest, parent="2")
    turn = whole_turn(world.store, "3", champion="2", snapshot=second.id, digest=second.digest, rows=second.rows)
    taken = []
    with dataset_console(world, mlflow=MLFLOW) as client:
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1280, "height": 860},
                color_scheme=scheme,  # type: ignore[arg-type]  # a literal
                device_scale_factor=1.25,
            )
            page, address = context.new_page(), str(client.base_url).rstrip("/")
            for name, path in {
                "loop": "/loop",
                "loop-turn": f"/loop/{turn.training}",
                "gate": f"/gates/{turn.gate}",
                "rollout": f"/rollouts/{turn.rollout}",
                "dataset": f"/datasets/{second.id}",
                "dataset-diff": f"/datasets/{first.id}/diff/{second.id}",
                "lineage": "/lineage/version/digits?version=3",
            }.items():
                if scheme == "light" or name in TWICE:
                    taken.append(_picture(page, address + path, target, name, scheme))
            context.close()
    world.store.close()
    assert all(path.stat().st_size > 8_000 for path in taken)


def test_take_the_pictures_of_the_explorer(browser: Browser, tmp_path: Path) -> None:
    """Of a service that answers with one version while another one shadows it."""
    target = Path(os.environ["HARDCASE_DOCS_IMAGES"])
    target.mkdir(parents=True, exist_ok=True)
    with explored(tmp_path) as world:
        context = browser.new_context(viewport={"width": 1280, "height": 860}, device_scale_factor=1.25)
        page = context.new_page()
        for name in EXPLORED:
            path = f"{world.address}/models/digits/{name.removeprefix('model-')}"
            assert _picture(page, path, target, name, "light").stat().st_size > 8_000
        context.close()


@dataclass(frozen=True, kw_only=True)
class Worked:
    """What was made for the pictures."""

    slice_id: str
    batch: str
    case: str
    report: str


def _work(client: httpx.Client) -> Worked:
    """What people did: a slice in a batch, one fixed, an alert, decisions; and a report that is done."""
    found = [s["id"] for s in client.get("/api/slices").json()["slices"]]
    batch = client.post(f"/api/slices/{found[0]}/batch", json={"limit": 40}).json()["id"]
    client.post(f"/api/slices/{found[0]}/test-set", json={"name": "Turned digits, November"})
    acts = [{"act": "own", "owner": "bea"}, {"act": "watch", "limit": 0.3}]
    acts += [{"act": "comment", "text": "All of these are turned by 90 degrees: the new scanner?"}]
    for act in acts:
        client.post(f"/api/slices/{found[0]}/acts", json=act)
    for other in found[3:4]:
        client.post(f"/api/slices/{other}/acts", json={"act": "acknowledge"})
    cases = client.get(f"/api/batches/{batch}/cases").json()["cases"][:12]
    leased = [c for c in client.get("/api/cases?limit=500").json()["cases"] if c["id"] in cases]
    decisions = [{"case": c["id"], "edition": c.get("edition", 0), "verdict": "dismiss"} for c in leased]
    client.post("/api/review/decisions", json={"key": "pictures", "decisions": decisions})
    asked = {"model": "digits", "from": "1970-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    report = client.post("/api/reports", json=asked).json().get("id", "")
    if report:
        _until(lambda: client.get(f"/api/reports/{report}").json()["state"] not in ("queued", "running"))
    wrong = client.get("/api/cases?correct=false&limit=20").json()["cases"]
    return Worked(slice_id=found[0], batch=batch, case=wrong[3]["id"], report=report)


def _reports(client: httpx.Client) -> list[dict[str, str]]:
    found: list[dict[str, str]] = client.get("/api/reports").json()["reports"]
    return found


def _addresses(app: FastAPI, client: httpx.Client, made: Worked) -> dict[str, str]:
    """{name of the picture: address}."""
    values = {"model": "digits", "slice_id": made.slice_id, "batch": made.batch, "case": made.case}
    values |= {"report": made.report} if made.report else {}
    alarms = client.get("/api/alarms").json()["alarms"]
    values |= {"alarm": alarms[0]["id"]} if alarms else {}
    found, _ = addresses(app, values)
    queries = {"/cases": "?state=open&order=time", "/review": ""}
    return {
        NAMES.get(path, _name(path)): address + queries.get(path, "")
        for path, address in found.items()
        if path not in SKIPPED
    }


def _name(path: str) -> str:
    """`/slices/{slice_id}` → slice, `/models/{model}/drift` → model-drift, `/slices` → slices."""
    parts = path.strip("/").split("/")
    words = [ONE_OF.get(p, p) if q.startswith("{") else p for p, q in zip(parts, [*parts[1:], ""], strict=True)]
    return "-".join(word for word in words if not word.startswith("{"))


def _picture(page: Page, address: str, target: Path, name: str, scheme: str) -> Path:
    page.goto(address)
    page.wait_for_load_state("networkidle")
    path = target / f"console-{name}{'' if scheme == 'light' else '-dark'}.png"
    page.screenshot(path=path, full_page=name in ("model", "slice"))
    with Image.open(path) as picture:  # a third of the bytes, and nobody sees the difference
        picture.convert("RGB").quantize(256).save(path, optimize=True)
    return path


def _until(done: Callable[[], bool], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.3)
