"""The report of `hardcase bench` in a real browser: whole, in both colour schemes, and asking nobody for anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from deploy.loadtest.orders import Mode, Protocol
from deploy.loadtest.page import write_page
from deploy.loadtest.results import (
    CURVE_PERCENTS,
    Goal,
    Latency,
    Level,
    Report,
    ServerSplit,
    Subject,
    WindowResult,
)

pytestmark = pytest.mark.browser


def level(callers: int, throughput: float, slow: float, *, split: bool) -> Level:
    usual = {"p50_us": 200 * slow, "p90_us": 400 * slow, "p95_us": 600 * slow, "p99_us": 1500 * slow}
    return Level(
        mode=Mode.CONCURRENCY,
        value=callers,
        stable=callers != 2,
        seconds=3.0,
        throughput=throughput,
        rows_per_s=throughput,
        errors={"http 503": 3} if callers == 4 else {},
        latency=Latency(count=9000, mean_us=300 * slow, min_us=90, p999_us=3000 * slow, max_us=9000 * slow, **usual),
        server=ServerSplit(
            requests=9000,
            failed=0,
            queue_us=40 * slow,
            input_us=10,
            infer_us=60,
            output_us=5,
            total_us=130 * slow,
            mean_batch_rows=callers * 0.7,
        )
        if split
        else None,
        windows=tuple(WindowResult(throughput=throughput * f, errors=0, at_us=1.0, max_us=2.0) for f in (0.9, 1, 1.1)),
        curve=tuple((p, 100 * slow * (1 + p * p / 500)) for p in CURVE_PERCENTS if p <= 99.9),
        notes=("not stable: no 3 of 6 windows",) if callers == 2 else (),
    )


def report() -> Report:
    def subject(name: str, slow: float, best: int | None, *, split: bool) -> Subject:
        return Subject(
            name=name,
            address="http://127.0.0.1:8000",
            protocol=Protocol.HTTP,
            server=f"{name} 1.0",
            model="digits",
            version="1",
            encoding="binary",
            levels=tuple(level(c, 4000 * c**0.5 / slow, slow * c**0.5, split=split) for c in (1, 2, 4, 8, 16)),
            best=best,
        )

    return Report(
        created_at="2026-11-21T05:00:00Z",
        settings={"load": "closed loop"},
        environment={"processor": "a fast one"},
        goal=Goal(percentile=99.0, limit_us=5000.0),
        subjects=(subject("ours", 1.0, 3, split=True), subject("theirs", 4.0, None, split=False)),
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
def test_the_page_is_whole_and_asks_nobody(browser: Browser, tmp_path: Path, scheme: str, width: int):
    write_page(report(), tmp_path / "page.html")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})  # type: ignore[arg-type]
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto((tmp_path / "page.html").as_uri())
    assert asked == [(tmp_path / "page.html").as_uri()]
    assert complaints == []
    assert page.locator("svg.plot").count() == 2
    assert page.locator(".card").count() == 2
    assert page.locator("tr.best").count() == 1
    assert page.locator("svg.split").count() == 5
    assert "3 requests failed" not in page.content(), "notes are the levels' own"
    assert page.locator(".card").first.inner_text().startswith("ours")
    assert "times" not in page.locator(".card").first.inner_text(), "the other one does not keep the target"
    assert "over the target" in page.locator(".card").nth(1).inner_text()
    # Nothing sticks out: only tables may scroll, inside their own box.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for plot in page.locator("svg.plot").all():
        box = plot.bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["x"] >= 0
    drawn = page.locator("svg.plot path.line").evaluate_all("paths => paths.map(p => p.getTotalLength())")
    assert len(drawn) == 2 * 2 + 2
    assert all(length > 50 for length in drawn)
    ink = page.evaluate("getComputedStyle(document.body).color")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert contrast(ink, ground) > 7
    context.close()


def contrast(first: str, second: str) -> float:
    """WCAG's contrast of two `rgb(r, g, b)` colours."""

    def luminance(colour: str) -> float:
        parts = [int(c) / 255 for c in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)
