"""A reviewer's hour: mixed cases to decisions with keys and groups, against one by one. About three minutes.

    python -m benchmarks.reviewers_hour [--quick] [--cases 500]

A script sits in front of the real review page in a real Chromium, with a console over SQLite behind it. It knows what
is right for every case and presses the keys of a reviewer who does; it thinks for no time at all, so what is measured
is what the *product* takes, not a person. Three ways over the same cases:

- `groups`: where a case stands for others with nearly the same input it presses `g`, compares the pictures of the
  preview (it looks up what is right for each; where they differ it closes the preview), then the class, then Enter.
- `keys`: one key, or the few that a box or a number take, a case.
- `pages`: every case is a page that is opened, decided and left, as lists with one page a case have it (50 of them).

The cases: three in five are near duplicates of one another (a client that sends again, a camera that stands still), in
groups of 4 to 40; 60 of 500 are of other tasks (labels, boxes, a number, text, 120 classes, two pictures); the rest are
single digits. Real digits, real pictures. How much grouping saves follows from that mix, which is ours: the share in
groups is in the results.

What a person would take is added with the keystroke-level model (Card, Moran and Newell 1980): 0.28 s a key, 1.35 s to
make up one's mind about a case, and of a preview 1.35 s and 0.3 s for each picture in it. These are the model's figures
and not measured; the results name them `modelled`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.machine import machine_facts
from monitoring import schema as t
from monitoring.case_facts import standing_of
from monitoring.keys import case_id, record_hash
from monitoring.store import Store
from tests.support.console_store import CLASSES, complete
from tests.support.review_console import ReviewConsole, fill_kinds, review_console

RESULTS = Path(__file__).parent / "results" / "reviewers_hour.json"
START_S = 1_772_000_040
CURRENT = ".sheet:not([hidden])"
GROUPED = 0.6
PAGES = 50
KEY_S, MIND_S, GLANCE_S = 0.28, 1.35, 0.3
# What is right for the other tasks, and the keys that say it.
OTHER: dict[str, tuple[list[str], Any]] = {
    "labels": (["2", "Enter"], [0, 1, 2]),
    "price": (["1", "4", ".", "5", "Enter"], 14.5),
    "find": (["2", "Enter"], [{"box": [2.0, 3.0, 8.0, 6.0], "class": 0}]),
    "mood": (["3"], "so-so"),
    "many": (["l", "0", "5", "7", "Enter"], "species 057"),
    "scene": (["2"], "out"),
}


@dataclass(kw_only=True)
class Tally:
    """What a way took."""

    decided: int = 0
    keys: int = 0
    minds: int = 0
    previews: int = 0
    glances: int = 0
    closed: int = 0
    seconds: float = 0.0
    shown_ms: list[float] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """As it stands in the results."""
        modelled = self.keys * KEY_S + (self.minds + self.previews) * MIND_S + self.glances * GLANCE_S + self.seconds
        times = sorted(self.shown_ms)
        shown = {}
        if times:
            shown = {
                "median": round(statistics.median(times), 1),
                "p95": round(times[int(0.95 * (len(times) - 1))], 1),
                "worst": round(times[-1], 1),
                "of": len(times),
            }
        return {
            "decided": self.decided,
            "keys": self.keys,
            "previews": self.previews,
            "previews_closed": self.closed,
            "seconds": round(self.seconds, 1),
            "decisions_a_minute": round(60 * self.decided / self.seconds, 1),
            "modelled": {
                "minutes": round(modelled / 60, 2),
                "decisions_a_minute": round(60 * self.decided / modelled, 1),
            },
            "next_case_ms": shown,
        }


def fill(store: Store, count: int, seed: int = 11) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add the cases; returns what is right for each, and the mix."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    digits = load_digits()
    truth: dict[str, Any] = {}
    others = max(count * 60 // 500 // len(OTHER), 1)
    for copy in range(others):
        truth |= {case: OTHER[model][1] for model, case in fill_kinds(store, copy=copy + 1).items()}
    left, grouped, sizes = count - len(truth), int(GROUPED * count), []
    while grouped >= 4:
        sizes.append(min(int(rng.integers(4, 41)), grouped))
        grouped -= sizes[-1]
    sizes += [1] * (left - sum(sizes))
    rng.shuffle(sizes)
    rows, tensors, number = [], [], 0
    for size in sizes:
        which = int(rng.integers(len(digits.images)))
        first = ""
        for _ in range(size):
            time_ns, record = START_S * 10**9 + number * 10**8, f"hour-{number}"
            identity = case_id("digits", record, time_ns)
            first = first or identity
            noise = 0.0 if size == 1 else rng.normal(0, 0.4, (8, 8))
            picture = np.clip(digits.images[which] + noise, 0, 16).astype("<f4")
            predicted = int(rng.integers(10))
            shares = rng.dirichlet(np.full(10, 0.5))
            truth[identity] = CLASSES[int(digits.target[which])]
            rows.append(
                complete(
                    t.cases,
                    {
                        "id": identity,
                        "id_hash": record_hash("digits", record),
                        "record_id": record,
                        "model": "digits",
                        "version": "2",
                        "variant": "champion",
                        "time_ns": time_ns,
                        "window_start_s": START_S,
                        "state": "open",
                        "flags": 1,
                        "rank": 0.6,
                        "p_wrong": 0.6,
                        "confidence": float(shares.max()),
                        "predicted": predicted,
                        "predicted_label": CLASSES[predicted],
                        "scores": {},
                        "probabilities": [round(float(x), 4) for x in shares],
                        "outcome": "ok",
                        "rows": 1,
                        "timing_us": {},
                        "source": "r-1",
                        "input_state": "kept",
                        "content_hash": number,
                        "group_id": first,
                        "likeness": 1.0,
                        "queue": float(rng.random()),
                        "opinions": 1,
                    },
                )
            )
            tensor = {"case_id": identity, "direction": "in", "name": "x", "position": 0, "datatype": "FP32"}
            tensors.append(tensor | {"shape": [1, 1, 8, 8], "data": picture.tobytes()})
            number += 1
    with store.write() as connection:
        connection.execute(t.cases.insert(), rows)
        connection.execute(t.case_tensors.insert(), tensors)
    groups = [s for s in sizes if s > 1]
    return truth, {
        "cases": len(truth),
        "in_groups": sum(groups),
        "groups": len(groups),
        "single": sizes.count(1),
        "other_tasks": others * len(OTHER),
    }


def another(page: Page, before: str) -> bool:
    """Wait until another case is shown; False where none waits any more."""
    page.wait_for_selector(f'{CURRENT}:not([data-case="{before}"]), #quiet:has-text("Nothing waits")', timeout=60_000)
    return page.locator(CURRENT).count() > 0


def review(console: ReviewConsole, page: Page, truth: dict[str, Any], *, groups: bool) -> Tally:
    """Press keys until nothing waits."""
    tally = Tally()
    page.goto("/review")
    page.wait_for_selector(CURRENT)
    started = time.perf_counter()
    while page.locator(CURRENT).count():
        sheet = page.locator(CURRENT)
        case, model, many = (str(sheet.get_attribute(n)) for n in ("data-case", "data-model", "data-stands-for"))
        tally.minds += 1
        done = groups and int(many) > 1 and in_group(page, case, truth, tally)
        if not done:
            keys = key_of(page, truth[case]) if model == "digits" else OTHER[model][0]
            for key in keys:
                page.keyboard.press(key)
                if key == "l":
                    page.locator("#find-list li").first.wait_for()
            tally.keys += len(keys)
            tally.decided += 1
        if not another(page, case):
            break
    page.wait_for_selector('#review[data-waiting="0"]', timeout=60_000)
    tally.seconds = time.perf_counter() - started
    tally.shown_ms = page.evaluate("performance.getEntriesByName('review:next').map(m => m.duration)")
    return tally


def in_group(page: Page, case: str, truth: dict[str, Any], tally: Tally) -> bool:
    """Decide about everything like a case, if the preview shows only what is right with the same class."""
    page.keyboard.press("g")
    tally.keys += 1
    tally.previews += 1
    count = page.locator("#like-count", has_text="would change")
    count.wait_for()
    shown = page.locator("#like-examples a").evaluate_all("all => all.map(a => a.pathname.split('/').pop())")
    tally.glances += len(shown)
    if len(shown) < 2 or any(truth[x] != truth[case] for x in shown):
        page.keyboard.press("Escape")
        tally.keys += 1
        tally.closed += 1
        return False
    (key,) = key_of(page, truth[case])
    page.keyboard.press(key)
    page.locator("#like-ask", has_text="apply").wait_for()
    page.keyboard.press("Enter")
    tally.keys += 2
    notice = page.locator(".notice", has_text="z takes it back").last
    notice.wait_for()
    tally.decided += int(notice.inner_text().split()[0].replace(",", ""))
    notice.get_by_label("Close this notice").click()  # so that the next one is the next act's; no decision waits on it
    return True


def key_of(page: Page, label: str) -> list[str]:
    """The key of a class."""
    found = page.locator(f"{CURRENT} .choice[data-value='{json.dumps(label)}']").get_attribute("data-key")
    assert found, label
    return [found]


def by_pages(console: ReviewConsole, page: Page, truth: dict[str, Any], count: int) -> Tally:
    """Open the page of each case, decide, leave."""
    tally = Tally()
    chosen = [x for x, right in truth.items() if isinstance(right, str) and right in CLASSES][:count]
    started = time.perf_counter()
    for case in chosen:
        page.goto(f"/cases/{case}")
        key = page.locator(f".case .choice[data-value='{json.dumps(truth[case])}']").get_attribute("data-key")
        page.keyboard.press(str(key))
        page.locator("#case-status", has_text="taken down").wait_for()
        tally.keys += 2  # the case is opened, and decided
        tally.minds += 1
        tally.decided += 1
    tally.seconds = time.perf_counter() - started
    return tally


def check(store: Store, truth: dict[str, Any], cases: set[str]) -> int:
    """How many of the cases were not decided as is right."""
    wrong = 0
    for case in cases:
        standing = standing_of(store, case)
        right = standing is not None and standing.label and json.loads(standing.label) == truth[case]
        wrong += not right
    return wrong


def run(way: str, count: int, chromium: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """One way, on a store of its own."""
    with tempfile.TemporaryDirectory() as folder, review_console(Path(folder), cases=1, kinds=False) as console:
        with console.store.write() as connection:
            connection.execute(t.cases.delete())
        truth, mix = fill(console.store, count)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_context(base_url=console.address).new_page()
            if way == "pages":
                tally = by_pages(console, page, truth, min(PAGES, count // 4))
                decided = {x for x in truth if (at := standing_of(console.store, x)) is not None and at.decided_by}
            else:
                tally = review(console, page, truth, groups=way == "groups")
                decided = set(truth)
            browser.close()
        return tally.result() | {"decided_wrong": check(console.store, truth, decided)}, mix


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 cases; nothing is written")
    parser.add_argument("--cases", type=int, default=500)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("there is no chromium on the PATH")
    count = 60 if given.quick else given.cases
    found: dict[str, Any] = {}
    for way in ("groups", "keys", "pages"):
        found[way], mix = run(way, count, chromium)
        print(json.dumps({way: found[way]}, indent=1), flush=True)
    if not given.quick:
        model = {"key_s": KEY_S, "mind_s": MIND_S, "glance_s": GLANCE_S}
        facts = machine_facts(RESULTS.parents[2], ("playwright", "fastapi", "uvicorn", "sqlalchemy"))
        made = {"machine": facts, "mix": mix, "model": model, "ways": found}
        RESULTS.write_text(json.dumps(made, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
