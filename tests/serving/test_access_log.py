"""The access log: a line for every request, whatever became of it, in files that are bounded, off the hot path."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from export.registry import Registry
from serving.auth import hash_token
from serving.observers import Backlog
from serving.options import AccessLogOptions, ApiKey, AuthOptions, ServingOptions
from tests.support.packages import digits_like_package
from tests.support.server import infer_path, standalone
from tests.support.traffic import digits
from tests.support.wire import Tensor, request

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TOKEN = "s3cret-of-the-access-log"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("lane", ["fast", "asgi"])
def test_every_request_has_its_line_and_no_line_holds_a_secret(tmp_path: Path, lane: str) -> None:
    registry = Registry(tmp_path / "registry")
    registry.add(digits_like_package(tmp_path).dir)
    registry.promote("digits", "1", author="test")
    options = ServingOptions(
        registry="",
        records="",
        auth=AuthOptions(keys=(ApiKey(name="ci", sha256=hash_token(TOKEN)),)),
        access_log=AccessLogOptions(folder=str(tmp_path / "access")),
    )
    with standalone(tmp_path / "server", registry.root, lane=lane, options=options, token=TOKEN) as server:
        server.client.headers["traceparent"] = f"00-{TRACE}-00f067aa0ba902b7-00"
        server.infer("digits", digits(3), id="good")
        wrong = Tensor(name="x", datatype=Datatype.FP32, array=np.zeros((1, 1, 9, 8), np.float32))
        headers, body = request([wrong], id="bad")
        server.refused("digits", headers, body)
        headers, body = request(digits())
        assert server.client.post(infer_path("nowhere"), content=body, headers=headers).status_code == 404
    found = lines(tmp_path / "access")
    assert [(line["model"], line["outcome"], line["status"]) for line in found] == [
        ("digits", "ok", 200),
        ("digits", "invalid", 400),
        ("nowhere", "invalid", 404),
    ]
    good = found[0]
    assert good["id"] == "good"
    assert good["rows"] == 3
    assert good["caller"] == "ci"
    assert good["version"] == "1"
    assert good["variant"] == "champion"
    assert good["transport"] == "http"
    assert good["trace_id"] == TRACE
    assert 0 <= good["queue_ms"] <= good["total_ms"]
    assert 0 < good["infer_ms"] <= good["total_ms"]
    assert abs(time.time() - time.mktime(time.strptime(good["time"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 120
    assert "shape" in found[1]["error"]
    assert TOKEN not in (tmp_path / "access").joinpath("standalone.jsonl").read_text()


def test_files_are_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    from export.contracts.errors import NotFound
    from export.contracts.traffic import Variant
    from serving.access_log import AccessLog
    from serving.call import Call
    from serving.capture import outcome_of
    from serving.observers import Turned

    log = AccessLog(AccessLogOptions(folder=str(tmp_path), rotate_bytes=2000, keep=2), "r1")
    error = NotFound("unknown model")
    for number in range(200):
        log.turned(
            Turned(
                Call(model="m"), "", Variant.CHAMPION, outcome_of(error), "ci", b"%d" % number, time.time_ns(), error
            )
        )
        if number % 10 == 9:
            while number not in [int(line["id"]) for line in lines(tmp_path)]:  # one bunch
                time.sleep(0.02)
    log.close()
    assert (
        sorted(p.name for p in tmp_path.iterdir())
        == ["r1.1.jsonl", "r1.2.jsonl", "r1.jsonl"][: len(list(tmp_path.iterdir()))]
    )
    kept = [int(line["id"]) for line in lines(tmp_path)]
    assert 199 in kept
    assert 0 not in kept
    assert all(p.stat().st_size < 6000 for p in tmp_path.iterdir())
    assert log.dropped == 0


def test_a_thread_that_is_too_slow_costs_lines_and_never_time() -> None:
    held = threading.Event()
    seen: list[int] = []

    def work(items: list[int]) -> None:
        held.wait(10)
        seen.extend(items)

    backlog: Backlog[int] = Backlog("slow", work, interval_s=0.01, places=10)
    backlog.put(0)
    time.sleep(0.1)  # the thread has taken it and is stuck
    started = time.perf_counter()
    for number in range(1, 1000):
        backlog.put(number)
    assert time.perf_counter() - started < 0.5
    held.set()
    backlog.close()
    assert seen == list(range(11))
    assert backlog.dropped == 989


def test_a_folder_that_cannot_be_written_costs_lines_and_is_tried_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def work(items: list[int]) -> None:
        calls.append(len(items))
        if len(calls) == 1:
            raise OSError("no space left")

    backlog: Backlog[int] = Backlog("failing", work, interval_s=0.01)
    backlog.put(1)
    while not calls:
        time.sleep(0.01)
    backlog.put(2)
    backlog.close()
    assert calls == [1, 1]
    assert backlog.dropped == 1


def test_without_the_setting_nothing_is_observed(tmp_path: Path) -> None:
    assert replace(ServingOptions(registry="", records=""), fast_lane=True).access_log is None
