"""Pictures for the documentation, taken from a console over a real log: `HARDCASE_DOCS_IMAGES=docs/images pytest …`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.monitor import Monitor
from monitoring.report_source import frame_source
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support import monitor_world
from tests.support.console_server import listening

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "HARDCASE_DOCS_IMAGES" not in os.environ, reason="set HARDCASE_DOCS_IMAGES to the folder of the pictures"
    ),
]

SECONDS, SHIFT_S, RATE = 2700, 1800, 12


def test_take_the_pictures(browser: Browser, tmp_path: Path) -> None:
    target = Path(os.environ["HARDCASE_DOCS_IMAGES"])
    target.mkdir(parents=True, exist_ok=True)
    right = monitor_world.day(tmp_path / "records", seconds=SECONDS, rate=RATE, shift_from=SHIFT_S, replicas=1)
    options = monitor_world.options(tmp_path)
    catalogue = monitor_world.catalogue(tmp_path / "reference")
    store = Store(options.database_url)
    monitor = Monitor(options, store, catalogue)
    reports = ReportService(ReportOptions(folder=tmp_path / "reports"), frame_source(store, catalogue))
    monitor.start()
    deadline = time.monotonic() + 300
    while sum(a.ingested for a in store.accounting()) < len(right) or monitor.loop.progress.signals_due:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(2 * options.drift.interval_s)
    with listening(build_console(store, catalogue, monitor, list, ConsoleOptions(), reports=reports)) as address:
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1280, "height": 860}, color_scheme=scheme, device_scale_factor=1.5
            )  # type: ignore[arg-type]  # a literal
            page = context.new_page()
            page.goto(address + "/cases?correct=false")
            case = page.locator(".card a").nth(3).get_attribute("href")
            paths = {"overview": "/", "model": "/models/digits", "cases": "/cases?state=open&order=time"}
            for name, path in (paths | {"case": str(case)}).items():
                page.goto(address + path)
                page.wait_for_load_state("networkidle")
                suffix = "" if scheme == "light" else "-dark"
                page.screenshot(path=target / f"console-{name}{suffix}.png", full_page=name == "model")
            context.close()
    assert monitor.stop()
    reports.close()
    store.close()
    assert all((target / f"console-{n}.png").stat().st_size > 20_000 for n in ("overview", "model", "cases", "case"))
