"""gRPC, against our own server: the same accounts, the same errors."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.cli import main
from deploy.loadtest.measure import Stability
from deploy.loadtest.orders import Mode
from deploy.loadtest.parsing import parse_target
from deploy.loadtest.session import Plan, Quiet, measure_subject, open_subject, run
from deploy.loadtest.tensors import Payload, Tensor
from export.contracts.datatypes import Datatype
from export.registry import Registry
from serving.options import ApiKey, AuthOptions, ServingOptions
from tests.support import packages
from tests.support.load import Ending
from tests.support.server import Server, standalone

TOKEN = "s3cret"
QUICK = ("--window", "0.2", "--warm-up", "0.1", "--max-windows", "1", "--workers", "1")
PLAN = Plan(
    model="digits",
    window_s=0.4,
    warm_up_s=0.2,
    stability=Stability(most=2, least=2, share=0.000001),
    workers=1,
    headers={"Authorization": f"Bearer {TOKEN}"},
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("grpc")
    registry = Registry(folder / "registry")
    for package in (packages.digits_like_package(folder / "made"), packages.echo_package(folder / "made")):
        registry.add(package.dir)
        registry.promote(package.manifest.name, "1", author="test")
    key = ApiKey(name="bench", sha256=hashlib.sha256(TOKEN.encode()).hexdigest())
    options = ServingOptions(registry="", records="", auth=AuthOptions(keys=(key,)))
    with standalone(folder / "server", registry.root, options=options, token=TOKEN) as running:
        yield running


@pytest.fixture
def address(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HARDCASE_TOKEN", TOKEN)
    return f"grpc://{server.grpc_netloc}"


@pytest.mark.parametrize("mode", list(Mode))
def test_the_server_has_seen_every_call_that_was_counted(server: Server, address: str, mode: Mode):
    def successes() -> int:
        (entry,) = server.get("/v2/models/digits/stats")["model_stats"]
        counted: int = entry["inference_stats"]["success"]["count"]
        return counted

    before = successes()
    plan = replace(PLAN, mode=mode, levels=(100.0,) if mode is Mode.RATE else (20.0,))
    ((subject,), _) = asyncio.run(run([parse_target(address, None)], plan))
    (level,) = subject.levels
    assert level.errors == {}
    assert level.latency.count > 30
    assert successes() - before == level.answered_in_all + 1
    assert level.server is not None
    assert level.server.infer_us > 0


def test_bytes_and_chosen_outputs_travel(address: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", address, "-m", "echo", "-b", "3", "-c", "2", *QUICK, "--json", "-"]) == 0
    assert main(["bench", address, "-m", "digits", "--output", "embedding", "-c", "2", *QUICK]) == 0
    (subject,) = json.loads(capsys.readouterr().out.partition("\n}\n")[0] + "}")["subjects"]
    (level,) = subject["levels"]
    assert level["errors"] == {}
    assert level["rows_per_s"] == pytest.approx(3 * level["throughput"], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["ADDRESS", "-m", "nobody"], 3, "no model 'nobody'"),
        (["ADDRESS", "-m", "digits", "--output", "nothing"], 1, "refused with INVALID_ARGUMENT"),
        (["grpc://127.0.0.1:9", "-m", "digits"], 5, "no answer from grpc://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_measured_is_said(
    address: str, arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["bench", *(a.replace("ADDRESS", address) for a in arguments)]) == code
    err = capsys.readouterr().err.replace("\n", " ")
    assert expected in err
    assert "Traceback" not in err


def test_a_credential_is_asked_for(address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.delenv("HARDCASE_TOKEN")
    assert main(["bench", address, "-m", "digits", "-c", "1", *QUICK]) == 1
    assert "HARDCASE_TOKEN" in capsys.readouterr().err


def test_refused_calls_are_counted_by_status(address: str):
    """The first request has the right token, the load a wrong one."""
    plan = replace(PLAN, levels=(2.0,), headers={"authorization": "Bearer wrong"})
    opening = open_subject(parse_target(address, None), PLAN)
    subject, _ = asyncio.run(measure_subject(opening, plan, Quiet()))
    (level,) = subject.levels
    assert level.errors.keys() == {"grpc UNAUTHENTICATED"}
    assert level.throughput == 0
    opening.control.close()


def test_messages_larger_than_any_window_arrive_whole(address: str):
    """Strings of 3 MB in all, up and down: many frames, and flow control in both directions."""
    word = b"hardcase" * 1024
    rows = np.full((400, 1), word, dtype=object)
    tensor = Tensor(name="text", datatype=Datatype.BYTES, array=rows)
    plan = replace(PLAN, model="echo", levels=(3.0,), outputs=("echo",))
    opening = open_subject(parse_target(address, None), plan)
    large = replace(opening, payloads=(Payload(tensors=(tensor,), rows=len(rows)),))
    subject, _ = asyncio.run(measure_subject(large, plan, Quiet()))
    opening.control.close()
    (level,) = subject.levels
    assert level.errors == {}
    assert level.latency.count > 0
    per_answer = level.received_bytes_per_s / level.throughput
    assert per_answer == pytest.approx(rows.size * (len(word) + 4), rel=0.3), "a window's edge may cut one off"


def test_a_server_that_stops_under_load_lets_calls_end(tmp_path: Path):
    """It says GOAWAY, finishes what it has, and is gone: no call may hang."""
    registry = Registry(tmp_path / "registry")
    registry.add(packages.digits_like_package(tmp_path / "made").dir)
    registry.promote("digits", "1", author="test")
    with standalone(tmp_path / "server", registry.root) as server:
        stopper = Ending(server.pid, signal.SIGTERM)
        four = Stability(most=4, least=4, share=0.000001)
        plan = replace(PLAN, levels=(20.0,), stability=four, headers={}, timeout_s=5.0)
        ((subject,), _) = asyncio.run(run([parse_target(f"grpc://{server.grpc_netloc}", None)], plan, stopper))
    (level,) = subject.levels
    assert level.latency.count > 0
    assert level.windows[-1].throughput == 0
    assert "cannot connect" in level.errors
    assert set(level.errors) <= {"cannot connect", "connection lost", "grpc UNAVAILABLE", "grpc CANCELLED"}
