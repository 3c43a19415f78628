"""The pages of data sets, lineage and the loop in a real browser: accessible, in both schemes, on a telephone too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page

from monitoring.datasets.rows import items
from tests.browser.test_every_page import CONTRAST, RULES, _sideways, _violations
from tests.support.dataset_world import dataset_console, dataset_world
from tests.support.loop_pages import MLFLOW, WholeTurn, whole_turn

pytestmark = pytest.mark.browser


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A console with two data sets and a whole turn of the loop; version 3 was trained on `case`, of `record`."""

    client: httpx.Client
    turn: WholeTurn
    first: str
    second: str
    case: str
    record: str

    @property
    def pages(self) -> tuple[str, ...]:
        return (
            "/datasets",
            f"/datasets/{self.second}",
            f"/datasets/{self.first}/diff/{self.second}",
            "/lineage/version/digits",
            f"/lineage/case/{self.case}",
            "/loop",
            f"/loop/{self.turn.training}",
            "/gates",
            f"/gates/{self.turn.gate}",
            "/rollouts",
            f"/rollouts/{self.turn.rollout}",
        )


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    world = dataset_world(tmp_path_factory.mktemp("loop"), cases=60)
    first = world.build(holdout_audit=0.0, name="first")
    world.set_case(world.labelled()[0], label='"nine"')
    second = world.build(holdout_audit=0.0, name="second")
    world.trained_on("3", second.digest, parent="2")
    turn = whole_turn(world.store, "3", champion="2", snapshot=second.id, digest=second.digest, rows=second.rows)
    with world.store.read() as connection:
        item = items(connection, snapshot=second.id)[0]
    with dataset_console(world, mlflow=MLFLOW) as client:
        yield Loop(client=client, turn=turn, first=first.id, second=second.id, case=item.case_id, record=item.record_id)
    world.store.close()


@pytest.fixture
def page(browser: Browser, loop: Loop) -> Iterator[Page]:
    context = browser.new_context(base_url=str(loop.client.base_url), reduced_motion="reduce")
    yield context.new_page()
    context.close()


def test_pages_of_data_sets_and_of_the_loop_are_accessible_and_fit(page: Page, loop: Loop) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(f"{page.url}: {message.text}"))
    for path in loop.pages:
        page.set_viewport_size({"width": 1280, "height": 860})
        page.emulate_media(color_scheme="light")
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        page.evaluate(axe)
        wrong += [f"{path}: {said}" for said in _violations(page, RULES)]
        page.emulate_media(color_scheme="dark")
        wrong += [f"{path} (dark): {said}" for said in _violations(page, CONTRAST)]
        page.set_viewport_size({"width": 390, "height": 800})
        wrong += _sideways(page, path)
    assert not wrong, "\n" + "\n".join(wrong)


def test_lineage_is_walked_by_keyboard_from_an_answer_to_the_version_and_back(page: Page, loop: Loop) -> None:
    """An answer in production, the data set that its label is in, the version trained on that, its proof; and back."""
    page.goto(f"/cases/{loop.case}")
    assert loop.record in page.content()
    _follow(page, page.get_by_role("link", name="Lineage", exact=True))
    assert page.url.endswith(f"/lineage/case/{loop.case}")
    _follow(page, page.locator(f".lineage a[href='/datasets/{loop.second}']"))
    assert page.url.endswith(f"/datasets/{loop.second}")
    _follow(page, page.locator(".lineage a[href='/lineage/version/digits?version=3']"))
    assert page.inner_text("h1") == "Lineage of version 3 of digits"

    made = page.locator(".made li", has_text="digits 3")
    hrefs = [link.get_attribute("href") for link in made.get_by_role("link").all()]
    assert hrefs == [
        f"/datasets/{loop.second}",
        f"/loop/{loop.turn.training}",
        f"/gates/{loop.turn.gate}",
        f"/rollouts/{loop.turn.rollout}",
        f"{MLFLOW}/#/models/digits/versions/7",
        f"{MLFLOW}/#/experiments/3/runs/{'f' * 32}",
    ]
    for name, what in (("turn of the loop", "candidate"), ("gate", "Lineage"), ("roll-out", "Lineage")):
        _follow(page, made.locator(f"dt:text-is('{name}') + dd a"))
        if what == "candidate":
            _follow(page, page.locator("dt:text-is('candidate') + dd a"))
        else:
            _follow(page, page.get_by_role("link", name="Lineage", exact=True))
        assert page.inner_text("h1") == "Lineage of version 3 of digits", f"there is no way back from the {name}"

    # Back: from the version to an answer that it was trained on, and that answer's own page.
    _follow(page, page.locator(f"a[href='/cases/{loop.case}']").first)
    assert page.url.endswith(f"/cases/{loop.case}")
    assert loop.record in page.content()


def test_the_next_data_set_says_what_is_new(page: Page, loop: Loop) -> None:
    page.goto(f"/datasets/{loop.second}")
    page.get_by_role("link", name="What is new").click()
    assert "/diff/" in page.url


def _follow(page: Page, link: Locator) -> None:
    """As somebody without a mouse: focus, seen, Enter."""
    link.focus()
    shown = page.evaluate("(e => getComputedStyle(e).outlineStyle !== 'none')(document.activeElement)")
    assert shown, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    with page.expect_navigation():
        page.keyboard.press("Enter")
