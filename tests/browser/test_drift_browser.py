"""The Drift page and Evidently's reports in a real browser: what moved is read, a report opens in its sandbox.

From a real log of real digits, read by the real loop; the reports come from the real worker process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page

from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.cycle import make_loop, run_cycle
from monitoring.report_plan import plan_reports
from monitoring.report_shelf import ReportKind, ReportRequest, ReportState
from monitoring.reports import ReportService
from monitoring.server import report_service
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.console_server import listening
from tests.support.console_store import StillMonitor

pytestmark = pytest.mark.browser
ALARM = "0123456789abcdef"


@dataclass(kw_only=True)
class World:
    address: str
    reports: ReportService
    store: Store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("drift")
    options, catalogue = w.options(folder, window_s=20), w.catalogue(folder / "reference")
    w.day(options.records_root, seconds=300, rate=20, shift_from=180)
    store = Store(options.database_url)
    loop = make_loop(options, store, catalogue)
    while run_cycle(loop):
        pass
    fire(store)
    reports = report_service(options, store, catalogue)
    plan_reports(store, options, reports.start)
    app = build_console(store, catalogue, StillMonitor(), list, ConsoleOptions(), reports=reports, drift=options.drift)
    with listening(app) as address:
        yield World(address=address, reports=reports, store=store)
    reports.close()
    store.close()


def fire(store: Store) -> None:
    """An alarm as the watch writes one, fired in the middle of the turned pictures."""
    at_ns = (w.START_S + 240) * w.SECOND
    about = {"model": "digits", "version": "1", "promise": "lifetime", "number": 1, "state": "firing"}
    alarm = about | {"id": ALARM, "from_ns": at_ns - 60 * w.SECOND, "fired_ns": at_ns, "changed_ns": at_ns}
    alarm |= {"limit": 0.1, "tolerance": 0.1, "threshold": 100.0, "evidence": 120.0, "labels": 50, "errors": 30.0}
    event = about | {"alarm_id": ALARM, "at_ns": at_ns, "evidence": 120.0, "text": "fired", "position": 50}
    with store.write() as connection:
        connection.execute(t.alarms.insert().values(**complete(t.alarms, alarm)))
        connection.execute(t.alarm_events.insert().values(**complete(t.alarm_events, event)))


def complete(table: sa.Table, given: dict[str, Any]) -> dict[str, Any]:
    empty = {
        c.name: [] if isinstance(c.type, sa.JSON) else c.type.python_type()
        for c in table.columns
        if not c.nullable and not c.primary_key
    }
    return empty | given


def watched(context: BrowserContext, complaints: list[str]) -> Page:
    page = context.new_page()
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    return page


def test_the_drift_page_says_what_moved_and_draws_it(browser: Browser, world: World) -> None:
    complaints: list[str] = []
    page = watched(browser.new_context(viewport={"width": 1280, "height": 900}), complaints)
    page.goto(f"{world.address}/models/digits?version=1")
    page.get_by_role("link", name="What moved, and since when").click()
    page.get_by_role("heading", name="What moved").first.wait_for()
    sentences = page.locator(".move.moved .move-sentence").all_inner_texts()
    assert any(s.startswith("Contrast fell: median ") and "→" in s for s in sentences), sentences
    assert any(s.startswith("The embeddings moved") for s in sentences)
    picture = page.locator(".move.moved svg.histogram").first
    assert picture.bounding_box()["height"] > 30  # type: ignore[index]
    assert picture.locator("rect.after").count() > 10
    assert page.get_by_role("heading", name="Since when").is_visible()
    assert page.get_by_role("rowheader", name="predicted class zero").count() == 1
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert complaints == []


@pytest.mark.slow
def test_a_report_of_a_window_and_one_of_an_alarm_open_in_their_sandbox(browser: Browser, world: World) -> None:
    start, end = (datetime.fromtimestamp(w.START_S + s, UTC) for s in (200, 260))
    asked = ReportRequest(model="digits", version="1", start=start, end=end, kind=ReportKind.DRIFT)
    report = world.reports.wait(world.reports.start(asked).id, 170)
    assert report.state is ReportState.DONE, report.error
    for made in world.reports.newest(alarm=ALARM):
        assert world.reports.wait(made.id, 170).state is ReportState.DONE
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = watched(context, complaints)
    page.goto(f"{world.address}/models/digits/drift?version=1")
    assert page.get_by_role("heading", name="What Evidently says").is_visible()
    assert page.get_by_role("heading", name="Evidently, report by report").is_visible()
    page.get_by_role("link", name="the whole report").click()
    opened(context, page, "Open the whole report", "x:mean")
    page.goto(f"{world.address}/alarms/{ALARM}")
    page.get_by_role("link", name="Drift report").click()
    assert page.get_by_text("made at an alarm").is_visible()
    opened(context, page, "Open the whole report", "x:sharpness")
    page.goto(f"{world.address}/alarms/{ALARM}")
    page.get_by_role("link", name="Quality report").click()
    assert page.get_by_text("labels may be a biased sample").is_visible()
    opened(context, page, "Open the whole report", "Accuracy")
    assert [c for c in complaints if "report" not in c] == []


def opened(context: BrowserContext, page: Page, link: str, content: str) -> None:
    """Follow a link to a report: it shows its content, has no origin, and asks nobody else for anything."""
    foreign: list[str] = []
    base = "/".join(page.url.split("/")[:3])
    context.on("request", lambda r: foreign.append(r.url) if not r.url.startswith((base, "data:", "blob:")) else None)
    with context.expect_page() as found:
        page.get_by_role("link", name=link).click()
    report = found.value
    report.wait_for_load_state("networkidle")
    report.get_by_text(content).first.wait_for(timeout=60_000)
    assert report.evaluate("window.origin") == "null"
    assert foreign == []
    report.close()
