"""Reviewing in a real browser, with keys only: decisions, undo, conflicts, lost connections, ended leases."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route

from tests.browser.test_console_browser import Watch
from tests.support.review_console import ReviewConsole, review_console

pytestmark = pytest.mark.browser

CURRENT = ".sheet:not([hidden])"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewConsole]:
    with review_console(tmp_path_factory.mktemp("review"), cases=400) as made:
        yield made


@pytest.fixture
def open_as(browser: Browser, console: ReviewConsole) -> Iterator[Callable[..., Page]]:
    """Opens the review page as somebody, in a context of their own; nothing may be complained about."""
    contexts: list[BrowserContext] = []
    watch = Watch()

    def opened(who: str, query: str = "model=digits", wait: bool = True) -> Page:
        context = browser.new_context(base_url=console.address)
        context.add_cookies([{"name": "who", "value": who, "url": console.address}])
        contexts.append(context)
        page = watch.page(context, console.address)
        page.goto(f"/review?{query}")
        if wait:
            page.wait_for_selector(CURRENT)
        return page

    yield opened
    for context in contexts:
        context.close()
    offline = ("ERR_INTERNET_DISCONNECTED", "Failed to load resource", "ERR_FAILED")
    assert [c for c in watch.complaints if not any(x in c for x in offline)] == []
    assert watch.foreign == []


def shown(page: Page) -> str:
    found = page.locator(CURRENT).get_attribute("data-case")
    assert found is not None
    return found


def history(console: ReviewConsole, case: str) -> list[dict[str, Any]]:
    found = httpx.get(f"{console.address}/api/cases/{case}/history", trust_env=False).json()
    steps: list[dict[str, Any]] = [s for s in found["steps"] if s["act"]["kind"] not in ("lease", "release")]
    return steps


def said(console: ReviewConsole, case: str) -> list[dict[str, Any]]:
    """What was decided and holds: cases that other tests decided and took back come along here, too."""
    return [s for s in history(console, case) if s["verdict"] and not s["withdrawn"]]


def state_of(console: ReviewConsole, case: str) -> dict[str, Any]:
    found = httpx.get(f"{console.address}/api/cases/{case}", trust_env=False).json()
    standing: dict[str, Any] = found["standing"]
    return standing


def until(met: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def press(page: Page, key: str) -> str:
    """Press a key that decides, and wait until another case is there; returns the case it decided."""
    before = shown(page)
    page.keyboard.press(key)
    page.wait_for_selector(f'{CURRENT}:not([data-case="{before}"])')
    return before


def sent(page: Page) -> None:
    page.wait_for_selector('#review[data-waiting="0"]')


def test_each_verdict_has_a_key_and_becomes_what_it_says(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    page = open_as("ann")
    decided = {key: press(page, key) for key in ("c", "w", "u", "d", "4")}
    sent(page)
    verdicts = {key: history(console, case)[0] for key, case in decided.items()}
    assert {k: v["verdict"] for k, v in verdicts.items()} == {
        "c": "correct", "w": "wrong", "u": "unclear", "d": "dismiss", "4": "label",
    }  # fmt: skip
    assert verdicts["4"]["label"] == "four"
    assert state_of(console, decided["4"])["decided_by"] == "ann"
    skipped = press(page, "s")
    sent(page)
    assert said(console, skipped) == []
    assert skipped not in [press(page, "d") for _ in range(8)], "what was skipped comes back at once"


def test_the_next_case_is_there_within_50_ms_of_the_key(open_as: Callable[..., Page]) -> None:
    page = open_as("eve")
    for _ in range(30):
        press(page, "d")
        page.wait_for_timeout(30)
    times = page.evaluate("performance.getEntriesByName('review:next').map(m => m.duration)")
    assert len(times) >= 25
    times.sort()
    median = times[len(times) // 2]
    print(f"key to next case: median {median:.1f} ms, p95 {times[int(0.95 * len(times))]:.1f} ms, of {len(times)}")
    assert median <= 50.0


def test_undo_takes_back_what_was_sent_and_shows_it_again(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    page = open_as("ann")
    case = press(page, "c")
    sent(page)
    page.keyboard.press("z")
    page.wait_for_selector(f'{CURRENT}[data-case="{case}"]')
    until(lambda: state_of(console, case)["state"] in ("open", "leased"), "the undo did not arrive")
    assert press(page, "w") == case
    sent(page)
    until(lambda: state_of(console, case)["verdict"] == "wrong", "the second decision was refused")


def test_undo_works_after_a_reload(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    page = open_as("ann")
    case = press(page, "2")
    sent(page)
    page.reload()
    page.wait_for_selector(CURRENT)
    page.keyboard.press("z")
    page.wait_for_selector(f'{CURRENT}[data-case="{case}"]')
    until(lambda: state_of(console, case)["decided_by"] is None, "the undo did not arrive")


def test_what_is_decided_without_a_connection_is_sent_later_once_and_in_order(
    open_as: Callable[..., Page], console: ReviewConsole
) -> None:
    page = open_as("ann")
    until(lambda: page.locator(".sheet").count() >= 5, "nothing was fetched ahead")
    page.context.set_offline(True)
    cases = [press(page, key) for key in ("c", "w", "5")]
    page.locator("#outbox", has_text="3 waiting to be sent").wait_for()
    assert all(said(console, case) == [] for case in cases)
    page.context.set_offline(False)
    sent(page)
    assert [said(console, case)[0]["verdict"] for case in cases] == ["correct", "wrong", "label"]
    acts = [said(console, case)[0]["act"]["id"] for case in cases]
    assert acts == sorted(acts)
    assert all(len(said(console, case)) == 1 for case in cases)


def test_a_browser_that_is_closed_in_the_middle_loses_nothing(
    browser: Browser, console: ReviewConsole, open_as: Callable[..., Page]
) -> None:
    page = open_as("ann")
    page.route("**/api/review/decisions", lambda route: route.abort())
    cases = [press(page, key) for key in ("d", "6")]
    kept = page.context.storage_state()
    page.context.close()
    time.sleep(0.3)
    again = browser.new_context(base_url=console.address, storage_state=kept)
    back = again.new_page()
    back.goto("/review?model=digits")
    back.wait_for_selector(CURRENT)
    sent(back)
    assert [said(console, case)[0]["verdict"] for case in cases] == ["dismiss", "label"]
    assert all(len(said(console, case)) == 1 for case in cases)
    assert shown(back) not in cases
    again.close()


@pytest.mark.slow
def test_an_answer_that_is_lost_does_not_count_twice(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    page = open_as("ann")
    lost: list[int] = []

    def lose(route: Route) -> None:
        if lost:
            route.continue_()
            return
        lost.append(route.fetch().status)  # it arrives; the answer does not
        route.abort()

    page.route("**/api/review/decisions", lose)
    case = press(page, "7")
    sent(page)
    assert lost == [200]
    assert len(said(console, case)) == 1


def test_two_reviewers_have_different_cases_and_a_conflict_is_shown_and_settled(
    open_as: Callable[..., Page], console: ReviewConsole
) -> None:
    ann, ben = open_as("ann"), open_as("ben")
    mine, theirs = shown(ann), shown(ben)
    assert mine != theirs
    # Ann's lease ends while she thinks, and Ben decides about her case before she does.
    httpx.post(
        f"{console.address}/api/review/release", json={"cases": [mine]}, cookies={"who": "ann"}, trust_env=False
    ).raise_for_status()
    ben.goto(f"/review?model=digits&case={mine}")
    ben.wait_for_selector(f'{CURRENT}[data-case="{mine}"]')
    assert press(ben, "w") == mine
    sent(ben)
    assert press(ann, "2") == mine
    conflict = ann.locator(".notice.conflict")
    conflict.wait_for()
    assert "ben" in conflict.inner_text()
    assert "You said: two" in conflict.inner_text()
    assert state_of(console, mine)["decided_by"] == "ben"
    ann.reload()  # a conflict survives the page
    ann.wait_for_selector(CURRENT)
    conflict.wait_for()
    ann.keyboard.press("]")
    both = {("ben", "wrong"), ("ann", "label")}
    until(
        lambda: {(s["act"]["actor"], s["verdict"]) for s in said(console, mine)} == both,
        "no second opinion was put down",
    )
    assert state_of(console, mine)["state"] == "second_opinion"


def test_a_lease_that_has_ended_lets_somebody_else_in_and_the_decision_is_not_lost(
    open_as: Callable[..., Page], console: ReviewConsole
) -> None:
    ann = open_as("ann")
    case = shown(ann)
    ann.route("**/api/review/lease", lambda route: route.abort())  # her page can no longer extend
    console.clock.advance(601)
    try:
        ben = open_as("ben", f"model=digits&case={case}")
        assert press(ben, "d") == case
        sent(ben)
        press(ann, "1")
        ann.locator(".notice.conflict").wait_for()
        ann.keyboard.press("[")
        ann.locator(".notice.conflict").wait_for(state="detached")
        assert state_of(console, case)["verdict"] == "dismiss"
    finally:
        console.clock.advance(-601)


@pytest.mark.slow
def test_leases_end_when_the_page_is_left(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    page = open_as("uma")
    case = shown(page)
    assert state_of(console, case)["lease_by"] == "uma"
    page.goto("/cases")
    until(lambda: state_of(console, case)["lease_by"] is None, "the lease did not end")


def test_back_from_the_case_leads_to_the_same_case_of_the_queue(open_as: Callable[..., Page]) -> None:
    page = open_as("ann", "model=digits&version=2")
    press(page, "s")
    case = shown(page)
    page.keyboard.press("o")
    page.wait_for_url(f"**/cases/{case}")
    page.go_back()
    page.wait_for_selector(f'{CURRENT}[data-case="{case}"]')
    assert "version=2" in page.url


def test_all_like_this_shows_what_it_would_do_and_one_undo_takes_it_back(
    open_as: Callable[..., Page], console: ReviewConsole
) -> None:
    from monitoring import schema as t

    rows = {i: console.store.case(i) for i in console.day.case_ids[-60:]}
    ids = [i for i, row in rows.items() if row is not None and row.state == "open"][-9:]
    with console.store.write() as connection:
        group = {"group_id": ids[0], "likeness": 1.0}
        connection.execute(t.cases.update().where(t.cases.c.id.in_(ids)).values(**group))
    page = open_as("ann", f"model=digits&case={ids[0]}")
    page.wait_for_selector(f'{CURRENT}[data-case="{ids[0]}"]')
    page.keyboard.press("g")
    page.locator("#like-count", has_text="9 cases would change").wait_for()
    assert page.locator("#like-examples img").count() >= 5
    page.keyboard.press("7")
    page.locator("#like-ask", has_text='"seven" for 9 cases?').wait_for()
    page.keyboard.press("Enter")
    until(lambda: all(state_of(console, i)["verdict"] == "label" for i in ids), "the bulk decision did not arrive")
    acts = {history(console, i)[0]["act"]["id"] for i in ids}
    assert len(acts) == 1
    page.keyboard.press("z")
    until(lambda: all(state_of(console, i)["decided_by"] is None for i in ids), "the undo did not arrive")


@pytest.mark.slow
def test_a_comment_goes_with_the_decision(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    page = open_as("ann")
    page.keyboard.press("e")
    page.keyboard.type("looks like a 7 with a bar")
    page.keyboard.press("Control+Enter")
    case = press(page, "8")
    sent(page)
    assert history(console, case)[0]["comment"] == "looks like a 7 with a bar"


SLOW = pytest.mark.slow  # the kinds whose keys another one has, too


@pytest.mark.parametrize(
    ("model", "keys", "verdict", "label"),
    [
        ("labels", ["2", "Enter"], "label", [0, 1, 2]),
        pytest.param("labels", ["Enter"], "correct", None, marks=SLOW),
        ("price", ["1", "4", ".", "5", "Enter"], "label", 14.5),
        ("find", ["2", "Enter"], "label", [{"box": [2, 3, 8, 6], "class": 0}]),
        ("find", ["c"], "label", [{"box": [2, 3, 8, 6], "class": 0}, {"box": [12, 12, 8, 10], "class": 1}]),
        pytest.param("mood", ["3"], "label", "so-so", marks=SLOW),
        ("many", ["l", *"057", "Enter"], "label", "species 057"),
        pytest.param("scene", ["2"], "label", "out", marks=SLOW),
    ],
)
def test_every_kind_of_task_is_decided_with_keys(
    open_as: Callable[..., Page], console: ReviewConsole, model: str, keys: list[str], verdict: str, label: Any
) -> None:
    page = open_as("ann", f"model={model}&case={console.kinds[model]}")
    for key in keys:
        page.keyboard.press(key)
        if key == "l":
            page.locator("#find-list li").first.wait_for()
    sent(page)
    newest = until(lambda: history(console, console.kinds[model]), "nothing was decided")[0]
    assert (newest["verdict"], newest["label"] if label is not None else None) == (verdict, label)
    page.keyboard.press("z")
    until(lambda: history(console, console.kinds[model])[0]["act"]["kind"] == "undo", "no undo")


@pytest.mark.slow
def test_every_kind_of_input_is_shown(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    wanted = {
        "scene": (".input-picture img", 2), "price": (".cells tbody tr", 4), "mood": ("pre.captured", 1),
        "many": (".input-heat img", 1), "find": (".boxed svg rect", 2),
    }  # fmt: skip
    page = open_as("ann")
    for model, (place, count) in wanted.items():
        page.goto(f"/cases/{console.kinds[model]}")
        found = page.locator(f".case-picture {place}")
        assert found.count() == count, model
        if "img" in place:
            assert all(found.nth(i).evaluate("i => i.decode().then(() => i.naturalWidth)") > 0 for i in range(count))


@pytest.mark.slow
def test_who_may_only_read_decides_nothing(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    case = console.kinds["mood"]
    page = open_as("viewer", f"case={case}")
    assert "deciding needs the role reviewer" in page.locator("main").inner_text()
    before = history(console, case)
    page.keyboard.press("c")
    page.wait_for_timeout(300)
    assert history(console, case) == before
    assert shown(page) == case


def test_the_page_of_a_case_has_the_same_keys_and_the_list_it_came_from(
    open_as: Callable[..., Page], console: ReviewConsole
) -> None:
    page = open_as("ann")
    page.goto("/cases?order=time&state=open&model=digits")
    cards = page.locator(".card a")
    second, third = (str(cards.nth(i).get_attribute("href")) for i in (1, 2))
    cards.nth(1).click()
    page.wait_for_url(f"**{second}")
    page.locator("#listing", has_text="2 of").wait_for()
    page.keyboard.press("4")
    page.locator("#case-status", has_text="taken down").wait_for()
    page.locator("#standing", has_text="labelled four, says ann").wait_for()
    page.keyboard.press("z")
    page.locator("#case-status", has_text="Taken back").wait_for()
    page.locator("#history-list", has_text="took back").wait_for()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**{third}")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"**{second}")
    page.locator("#tag-form input").fill("blurred")
    page.keyboard.press("Enter")
    page.locator("#case-tags", has_text="blurred").wait_for()


def test_the_outbox_of_one_person_is_not_sent_as_another(open_as: Callable[..., Page], console: ReviewConsole) -> None:
    page = open_as("ann")
    page.route("**/api/review/decisions", lambda route: route.abort())
    case = press(page, "d")
    page.context.add_cookies([{"name": "who", "value": "ben", "url": console.address}])
    page.unroute("**/api/review/decisions")
    page.evaluate("navigator.sendBeacon = () => true")  # the page's farewell would be sent with the new cookie
    page.reload()
    page.wait_for_selector(CURRENT)
    page.locator("#outbox", has_text="decisions of ann wait").wait_for()
    time.sleep(0.5)
    assert said(console, case) == []
    assert json.loads(page.evaluate("JSON.stringify(Object.keys(localStorage))"))
