"""S17 where people decide: a corpus in every captured and every typed string; 0 scripts run, 0 policy violations."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.test_console_browser import CORPUS, Watch
from tests.support.review_console import ReviewConsole, review_console

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewConsole]:
    with review_console(tmp_path_factory.mktemp("hostile"), cases=60, texts=CORPUS) as made:
        yield made


def _harmless(page: Page, where: str) -> None:
    assert page.evaluate("window.pwned") is None, where
    assert page.locator("main script, main iframe, main base, main meta, main style").count() == 0, where
    assert page.locator("[onerror], [onload], [onfocus], a[href^='javascript']").count() == 0, where
    assert page.locator("main form[action^='http']").count() == 0, where


def test_hostile_strings_run_nothing_where_people_decide(browser: Browser, hostile: ReviewConsole) -> None:
    watch = Watch()
    context = browser.new_context(base_url=hostile.address)
    page = watch.page(context, hostile.address)
    # What people type is as hostile as what was captured: comments, tags, who they say they are.
    marked = hostile.day.case_ids[:3]
    for i, text in enumerate(CORPUS):
        selection = {"cases": list(marked)}
        with httpx.Client(base_url=hostile.address, trust_env=False) as client:
            body = {"key": f"c{i}", "selection": selection, "comment": text.replace("\x07", "")}
            client.post("/api/review/comments", json=body).raise_for_status()
            tag = text.replace("\x07", "")[:64]
            client.post("/api/review/tags", json={"key": f"t{i}", "selection": selection, "add": [tag]})
    cases = [*hostile.day.case_ids[:9], *hostile.kinds.values()]  # each has many strings, one after the other
    for case in cases:
        page.goto(f"/review?case={case}")
        page.wait_for_selector(f'.sheet[data-case="{case}"]:not([hidden])')
        _harmless(page, f"review of {case}")
        page.goto(f"/cases/{case}")
        assert page.locator("h1").is_visible()
        _harmless(page, f"case {case}")
    for case in marked:
        page.goto(f"/cases/{case}")
        assert page.locator("#history-list li").count() >= len(CORPUS)
        assert page.locator("#case-tags .chip").count() >= 10
        _harmless(page, f"history of {case}")
    context.close()
    assert watch.complaints == []
    assert watch.foreign == []


def test_hostile_names_run_nothing_in_dialogs_notices_and_the_trail(browser: Browser, hostile: ReviewConsole) -> None:
    watch = Watch()
    context = browser.new_context(base_url=hostile.address)
    page = watch.page(context, hostile.address)
    waiting = [i for i in hostile.day.case_ids if _open(hostile, i)]
    page.goto(f"/review?model=digits&case={waiting[0]}")
    page.wait_for_selector(f'.sheet[data-case="{waiting[0]}"]:not([hidden])')
    page.keyboard.press("g")
    page.locator("#like-count", has_text="would change").wait_for()
    page.locator("#like-choices [data-key='2']").click()
    page.locator("#like-ask").wait_for()
    _harmless(page, "all like this")
    page.keyboard.press("Escape")
    for key in "2345":  # classes are named by the corpus
        page.keyboard.press(key)
        page.wait_for_timeout(150)
    page.wait_for_selector('#review[data-waiting="0"]')
    assert page.locator("#trail li").count() >= 3
    _harmless(page, "the trail")
    httpx.post(  # somebody else decides first: the conflict shows what both said
        f"{hostile.address}/api/review/release",
        json={"cases": [case := str(page.locator(".sheet:not([hidden])").get_attribute("data-case"))]},
        trust_env=False,
    )
    edition = httpx.get(f"{hostile.address}/api/cases/{case}", trust_env=False).json()["standing"]["edition"]
    said = {"case": case, "edition": edition, "verdict": "label", "label": CORPUS[0], "comment": CORPUS[2]}
    httpx.post(
        f"{hostile.address}/api/review/decisions",
        json={"key": "first", "decisions": [said]},
        cookies={"who": "ben"},
        trust_env=False,
    ).raise_for_status()
    page.keyboard.press("6")
    page.locator(".notice.conflict").wait_for()
    _harmless(page, "a conflict")
    context.close()
    assert watch.complaints == []
    assert watch.foreign == []


def _open(hostile: ReviewConsole, case: str) -> bool:
    found = httpx.get(f"{hostile.address}/api/cases/{case}", trust_env=False).json()
    return bool(found["state"] == "open" and found["outcome"] == "ok")
