"""From an alert to the failing inputs in two clicks, in a real browser, against a real stack.

The link is the one that Alertmanager hands on: a real Prometheus made it from the rule while requests failed.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import find_chromium
from tests.observability.drills.conftest import SETTINGS, Stack, spoiled, watched
from tests.support.watching import until

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with watched(tmp_path_factory.mktemp("clicks"), **SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def browser(stack: Stack) -> Iterator[Browser]:
    """After the stack: while Playwright's loop runs, no test with a loop of its own can."""
    path = find_chromium()
    if path is None:
        pytest.skip("there is no chromium on the PATH: apt install chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


def test_an_alerts_link_and_one_click_show_a_failing_input(stack: Stack, browser: Browser, tmp_path: Path) -> None:
    with stack.traffic(), stack.traffic(spoiled):
        told = until(
            lambda: stack.heard.of("HardcaseErrorBudgetBurns", "firing", severity="page"), 90, "nobody was told"
        )
    # Until the window is over, a more certain failure may push a case out of its window's budget.
    settled = "max(increase(hardcase_monitor_records_ingested_total[3s])) == 0"
    until(lambda: stack.prometheus.ask(settled), 60, "the monitor is not done reading")
    link = told["console_url"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/cases\?model=digits&from=20\d\d-\d\d-\d\dT[0-9:]{8}Z", link), link
    page = browser.new_page()
    # An alert as a mail or a chat shows it: its text and its links.
    page.set_content(f"<h1>{html.escape(told['summary'])}</h1><a href='{html.escape(link)}'>Open in the console</a>")
    clicks = []

    def click(selector: str) -> None:
        clicks.append(selector)
        page.locator(selector).first.click()
        page.wait_for_load_state()

    click("text=Open in the console")
    assert page.url == link
    assert page.locator("a[href^='/cases/']").count() > 0, page.inner_text("main")
    click("main a[href^='/cases/']")
    assert len(clicks) == 2
    assert "/cases/" in page.url
    text = page.inner_text("main").lower()
    assert "failed" in text, text
    assert "drill-" in text, "the record's id"
    case = page.url.rpartition("/cases/")[2].partition("?")[0]
    body = page.request.get(f"{stack.place.console}/api/cases/{case}/input").body()
    assert len(body) == 64 * 4, "the input itself: 8 x 8 numbers"
    page.close()
