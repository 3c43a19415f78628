"""The gate's report in a real browser, as it lies in `docs/examples`: by keyboard, in both schemes, without a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

REPORT = (Path(__file__).parents[2] / "docs" / "examples" / "gate-report.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_read_by_keyboard_and_breaks_no_rule(browser: Browser, scheme: Any) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(REPORT)
    assert page.inner_text("#count") == "220 of 220"
    page.keyboard.press("1")
    lost = page.locator("#rows tr").count()
    assert lost == page.locator("#rows tr.lost").count() == 15
    page.keyboard.press("j")
    page.keyboard.press("n")
    assert page.evaluate("[...document.querySelectorAll('#rows tr')].indexOf(document.activeElement)") == 1
    page.keyboard.press("/")
    page.keyboard.type("golden-")
    assert 0 < page.locator("#rows tr").count() < lost
    page.keyboard.press("Escape")
    page.fill("#find", "")
    page.keyboard.press("Escape")
    page.keyboard.press("4")
    page.click("button[data-sort=id]")
    assert page.get_attribute("th:has(> button[data-sort=id])", "aria-sort") == "ascending"
    page.select_option("#slice", "camera=tilted")
    assert 0 < page.locator("#rows tr").count() < 100
    assert faults == []
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()
