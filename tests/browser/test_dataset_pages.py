"""The pages of data sets and lineage in a real browser: accessible, in both colour schemes, on a telephone too."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from monitoring.datasets.rows import items
from tests.browser.test_every_page import CONTRAST, RULES, _sideways, _violations
from tests.support.dataset_world import dataset_console, dataset_world

pytestmark = pytest.mark.browser


def test_pages_of_data_sets_are_accessible_and_fit(browser: Browser, tmp_path: Path) -> None:
    world = dataset_world(tmp_path, cases=60)
    first = world.build(holdout_audit=0.0, name="first")
    world.trained_on("3", first.digest, parent="2")
    world.set_case(world.labelled()[0], label='"nine"')
    second = world.build(holdout_audit=0.0, name="second")
    with world.store.read() as connection:
        item = items(connection, snapshot=second.id)[0]
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    wrong: list[str] = []
    with dataset_console(world) as client:
        context = browser.new_context(base_url=str(client.base_url), reduced_motion="reduce")
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{page.url}: {message.text}"))
        for path in (
            "/datasets",
            f"/datasets/{second.id}",
            f"/datasets/{first.id}/diff/{second.id}",
            "/lineage/version/digits",
            f"/lineage/case/{item.case_id}",
        ):
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
        page.goto(f"/datasets/{second.id}")
        page.get_by_role("link", name="What is new").click()
        assert page.url.endswith(f"/datasets/{first.id}/diff/{second.id}")
        context.close()
    world.store.close()
    assert not wrong, "\n" + "\n".join(wrong)
