"""The pages as contexts and as HTML, without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions, IngestHealth
from monitoring.console import charts
from monitoring.console.parts import Axis, Panel, Point, Series
from monitoring.report_frames import Frame
from monitoring.report_shelf import ReportRequest
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client as connected
from tests.support.console_store import CLASSES, Day, MemoryCatalogue, StillMonitor, fill, manifest

CONSOLE = Path(charts.__file__).parent


@dataclass(kw_only=True)
class World:
    client: httpx.Client
    day: Day
    monitor: StillMonitor

    def page(self, path: str, status: int = 200) -> str:
        response = self.client.get(path, headers={"accept": "text/html"})
        assert response.status_code == status, response.text[:300]
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        return response.text

    def twin(self, path: str) -> Any:
        response = self.client.get(path + ("&" if "?" in path else "?") + "format=json")
        assert response.status_code == 200, response.text[:300]
        return response.json()


def refuse(request: ReportRequest, most: int) -> tuple[Frame, Frame]:
    raise AssertionError("no report is wanted here")


def world_of(root: Path, *, empty: bool) -> Iterator[World]:
    store = Store(f"sqlite:///{root}/m.db")
    day = Day(windows=0, case_ids=(), record_ids=()) if empty else fill(store)
    catalogue = MemoryCatalogue() if empty else MemoryCatalogue(manifests=(manifest(version="1"), manifest()))
    reports = ReportService(
        ReportOptions(folder=root / "reports"), lambda request, most: (_ for _ in ()).throw(KeyError)
    )
    monitor = StillMonitor()
    with connected(build_console(store, catalogue, monitor, list, ConsoleOptions(), reports=reports)) as client:
        yield World(client=client, day=day, monitor=monitor)
    reports.close()
    store.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from world_of(tmp_path_factory.mktemp("pages"), empty=False)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from world_of(tmp_path_factory.mktemp("nothing"), empty=True)


class Outline(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def every_path(world: World) -> list[str]:
    case, failed = world.day.case_ids[0], world.day.case_ids[9]
    return ["/", "/models/digits", "/models/digits?version=1", "/cases", "/cases?state=open&order=time",
            f"/cases/{case}", f"/cases/{failed}", "/reports", "/sign-in"]  # fmt: skip


def test_nothing_on_a_page_is_inline_or_from_elsewhere(world: World) -> None:
    for path in every_path(world):
        for tag, attributes in Outline(world.page(path)).tags:
            assert "style" not in attributes, (path, tag)
            assert not any(name.startswith("on") for name in attributes), (path, tag)
            for name in ("src", "href", "action"):
                target = attributes.get(name)
                assert target is None or target.startswith(("/", "#")), (path, tag, target)
            if tag == "script":
                assert attributes.get("src"), path
            assert tag not in ("style", "iframe", "object", "embed", "base")


def test_pictures_have_texts_and_fields_have_labels_and_headings_start_once(world: World) -> None:
    for path in every_path(world):
        html = world.page(path)
        outline = Outline(html).tags
        assert all("alt" in a for t, a in outline if t == "img"), path
        assert sum(t == "h1" for t, _ in outline) == 1, path
        assert 'lang="en"' in html
        fields = len(re.findall(r"<(?:select|input)(?![^>]*type=\"hidden\")", html))
        assert len(re.findall(r"<label\b", html)) >= fields, path
        ids = [a["id"] for _, a in outline if a.get("id")]
        assert len(ids) == len(set(ids)), path


def test_every_link_of_the_pages_leads_somewhere(world: World) -> None:
    seen: set[str] = set()
    waiting = ["/"]
    while waiting and len(seen) < 60:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        response = world.client.get(path, headers={"accept": "text/html"})
        assert response.status_code == 200, path
        if response.headers["content-type"].startswith("text/html"):
            targets = [a.get("href") or a.get("src") or "" for t, a in Outline(response.text).tags if t in ("a", "img")]
            waiting += [t for t in targets if t.startswith("/")]
    assert len(seen) == 60


def test_the_twin_holds_what_the_page_shows(world: World) -> None:
    twin = world.twin("/")
    html = world.page("/")
    for tile in twin["tiles"]:
        assert tile["value"] in html
    assert twin["models"][0]["versions"][0]["role"] == "champion"
    assert f"{twin['balance']['requests']:,}" in html
    assert twin["shell"]["open_cases"] == world.twin("/cases?state=open")["total"]


def test_the_case_page_marks_prediction_and_truth(world: World) -> None:
    for identity in world.day.case_ids:
        twin = world.twin(f"/cases/{identity}")
        roles = {b["role"]: b["label"] for b in twin["bars"]}
        if twin["card"]["outcome"] != "ok":
            assert twin["bars"] == []
            continue
        assert roles.get("predicted", roles.get("both")) == twin["card"]["predicted"]
        if twin["card"]["label"] in CLASSES:
            assert roles.get("truth", roles.get("both")) == twin["card"]["label"]
            wrong = twin["card"]["predicted"] != twin["card"]["label"]
            assert twin["verdict"] == ("the answer was wrong" if wrong else "the answer was right")


def test_filters_stay_chosen_through_the_pages(world: World) -> None:
    first = world.twin("/cases?model=digits&order=time")
    assert first["next_href"].startswith("/cases?model=digits&order=time&cursor=")
    second = world.twin(first["next_href"])
    assert second["first_href"] == "/cases?model=digits&order=time"
    chosen = {f["name"]: next(c["value"] for c in f["choices"] if c["chosen"]) for f in second["filters"]}
    assert chosen["model"] == "digits"
    assert chosen["order"] == "time"
    assert not {c["id"] for c in first["cases"]} & {c["id"] for c in second["cases"]}
    assert [f["name"] for f in second["filters"]][1] == "version"


def test_an_empty_monitor_says_what_to_do_next(nothing: World) -> None:
    assert "hardcase registry add" in nothing.page("/")
    assert "No cases yet" in nothing.page("/cases")
    assert "No reports yet" in nothing.page("/reports")
    assert "No case fits" in nothing.page("/cases?state=open")
    tiles = {t["label"]: t["value"] for t in nothing.twin("/")["tiles"]}
    assert tiles["Accuracy"] == "\u2013"
    assert tiles["Alarms"] == "0"


def test_a_monitor_that_hangs_says_so_on_every_page(world: World) -> None:
    world.monitor.state = IngestHealth(heartbeat_age_s=999.0)
    try:
        assert "has not come round for 999 s" in world.page("/cases")
        assert 'class="health bad"' in world.page("/")
    finally:
        world.monitor.state = StillMonitor().state


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/nowhere", 404, "There is nothing at this address"),
        ("/models/none", 404, "There is no model"),
        ("/cases?order=size", 400, "Order: Input should be"),
        ("/cases/0123456789abcdef", 404, "There is no case with this id"),
        ("/models/<script>", 400, "Model: string should match"),
    ],
)
def test_an_error_is_a_page_for_people(world: World, path: str, status: int, text: str) -> None:
    html = world.page(path, status)
    assert text in html
    assert "<script>" not in html.replace("<script type", "")


def test_every_page_record_is_frozen_and_has_words_for_every_name() -> None:
    from monitoring.case_rows import InputState
    from monitoring.console import contexts, words
    from monitoring.drift import Method, SignalState

    for kind in vars(contexts).values():
        if hasattr(kind, "__dataclass_params__"):
            assert kind.__dataclass_params__.frozen, kind
    assert set(words.METHODS) >= {m.value for m in Method}
    assert set(words.SIGNAL_STATES) == {s.value for s in SignalState}
    assert set(words.INPUT_STATES) == {s.value for s in InputState} - {"kept"}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(scheme: int) -> None:
    """WCAG 2.2, 1.4.3: 4.5 for text; 1.4.11: 3 for what a chart is made of."""
    css = (CONSOLE / "static" / "console.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[0]))
    if scheme:
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[1]))
    for text in ("ink", "muted", "accent", "good", "warn", "bad"):
        for ground in ("panel", "bg"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for tone in ("good", "warn", "bad", "accent"):
        assert contrast(colours[tone], colours[f"{tone}-soft"]) >= 4.5, tone
    assert contrast(colours["muted"], colours["sunken"]) >= 4.5
    for tone in ("c1", "c2", "c3", "c4", "c5", "cbad"):
        assert contrast(colours[tone], colours["panel"]) >= 3, tone


def panel(values: list[float | None], **changes: Any) -> Panel:
    points = tuple(Point(at_s=600 + 60 * i, value=v) for i, v in enumerate(values))
    facts: dict[str, Any] = {
        "key": "k", "title": "T", "hint": "h", "unit": "count",
        "axis": Axis(from_s=600, to_s=600 + 60 * len(values), step_s=60),
        "series": (Series(name="s", tone="tone-1", points=points),),
    }  # fmt: skip
    return Panel(**facts | changes)


def test_a_gap_in_a_series_is_a_gap_in_its_line() -> None:
    drawing = charts.draw(panel([1.0, 2.0, None, None, None, None, 3.0, 2.0]))
    assert drawing.lines[0].path.count("M") == 2


def test_a_lonely_value_is_drawn_as_a_dot() -> None:
    assert len(charts.draw(panel([None, 5.0, None])).lines[0].dots) == 1


def test_stacked_bars_fill_the_sum_and_stay_inside() -> None:
    series = tuple(
        Series(name=n, tone="tone-1", points=(Point(at_s=600, value=v),)) for n, v in (("a", 30.0), ("b", 70.0))
    )
    drawing = charts.draw(panel([1.0], series=series, bars=True))
    low, high = drawing.bars
    assert low.y == pytest.approx(high.y + high.height, abs=0.2)
    assert low.height / high.height == pytest.approx(3 / 7, abs=0.02)
    assert all(drawing.top <= b.y <= drawing.bottom for b in drawing.bars)


def test_a_chart_without_a_value_is_empty_and_one_with_only_zeros_is_not() -> None:
    assert charts.draw(panel([None, None])).empty
    assert not charts.draw(panel([0.0, 0.0])).empty


def test_numbers_read_as_people_write_them() -> None:
    assert charts.number(12345.0, "count") == "12,345"
    assert charts.number(0.973, "share") == "97.3 %"
    assert charts.number(None, "share") == "\u2013"
    assert charts.number(1.8, "ratio") == "1.8\u00d7"
