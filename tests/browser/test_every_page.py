"""Every page of the console, found in its routes: accessible in both themes, no sideways scroll, light and quick.

axe-core (Deque Systems) judges: nothing serious or critical. Its script comes with `axe-playwright-python`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from monitoring import schema as t
from monitoring.gate.rows import record_gate
from tests.support.console_pages import addresses
from tests.support.console_store import START_S, complete
from tests.support.gate_world import failed_gate
from tests.support.rollout_world import rollout_with_evidence
from tests.support.slice_world import EIGHTS, SliceWorld, slice_world

pytestmark = pytest.mark.browser

ALARM = "a" * 16
MOST_BYTES = 300_000  # without pictures
MOST_PAINT_MS = 3_000  # on a busy machine; the figure itself is the benchmark's (benchmarks/pages.py)
AXE = "axe.run(document, {resultTypes: ['violations'], %s}).then(r => r.violations)"
RULES = "runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']"
CONTRAST = "runOnly: {type: 'rule', values: ['color-contrast']}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SliceWorld]:
    with slice_world(tmp_path_factory.mktemp("every")) as made:
        yield made


@pytest.fixture(scope="module")
def paths(world: SliceWorld) -> dict[str, str]:
    """An address of every page."""
    batch = world.post(f"/api/slices/{EIGHTS}/batch", {}, 201)["id"]
    world.post(f"/api/slices/{EIGHTS}/test-set", {"name": "eights"}, 201)
    world.post(f"/api/slices/{EIGHTS}/acts", {"act": "comment", "text": "the loops"})
    about = {"id": ALARM, "model": "digits", "version": "2", "promise": "lifetime", "state": "firing", "number": 1}
    about |= {"limit": 0.1, "estimate": 0.2, "low": 0.12, "high": 0.3, "labels": 90, "evidence": 130.0, "examples": []}
    about |= {"fired_ns": START_S * 10**9, "from_ns": START_S * 10**9, "changed_ns": START_S * 10**9}
    with world.store.write() as connection:
        connection.execute(t.alarms.insert().values(**complete(t.alarms, about)))
        gate = record_gate(connection, failed_gate(), now_ns=START_S * 10**9)
    case = next(c.id for c in world.store.cases(limit=40).cases if c.outcome == "ok")
    # There is no report: that address shows the page of errors. (Evidently takes longer than all pages together.)
    gathered = world.post("/api/selections", {"model": "digits", "cases": list(world.day.case_ids[:5])}, 201)["id"]
    values = {
        "model": "digits",
        "slice_id": EIGHTS,
        "batch": batch,
        "case": case,
        "report": "0" * 20,
        "alarm": ALARM,
        "dataset": "0" * 16,  # this world keeps none: their pages are judged in test_dataset_pages
        "other_dataset": "1" * 16,
        "rollout_id": rollout_with_evidence(world.store, "digits", "1", "2"),
        "gate": gate,
        "training": "0" * 12,  # nor a training
        "record_id": "nobody",
    } | {"selection_id": gathered}
    found, missing = addresses(world.app, values)
    assert not missing, f"give this test a value for the parameters of {missing}"
    for part in ("/review/classes/{model}", "/review/sheets/{case}"):  # JSON, and a piece of a page
        found.pop(part, None)
    if "/lineage/version/{model}" in found:
        found["/lineage/version/{model}"] += "?version=2"
    found["/models/{model}/drift"] = "/models/fresh/drift"  # the filled store has no sketches
    return found


@pytest.fixture
def context(browser: Browser, world: SliceWorld) -> Iterator[BrowserContext]:
    made = browser.new_context(
        viewport={"width": 1280, "height": 860}, base_url=str(world.client.base_url), reduced_motion="reduce"
    )
    yield made
    made.close()


def test_every_page_is_accessible_fits_and_is_light(context: BrowserContext, paths: dict[str, str]) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page, wrong = context.new_page(), []
    for path, address in paths.items():
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": 860})
        answer = page.goto(address)
        assert answer is not None
        if answer.status not in (200, 404):
            wrong.append(f"{path}: status {answer.status}")
            continue
        wrong += [f"{path}: {said}" for said in _size_and_speed(page)]
        page.evaluate(axe)
        wrong += [f"{path}: {said}" for said in _violations(page, RULES)]
        wrong += _sideways(page, path)
        page.emulate_media(color_scheme="dark")
        wrong += [f"{path} (dark): {said}" for said in _violations(page, CONTRAST)]
        page.set_viewport_size({"width": 390, "height": 800})
        wrong += _sideways(page, path)
    assert not wrong, "\n" + "\n".join(wrong)


def test_axe_finds_what_is_planted(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/batches")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    page.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<input><img src=x><p id=faint>faint</p>');"
        "document.querySelector('#faint').style.color = 'color-mix(in srgb, currentColor 12%, transparent)'"
    )
    said = " ".join(_violations(page, RULES))
    assert all(rule in said for rule in ("label", "image-alt", "color-contrast"))


def test_the_keyboard_reaches_the_content_and_is_seen_there(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/slices")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top >= 0")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    for _ in range(6):
        shown = "(e => getComputedStyle(e).outlineStyle !== 'none' || getComputedStyle(e).boxShadow !== 'none')"
        assert page.evaluate(f"{shown}(document.activeElement)"), page.evaluate("document.activeElement.outerHTML")
        page.keyboard.press("Tab")


def _violations(page: Page, rules: str) -> list[str]:
    found: list[Any] = page.evaluate(AXE % rules)
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: {v['nodes'][0]['html'][:160]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def _sideways(page: Page, path: str) -> list[str]:
    width, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    return [f"{path}: {width} px wide in a window of {seen}"] if width > seen else []


def _size_and_speed(page: Page) -> list[str]:
    page.wait_for_load_state("load")
    paint, size = page.evaluate(
        "[performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,"
        "performance.getEntriesByType('resource').filter(r => !/\\.png/.test(r.name))"
        ".reduce((n, r) => n + r.decodedBodySize,"
        " performance.getEntriesByType('navigation')[0].decodedBodySize)]"
    )
    said = [f"first paint after {paint:.0f} ms"] if paint > MOST_PAINT_MS else []
    return said + ([f"{size:,} bytes without pictures"] if size > MOST_BYTES else [])
