"""The case list in a real browser: keys only, from a search to a bulk act and back, pages that follow, views."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import listening
from tests.support.console_store import MemoryCatalogue, StillMonitor, fill, manifest

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("cases")
    store = Store(f"sqlite:///{root}/m.db")
    fill(store, windows=12, cases=160)
    reports = ReportService(ReportOptions(folder=root / "reports"), lambda *_: (_ for _ in ()).throw(ValueError))
    catalogue = MemoryCatalogue(manifests=(manifest(version="1"), manifest(version="2")))
    with listening(build_console(store, catalogue, StillMonitor(), list, ConsoleOptions(), reports=reports)) as at:
        yield at
    reports.close()
    store.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
    made = context.new_page()
    complaints: list[str] = []
    made.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    made.on("pageerror", lambda e: complaints.append(str(e)))
    yield made
    context.close()
    assert [c for c in complaints if "400" not in c] == []


def test_from_a_search_to_a_bulk_act_and_its_undo_with_keys_only(page: Page):
    page.goto("/cases?order=time")
    page.keyboard.press("/")
    page.keyboard.type("is:open score:>0.2")
    page.keyboard.press("Enter")
    expect(page.locator("#q")).to_have_value("is:open score:>0.2")
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Shift+X")
    expect(page.locator("#picked")).to_have_text("3 selected")
    expect(page.locator("li.card.picked")).to_have_count(3)
    page.keyboard.press("t")
    page.keyboard.type("look again")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("3 tagged look again")
    expect(page.locator("#bulk")).to_be_hidden()
    expect(page.locator("#cards .chip-tag", has_text="look again")).to_have_count(3)
    page.locator("#toast button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("Taken back: 3 cases")
    expect(page.locator("#cards .chip-tag", has_text="look again")).to_have_count(0)


def test_pages_follow_one_another_and_the_back_button_returns_to_the_place(page: Page):
    page.goto("/cases?order=time")
    first = page.locator("#cards > li").count()
    assert first == 48
    for further in (first, 2 * first):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        expect(page.locator("#cards > li").nth(further)).to_be_attached()
    ids = page.eval_on_selector_all("#cards > li", "all => all.map(one => one.dataset.case)")
    assert len(ids) == len(set(ids))
    card = page.locator("#cards > li").nth(70)
    card.scroll_into_view_if_needed()
    top = page.evaluate("scrollY")
    card.locator("a").click()
    page.wait_for_url("**/cases/*")
    page.go_back()
    expect(page.locator("#cards > li").nth(70)).to_be_in_viewport()
    assert abs(page.evaluate("scrollY") - top) < 400


def test_everything_that_fits_is_selected_beyond_what_is_shown(page: Page):
    page.goto("/cases?state=open&order=time")
    total = page.locator(".list-main").get_attribute("data-total")
    page.locator("h1").click()
    page.keyboard.press("a")
    page.locator("#pick-all").click()
    expect(page.locator("#picked")).to_have_text(f"{total} selected")
    page.locator("#assign-form input").fill("ben")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text(f"{total} assigned to ben")
    page.goto("/cases?q=assignee:ben")
    assert page.locator(".list-main").get_attribute("data-total") == total


def test_facets_and_chips_write_the_address_and_a_view_keeps_it(page: Page):
    page.goto("/cases")
    page.locator(".facets a", has_text="dismissed").click()
    expect(page).to_have_url("/cases?state=dismissed&order=rank")
    page.locator(".views summary").click()
    page.locator("#keep-view input[name=name]").fill("away with them")
    page.locator("#keep-view button").click()
    expect(page.locator(".views summary")).to_contain_text("away with them")
    page.locator(".asked .chip").first.click()
    expect(page).to_have_url("/cases?order=rank")
    page.locator(".views summary").click()
    page.locator(".views a", has_text="away with them").click()
    expect(page).to_have_url("/cases?state=dismissed&order=rank")


def test_a_mistake_in_a_search_is_explained_where_it_was_typed(page: Page):
    page.goto("/cases?q=scroe:1")
    expect(page.locator("#problem")).to_contain_text("did you mean 'score:'")
    expect(page.locator(".empty-state")).to_be_visible()


@pytest.mark.parametrize("density", ["", "compact", "lines"])
def test_nothing_sticks_out_at_any_width(page: Page, density: str, tmp_path: Path):
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"/cases?density={density}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=tmp_path / f"{width}.png")


def test_the_help_opens_with_a_question_mark(page: Page):
    page.goto("/cases")
    page.keyboard.press("?")
    expect(page.locator("dialog#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog#help")).to_be_hidden()
