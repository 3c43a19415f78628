"""A real Prometheus beside a running stack: every query of every panel and alert returns data, exemplars lead home.

The stack is `hardcase up` as users run it, which also starts the Prometheus. Traffic, feedback, a shadow, a canary and
the response cache are real; so are the failures.
"""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from deploy.demo.digits import CLASS_NAMES, load_digits
from deploy.demo.traffic import binary_request
from deploy.observability.alerts import alerts
from deploy.observability.dashboards import boards
from deploy.observability.panels import Query
from deploy.observability.rules import Objectives
from export.contracts.manifest import Execution
from export.contracts.traffic import ChallengerMode
from export.registry import Registry
from export.retune import write_retuned
from tests.support.hardcase_process import Place, Running, free_ports
from tests.support.watching import Prometheus, program, until

pytestmark = pytest.mark.timeout(180)
MODEL = "digits"


class Clients(threading.Thread):
    """Sends digits until told to stop: some again (the cache), some turned and labelled, some spoiled."""

    def __init__(self, serving: str) -> None:
        super().__init__(daemon=True)
        self._serving = serving
        self.stopped = threading.Event()
        self.answered = 0
        self.failed = 0

    def stop(self) -> None:
        """End them."""
        self.stopped.set()
        if self.is_alive():
            self.join(20)

    def run(self) -> None:
        """Until told to stop."""
        live = load_digits().live
        with httpx.Client(base_url=self._serving, trust_env=False, timeout=20) as client:
            for turn in range(100_000):
                if self.stopped.wait(0.01):
                    return
                item = turn % 50
                image = live.images[item : item + 1]
                if turn % 7 == 0:
                    image = np.rot90(image, axes=(2, 3))
                if turn % 20 == 3:
                    image = np.full_like(image, np.nan)
                body, headers = binary_request(image, f"live-{turn}")
                status = client.post(f"/v2/models/{MODEL}/infer", content=body, headers=headers).status_code
                self.answered += status == 200
                self.failed += status == 500
                if turn % 2 and status == 200:
                    items = [{"id": f"live-{turn}", "label": CLASS_NAMES[live.labels[item]]}]
                    assert client.post(f"/v2/models/{MODEL}/feedback", json=items).status_code < 300
                if turn % 30 == 0:
                    client.post("/v2/models/nothing/infer", json={"inputs": []})


@dataclass
class Stack:
    """A running system with traffic, and the Prometheus that watches it."""

    system: Running
    prometheus: Prometheus
    clients: Clients
    began: float

    @property
    def seconds(self) -> float:
        """Since the traffic began."""
        return time.monotonic() - self.began


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    program("prometheus")
    folder: Path = tmp_path_factory.mktemp("live")
    (port,) = free_ports(1)
    place = Place.make(
        folder,
        serving={"standalone": True, "cache": {"bytes": 1 << 16}, "access_log": {"enabled": True}},
        monitor={
            "window_s": 2,
            "lateness_s": 1,
            "drift": {"min_rows": 20, "interval_s": 1},
            "cases": {"audit_rate": 0.3},
        },
        observability={"prometheus": True, "prometheus_port": port, "scrape_s": 0.5},
    )
    system = place.start()
    clients = Clients(place.serving)
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        registry = Registry(place.paths.registry)
        write_retuned(
            registry.package(MODEL, "1"), folder / "2", version="2", execution=Execution(), metrics={}, how="a test"
        )
        registry.add(folder / "2")
        registry.challenge(MODEL, "2", ChallengerMode.SHADOW, author="test")
        began = time.monotonic()
        clients.start()
        until(lambda: prometheus.ask("hardcase_shadow_rows_total > 30"), 40, "the shadow compared nothing")
        registry.challenge(MODEL, "2", ChallengerMode.CANARY, 50.0, author="test")
        until(lambda: prometheus.ask("hardcase_canary_fallbacks_total"), 40, "the canary did not begin")
        until(lambda: prometheus.ask("hardcase_accuracy_labelled"), 40, "no window with labels was closed")
        until(lambda: prometheus.ask('hardcase_accuracy_estimate_lower{method="best"}'), 60, "nothing was estimated")
        until(lambda: prometheus.ask("hardcase_drift_signal > 0"), 40, "no signal was computed")
        until(lambda: prometheus.ask("model:hardcase_request_errors:ratio_rate3d > 0"), 40, "no rule was evaluated")
        yield Stack(system, prometheus, clients, began)
        assert clients.answered > 100
        assert clients.failed > 5
    finally:
        clients.stop()
        system.ensure_stopped()


def substituted(expression: str) -> str:
    """As Grafana sends it: variables and the interval filled in. Four scrapes, as `$__rate_interval` is at least."""
    values = {"__rate_interval": "2s", "job": "hardcase.*", "model": MODEL, "version": ".*"}
    return re.sub(r"\$\{?(\w+)\}?", lambda m: values[m[1]], expression)


QUERIES: list[tuple[str, Query]] = [
    (f"{board.uid}: {panel.title}", query)
    for board in boards(Objectives())
    for row in board.rows
    for panel in row.panels
    for query in panel.queries
]


WANTS_MORE_THAN_A_TEST = (
    "hardcase_slice_",  # slices want many labels
    "hardcase_evidently_",  # a report
    "hardcase_accuracy_interval",  # labels again
    "hardcase_review_",  # people
    "hardcase_integration_",  # a labelling tool
    "hardcase_notice",  # somebody who is told
    "hardcase_monitor_dead_letters",  # something unreadable
    "hardcase_training",  # a model with a trainer, and what follows from it
    "hardcase_gate",
    "hardcase_rollout",
)


def test_every_query_of_every_panel_returns_a_number_and_the_labels_of_its_legend(stack: Stack) -> None:
    empty, unlabelled, excused = [], [], []
    for name, query in QUERIES:
        found = stack.prometheus.series(substituted(query.expression), stack.seconds)
        if not found:
            (excused if query.may_be_empty else empty).append(f"{name} {query.expression}")
        for labels, _ in found:
            missing = set(re.findall(r"{{(\w+)}}", query.legend)) - set(labels)
            if missing:
                unlabelled.append(f"{name}: {missing} not in {labels}")
    assert not empty, "\n".join(empty)
    assert not unlabelled, "\n".join(unlabelled)
    assert len(QUERIES) > 60
    unexpected = [line for line in excused if not any(family in line for family in WANTS_MORE_THAN_A_TEST)]
    assert not unexpected, "\n".join(unexpected)


def test_every_measure_of_every_alert_returns_a_number(stack: Stack) -> None:
    """So a silent alert is a healthy system and not a misspelt metric."""
    measures = sorted({m for alert in alerts(Objectives()) for m in alert.measures})
    empty = [m for m in measures if not stack.prometheus.series(m.replace("[5m]", "[2s]"), stack.seconds)]
    # Nobody is told anything here; the drill of notices has a channel, and the alert fires there.
    assert empty == [m for m in measures if "hardcase_notice_attempts_total" in m]
    assert stack.prometheus.series("hardcase_no_such_metric", stack.seconds) == []  # the negative control


def test_prometheus_took_every_rule_and_reaches_every_target(stack: Stack) -> None:
    groups = stack.prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {r["name"] for r in rules if r["type"] == "alerting"} == {a.name for a in alerts(Objectives())}
    assert {r["health"] for r in rules} == {"ok"}
    place = stack.system.place
    targets = stack.prometheus.get("targets")["activeTargets"]
    assert {t["labels"]["instance"] for t in targets} == {
        f"127.0.0.1:{place.serving_port}",
        f"127.0.0.1:{place.monitor_port}",
    }

    def healths() -> set[str]:
        return {t["health"] for t in stack.prometheus.get("targets")["activeTargets"]}

    # A scrape that a busy machine has not answered within its second is "down" until the next.
    until(lambda: healths() == {"up"}, 30, "a target stays down")


def test_an_exemplar_of_a_failure_leads_to_the_page_of_its_case(stack: Stack) -> None:
    def exemplars(query: str) -> list[dict[str, str]]:
        now = time.time()
        data = stack.prometheus.get("query_exemplars", query=query, start=now - stack.seconds, end=now)
        return [e["labels"] for series in data for e in series["exemplars"]]

    until(lambda: exemplars("hardcase_request_total_seconds_bucket"), 20, "no exemplar of the latency")
    until(lambda: exemplars("hardcase_monitor_flagged_records_total"), 20, "no exemplar of the monitor")
    failed = until(lambda: exemplars('hardcase_requests_total{outcome="failed"}'), 20, "no exemplar of a failure")
    record = failed[-1]["record_id"]
    assert record.startswith("live-")

    def page() -> httpx.Response | None:
        url = f"{stack.system.place.console}/records/{record}"
        answer = httpx.get(url, trust_env=False, follow_redirects=True, timeout=20)
        return answer if answer.status_code == 200 else None

    found = until(page, 20, "the record does not open")
    if "/cases/" in str(found.url):
        assert record in found.text
    else:  # its window's budget was full of others
        assert found.json()["records"][0]["record_id"] == record


def test_up_says_where_prometheus_is_and_ends_it_with_the_rest(stack: Stack) -> None:
    system = stack.system
    assert f"prometheus  {stack.prometheus.url}/alerts" in system.log
    assert "hardcase render grafana" in system.log
    rendered = system.place.json("render", "grafana", "-o", "grafana")
    source = (system.place.folder / "grafana/provisioning/datasources/hardcase.yml").read_text()
    assert f"url: {stack.prometheus.url}" in source
    assert len(rendered["files"]) == 6
    stack.clients.stop()
    children = json.loads(system.place.paths.run_file.read_text())["children"]
    assert set(children) == {"serving", "monitor", "prometheus"}
    assert system.stop(signal.SIGINT) == 0
    assert system.left_over() == []
    with pytest.raises(httpx.TransportError):
        httpx.get(stack.prometheus.url, trust_env=False)
