"""The demo's judgement: each claim can fail, cases are ranked before labels are known, the page is complete."""

from __future__ import annotations

from dataclasses import asdict, replace
from html.parser import HTMLParser
from typing import Any

import httpx
import numpy as np
import pytest

from deploy.demo import findings as f
from deploy.demo.claims import judge
from deploy.demo.page import render
from deploy.demo.shifts import Shift
from deploy.demo.story import phases
from deploy.demo.traffic import Phase, Sent, binary_request
from deploy.errors import CommandError, Missing, NotRunning
from deploy.monitor_client import MonitorClient


def case(number: int, *, correct: bool | None = False, **more: Any) -> f.CaseResult:
    facts = dict(
        id=f"{number:016x}", record_id=f"demo-r-blur-{number:04d}", phase="blur", predicted="3", label="5",
        p_wrong=0.5, reasons=["low_confidence"], correct=correct, link=f"http://x/cases/{number}", picture=None,
    )  # fmt: skip
    return f.CaseResult(**{**facts, **more})


def phase(key: str, accuracy: float | None, *, harmful: bool, labelled: int = 100, failed: int = 0) -> f.PhaseResult:
    return f.PhaseResult(
        key=key, title=key, harmful=harmful, requests=labelled, failed=failed, labelled=labelled,
        accuracy=accuracy, confidence=0.9,
    )  # fmt: skip


def signal(before: bool, under: bool) -> f.SignalResult:
    return f.SignalResult(
        kind="input", method="psi", subject="mean", before=0.01, under=0.5, threshold=0.1,
        exceeded_before=before, exceeded_under=under,
    )  # fmt: skip


GOOD = f.Findings(
    run="r", started_at="2026-11-21T00:00:00Z", seconds=1.0, console="http://127.0.0.1:1",
    phases=[
        phase("healthy", 0.97, harmful=False), phase("brightness", 0.96, harmful=False),
        phase("rotation", 0.4, harmful=True, labelled=300), phase("noise", 0.6, harmful=True, labelled=100),
    ],
    signals=[signal(before=False, under=True)],
    cases=[case(n, correct=n >= 36) for n in range(50)],
    flagged=80,
    accounting={"balanced": True, "requests": 600, "captured": 600},
)  # fmt: skip


def failing(found: f.Findings) -> list[str]:
    return [c.name for c in judge(found) if not c.holds]


def test_a_good_day_holds():
    assert failing(GOOD) == []


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"phases": [*GOOD.phases[:3], phase("noise", 0.6, harmful=True, failed=1)]}, "every request was answered"),
        ({"phases": [*GOOD.phases[:2], phase("rotation", 0.9, harmful=True)]}, "accuracy drops under the shift"),
        ({"phases": [*GOOD.phases[:2], phase("rotation", None, harmful=True)]}, "accuracy drops under the shift"),
        ({"phases": [GOOD.phases[0], phase("brightness", 0.9, harmful=False), *GOOD.phases[2:]]}, "more light"),
        ({"signals": [signal(before=False, under=False)]}, "drift signals rise"),
        ({"signals": [signal(before=True, under=True)]}, "drift signals rise"),
        ({"signals": []}, "drift signals rise"),
        ({"cases": [case(n, correct=n >= 34) for n in range(50)]}, "the top 50 flagged cases"),
        ({"cases": [case(n) for n in range(49)]}, "the top 50 flagged cases"),
        ({"cases": [case(n, correct=None if n > 30 else False) for n in range(50)]}, "the top 50 flagged cases"),
        ({"accounting": {"balanced": False}}, "every request is accounted for"),
    ],
)
def test_each_claim_can_fail(change: dict[str, Any], claim: str):
    (name,) = failing(replace(GOOD, **change))
    assert name.startswith(claim)


def test_accuracy_under_the_shift_is_weighted_by_labels():
    assert f.shifted_accuracy(GOOD) == pytest.approx((0.4 * 300 + 0.6 * 100) / 400)
    assert f.shifted_accuracy(replace(GOOD, phases=GOOD.phases[:2])) is None


def client_of(answers: dict[str, Any]) -> MonitorClient:
    def handle(request: httpx.Request) -> httpx.Response:
        status, body = answers.get(request.url.path, (404, {"error": "unknown"}))
        return httpx.Response(status, json=body)

    return MonitorClient("http://m", client=httpx.Client(base_url="http://m", transport=httpx.MockTransport(handle)))


def test_only_score_flags_of_this_runs_harmful_requests_count_as_flagged():
    blur = Phase(key="blur", title="", shift=Shift.BLUR, count=2, seconds=0, harmful=True)
    sent = [
        Sent(phase=blur, ids=["demo-r-blur-0000", "demo-r-blur-0001"], labels=[1, 2], first_ns=10**18, last_ns=10**18)
    ]
    found = [
        {"record_id": "demo-r-blur-0001", "reasons": ["low_confidence"]},
        {"record_id": "demo-r-blur-0000", "reasons": ["audit"]},
        {"record_id": "demo-other-blur-0000", "reasons": ["novelty"]},
    ]
    client = client_of({"/api/cases": (200, {"cases": found, "next": None})})
    assert f.flagged_cases(client, sent) == found[:1]


def test_the_monitors_refusals_become_the_commands_errors():
    client = client_of({"/bad": (400, {"error": "limit: too large"}), "/secret": (401, {"error": "no token"})})
    with pytest.raises(Missing, match="unknown"):
        client.get("/nowhere")
    with pytest.raises(CommandError, match="limit: too large"):
        client.get("/bad")
    with pytest.raises(CommandError) as caught:
        client.get("/secret")
    assert "HARDCASE_MONITOR_TOKEN" in caught.value.hint
    with pytest.raises(NotRunning, match="no monitor answers"):
        MonitorClient("http://127.0.0.1:1").get("/api/health")


def test_cases_are_collected_over_pages():
    pages = {None: (["a", "b"], "p2"), "p2": (["c"], None)}

    def handle(request: httpx.Request) -> httpx.Response:
        names, following = pages[request.url.params.get("cursor")]
        return httpx.Response(200, json={"cases": [{"id": n} for n in names], "next": following})

    client = MonitorClient("http://m", client=httpx.Client(base_url="http://m", transport=httpx.MockTransport(handle)))
    assert [c["id"] for c in client.cases(limit=10)] == ["a", "b", "c"]
    assert [c["id"] for c in client.cases(limit=2)] == ["a", "b"]


def test_a_binary_request_is_what_the_servers_own_parser_reads():
    image = np.random.default_rng(4).random((1, 1, 8, 8), dtype=np.float32)
    body, headers = binary_request(image, "id-1")
    cut = int(headers["Inference-Header-Content-Length"])
    np.testing.assert_array_equal(np.frombuffer(body[cut:], "<f4").reshape(image.shape), image)
    assert b'"binary_data_size": 256' in body[:cut]


def test_the_story_ends_its_healthy_part_with_the_window():
    day = phases(quick=False, healthy_s=31.5)
    assert day[0].seconds == 31.5
    assert [p.harmful for p in day] == [False, False, True, True, True, True]
    assert sum(p.seconds for p in day[1:]) <= 15, "the whole story fits into a minute and a half"


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_needs_nothing_from_outside_and_lets_nothing_in():
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    found = replace(GOOD, cases=[case(0, predicted=evil, label=evil, phase=evil, link="http://x/" + evil)], run=evil)
    page = Page()
    page.feed(render(replace(found, claims=judge(found)), None))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert not [a for tag, a in page.tags if tag in ("link", "iframe", "img")]
    assert evil in page.words


def test_the_page_shows_every_case_and_claim():
    page = render(replace(GOOD, claims=judge(GOOD)), None)
    assert page.count("<li><a href=") == 50
    assert page.count("holds</b>") == len(judge(GOOD))
    assert "36 of 50" in page


def test_the_report_can_be_written_as_json():
    import json

    assert json.loads(json.dumps(asdict(GOOD)))["flagged"] == 80
