"""People in a real browser: signing in, throttling, roles, revoked sessions, forms of other sites, rebinding, links."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import Browser, BrowserContext, Page, expect

from monitoring.people.contracts import Role
from monitoring.people.first_start import make_link
from tests.support.console_server import listening
from tests.support.people_console import PASSWORD, PeopleConsole, people_console

pytestmark = pytest.mark.browser
PEOPLE = {"ann": Role.ADMIN, "vera": Role.VIEWER, "slow": Role.VIEWER}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleConsole]:
    with people_console(tmp_path_factory.mktemp("people"), people=PEOPLE) as made:
        yield made


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context()
    yield made
    made.close()


def sign_in(page: Page, console: PeopleConsole, name: str, after: str = "/") -> None:
    """By keyboard alone."""
    page.goto(console.address + after)
    page.get_by_label("Name").focus()
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(console.address + after)


def test_signing_in_leads_where_one_wanted_and_the_cookie_is_no_scripts(
    context: BrowserContext, console: PeopleConsole
) -> None:
    page = context.new_page()
    sign_in(page, console, "ann", "/cases?state=open")
    assert page.evaluate("document.cookie") == ""
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert cookie["expires"] == -1  # goes with the browser
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    page.goto(console.address + "/cases")
    assert "/sign-in?next=%2Fcases" in page.url


def test_a_wrong_password_is_slowed_down(context: BrowserContext, console: PeopleConsole) -> None:
    page = context.new_page()
    page.goto(console.address + "/sign-in")
    for _ in range(6):
        page.get_by_label("Name").fill("slow")
        page.get_by_label("Password").fill("not the password")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_be_visible()
    assert "too many attempts" in page.get_by_role("alert").inner_text().lower()


def test_a_viewer_sees_nothing_to_press_and_the_api_refuses_anyway(
    context: BrowserContext, console: PeopleConsole
) -> None:
    page = context.new_page()
    sign_in(page, console, "vera", "/alarms")
    assert page.get_by_role("button", name="Silence").count() == 0
    page.goto(console.address + "/settings")
    assert page.get_by_role("heading", name="People").count() == 0
    status = page.evaluate(
        """async () => (await fetch("/api/silences", {method: "POST", headers: {"content-type": "application/json"},
        body: JSON.stringify({model: "digits", minutes: 5, author: "x", reason: "y"})})).status"""
    )
    assert status == 403
    page.goto(console.address + "/settings/users")
    assert page.get_by_role("heading").count() > 0  # a page that says so, and no form


def test_a_revoked_session_signs_in_at_the_next_click(browser: Browser, console: PeopleConsole) -> None:
    one, other = browser.new_context(), browser.new_context()
    page, admin = one.new_page(), other.new_page()
    sign_in(page, console, "vera")
    sign_in(admin, console, "ann", "/settings")
    row = admin.get_by_role("row").filter(has=admin.get_by_role("cell", name="vera", exact=True)).filter(
        has=admin.get_by_role("button", name="Sign out session")
    )  # fmt: skip
    for _ in range(row.count()):
        row.first.get_by_role("button").click()
        admin.wait_for_load_state()
    page.get_by_role("link", name="Slices").click()
    page.wait_for_url("**/sign-in?next=**")
    one.close()
    other.close()


def test_a_form_of_another_origin_is_refused_though_the_cookie_comes_along(
    context: BrowserContext, console: PeopleConsole
) -> None:
    page = context.new_page()
    sign_in(page, console, "ann")
    evil = FastAPI()
    form = f"""<form method="post" action="{console.address}/settings/users"><input name="name" value="mallory">
        <input name="role" value="admin"><button>Win a prize</button></form>"""

    @evil.get("/")
    def bait() -> HTMLResponse:
        return HTMLResponse(form)

    with listening(evil) as address:  # another port of the same site: SameSite alone would let it through
        page.goto(address)
        with page.expect_response("**/settings/users") as answered:
            page.get_by_role("button").click()
        assert answered.value.status == 403
        assert "cookie" in answered.value.request.all_headers()  # the attack was real
    assert "mallory" not in {u.name for u in console.office.people()}


def test_a_name_that_is_pointed_here_is_refused(context: BrowserContext, console: PeopleConsole) -> None:
    page = context.new_page()
    port = console.address.rpartition(":")[2]
    answer = page.goto(f"http://evil.localhost:{port}/sign-in")  # browsers resolve it to this machine
    assert answer is not None
    assert answer.status == 400


def test_the_link_of_the_first_start_makes_the_admin_and_leaves_no_token_behind(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with people_console(tmp_path_factory.mktemp("first"), options={"sign_in": "always"}) as console:
        context = browser.new_context()
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        link = make_link(console.state_dir, console.address, time.time_ns())
        page.goto(link)
        page.get_by_label("Your name").fill("ann")
        page.get_by_label("Password").fill("short-but-12c")
        page.get_by_label("Once more").fill("something-else")
        page.get_by_role("button", name="Make the first admin").click()
        expect(page.get_by_role("alert")).to_contain_text("not the same")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Once more").fill(PASSWORD)
        page.get_by_role("button", name="Make the first admin").click()
        page.wait_for_url(console.address + "/")
        token = link.split("#")[1]
        assert all(token not in url.split("#")[0] for url in asked)
        assert token not in page.evaluate("JSON.stringify([location.href, {...localStorage}, {...sessionStorage}])")
        page.goto(console.address + "/settings")
        page.get_by_role("heading", name="People").wait_for()
        context.close()
