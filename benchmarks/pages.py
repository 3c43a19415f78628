"""How soon the console's pages paint on loopback, and what they weigh without pictures.

    python -m benchmarks.pages [--quick]        # about a minute; needs chromium

Every page of the routes is opened in headless Chromium five times without a cache; the figures are medians. The tab
shows the sign-in page before, because a browser starts a process for a site that it meets for the first time, which
takes longer than most pages do; what that makes of it is measured once a page, as `first_visit_ms`.
Figures of the issue: first paint of every page in at most 300 ms; at most 300 kB without pictures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from benchmarks.machine import machine_facts
from tests.support.console_pages import addresses
from tests.support.slice_world import EIGHTS, SliceWorld, slice_world

RESULTS = Path(__file__).parent / "results" / "pages.json"
LIMIT_MS, LIMIT_BYTES = 300, 300_000
READ = """[performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null,
performance.getEntriesByType('navigation')[0].responseStart,
performance.getEntriesByType('navigation')[0].decodedBodySize
+ performance.getEntriesByType('resource').filter(r => !/png/.test(r.name))
.reduce((n, r) => n + r.decodedBodySize, 0)]"""


def measure(browser: Browser, world: SliceWorld, repeats: int) -> dict[str, dict[str, Any]]:
    """Paint, first byte and weight of every page."""
    batch = world.post(f"/api/slices/{EIGHTS}/batch", {}, 201)["id"]
    case = next(c.id for c in world.store.cases(limit=40).cases if c.outcome == "ok")
    values = {"model": "fresh", "slice_id": EIGHTS, "batch": batch, "case": case}
    found, _ = addresses(world.app, values)
    found["/models/{model}"] = "/models/digits"
    site = str(world.client.base_url).rstrip("/")
    made = {}
    for path, address in found.items():
        paints, firsts, sizes = [], [], []
        first_visit = None
        for n in range(repeats + 1):
            context = browser.new_context(viewport={"width": 1280, "height": 860})
            page = context.new_page()
            if n:
                page.goto(f"{site}/sign-in")
                context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
            page.goto(f"{site}{address}")
            page.wait_for_load_state("load")
            page.wait_for_timeout(100)
            paint, first, size = page.evaluate(READ)
            context.close()
            if paint is not None and not n:
                first_visit = round(paint)
            elif paint is not None:
                paints.append(paint)
                firsts.append(first)
                sizes.append(size)
        if paints:
            times: dict[str, int | None] = {
                "paint_ms": round(statistics.median(paints)),
                "first_byte_ms": round(statistics.median(firsts)),
            }
            times |= {"worst_paint_ms": round(max(paints)), "first_visit_ms": first_visit}
            made[path] = times | {"bytes": max(sizes)}
            print(f"{path:32} {made[path]}", flush=True)
    return made


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="once each; nothing is written")
    given = parser.parse_args()
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, slice_world(Path(folder)) as world, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        found = measure(browser, world, 1 if given.quick else 5)
        browser.close()
    slow = [p for p, f in found.items() if f["paint_ms"] > LIMIT_MS]
    heavy = [p for p, f in found.items() if f["bytes"] > LIMIT_BYTES]
    print(json.dumps({"slower than the figure": slow, "heavier than the figure": heavy}))
    if not given.quick:
        made = {"machine": machine_facts(RESULTS.parents[2]), "pages": found, "slow": slow, "heavy": heavy}
        RESULTS.write_text(json.dumps(made, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
