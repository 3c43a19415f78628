"""`hardcase bench` against our own server: every request accounted for, the split, the errors, the exit codes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.loadtest.measure import Stability
from deploy.loadtest.orders import Mode
from deploy.loadtest.parsing import parse_target
from deploy.loadtest.report import read_report
from deploy.loadtest.session import Plan, run
from export.registry import Registry
from serving.options import ApiKey, AuthOptions, ServingOptions
from tests.support import packages
from tests.support.server import ROOT, Server, standalone

TWO = Stability(most=2, least=2, share=0.000001)
PLAN = Plan(model="digits", window_s=0.4, warm_up_s=0.2, stability=TWO, workers=1, levels=(4.0,))
QUICK = ("--window", "0.2", "--warm-up", "0.1", "--max-windows", "1", "--workers", "1")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    made = Registry(folder / "registry")
    for package in (
        packages.digits_like_package(folder / "made"),
        packages.multi_input_package(folder / "made"),
        packages.echo_package(folder / "made"),
        packages.variable_length_package(folder / "made", name="varlen"),
        packages.unbatched_package(folder / "made", name="plain"),
    ):
        made.add(package.dir)
        made.promote(package.manifest.name, package.manifest.version, author="test")
    return made


@pytest.fixture(scope="module")
def server(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with standalone(tmp_path_factory.mktemp("server"), registry.root) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARDCASE_TOKEN", raising=False)
    return tmp_path


def successes(server: Server, model: str) -> int:
    (entry,) = server.get(f"/v2/models/{model}/stats")["model_stats"]
    counted: int = entry["inference_stats"]["success"]["count"]
    return counted


@pytest.mark.parametrize("mode", list(Mode))
def test_the_server_has_seen_every_request_that_was_counted(server: Server, mode: Mode):
    """All that was sent: warm-up, windows, what was under way at the end, and the first request of all."""
    before = successes(server, "digits")
    plan = replace(PLAN, mode=mode, levels=(300.0,) if mode is Mode.RATE else (4.0,))
    ((subject,), _) = asyncio.run(run([parse_target(server.url, None)], plan))
    (level,) = subject.levels
    seen = successes(server, "digits") - before
    assert level.errors == {}
    assert level.failed_in_all == 0
    assert seen == level.answered_in_all + 1, "and the first request of all"
    assert level.latency.count < level.answered_in_all
    assert level.server is not None
    # The statistics are read just after each window's end, so they may hold a little more or less than the windows do.
    assert level.server.requests == pytest.approx(level.latency.count, rel=0.3)
    if mode is Mode.RATE:
        assert seen == pytest.approx(level.latency.count + 0.2 * 300, rel=0.35)
        assert level.throughput == pytest.approx(300, rel=0.25)
    split = level.server
    assert split.failed == 0
    assert 0 < split.infer_us < split.total_us
    assert split.queue_us + split.input_us + split.infer_us + split.output_us <= split.total_us * 1.02
    assert split.mean_batch_rows is not None
    assert split.mean_batch_rows >= 1


def test_rows_and_the_split_follow_the_batch(server: Server):
    ((subject,), _) = asyncio.run(run([parse_target(server.url, None)], replace(PLAN, batch=8, levels=(1.0,))))
    (level,) = subject.levels
    assert level.server is not None
    assert level.server.mean_batch_rows == 8
    assert level.rows_per_s == pytest.approx(8 * level.throughput, rel=1e-3)


@pytest.mark.parametrize("encoding", ["binary", "json"])
@pytest.mark.parametrize(
    ("model", "more"),
    [("multi", ()), ("echo", ()), ("varlen", ("--shape", "x:7")), ("plain", ()), ("digits", ("--output", "embedding"))],
)
def test_every_kind_of_model_can_be_loaded(
    server: Server, here: Path, model: str, more: tuple[str, ...], encoding: str, capsys: pytest.CaptureFixture[str]
):
    arguments = ["bench", server.url, "-m", model, "-c", "2", *QUICK, *more, "--encoding", encoding, "--json", "-"]
    assert main(arguments) == 0
    (subject,) = json.loads(capsys.readouterr().out)["subjects"]
    (level,) = subject["levels"]
    assert level["errors"] == {}
    assert level["answered_in_all"] > 1
    assert subject["encoding"] == encoding


def test_a_server_without_statistics_has_no_split_and_no_complaint(here: Path, capsys: pytest.CaptureFixture[str]):
    from tests.support.stalling_server import Stalling, stalling_server

    with stalling_server(Stalling()) as other:
        assert main(["bench", f"127.0.0.1:{other.port}", "-m", "m", "-c", "1,2", *QUICK, "--json", "-"]) == 0
    (subject,) = json.loads(capsys.readouterr().out)["subjects"]
    assert [level["server"] for level in subject["levels"]] == [None, None]
    assert subject["encoding"] == "json", "it names no binary extension"


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["http://127.0.0.1:9", "-m", "digits"], 5, "no answer from http://127.0.0.1:9"),
        (["URL", "-m", "nobody"], 3, "the server has digits, echo, multi, plain, varlen"),
        (["URL", "-m", "digits", "--version", "9"], 3, "version '9'"),
        (["URL", "-m", "varlen"], 2, "--shape x:N"),
        (["URL", "-m", "varlen", "--shape", "x:7", "--shape", "y:1"], 2, "no such input"),
        (["URL", "-m", "plain", "--batch", "2"], 2, "no batch dimension"),
        (["URL"], 2, "-m MODEL"),
        (["URL", "-m", "digits", "--rate", "ten"], 2, "--rate ten"),
        (["URL", "-m", "digits", "--output", "nothing"], 1, "a first request is refused with 400"),
        (["a=URL", "a=URL", "-m", "digits"], 2, "the same name"),
        (["URL", "-m", "digits", "--compare", "absent.json"], 3, "no file"),
        (["URL", "-m", "digits", "--protocol", "smoke"], 2, "http or grpc"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_sentence(
    server: Server, here: Path, arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["bench", *(a.replace("URL", server.url) for a in arguments)]) == code
    err = capsys.readouterr().err.replace("\n", " ")
    assert expected in err
    assert "Traceback" not in err


def test_a_credential_is_asked_for_by_name_and_taken_from_the_environment(
    registry: Registry, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    key = ApiKey(name="bench", sha256=hashlib.sha256(b"s3cret").hexdigest())
    options = ServingOptions(registry="", records="", auth=AuthOptions(keys=(key,)))
    with standalone(here / "server", registry.root, options=options, token="s3cret") as server:
        arguments = ["bench", server.url, "-m", "digits", "-c", "1", *QUICK]
        assert main(arguments) == 1
        assert "HARDCASE_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("HARDCASE_TOKEN", "s3cret")
        assert main(arguments) == 0
        monkeypatch.delenv("HARDCASE_TOKEN")
        assert main([*arguments, "-H", "authorization: Bearer s3cret"]) == 0


def test_targets_and_limits_decide_the_verdict_and_the_exit_code(
    server: Server, here: Path, capsys: pytest.CaptureFixture[str]
):
    common = ["bench", server.url, "-m", "digits", "-c", "1,2", *QUICK]
    assert main([*common, "--latency-target", "p99:10s", "--fail-over", "p99:10s"]) == 0
    assert "Most with p99 within 10 s" in capsys.readouterr().out
    assert main([*common, "--latency-target", "p50:1us", "--fail-over", "p99:1us"]) == 4
    told = capsys.readouterr()
    assert "No level has p50 within 1 µs" in told.out
    assert "p99 is over 1 µs" in told.err


def test_a_sweep_ends_after_two_levels_over_the_target(server: Server, here: Path, capsys: pytest.CaptureFixture[str]):
    arguments = [
        "bench",
        server.url,
        "-m",
        "digits",
        "-c",
        "1:8:x2",
        *QUICK,
        "--latency-target",
        "p50:1us",
        "--json",
        "-",
    ]
    assert main(arguments) == 0
    (subject,) = json.loads(capsys.readouterr().out)["subjects"]
    assert len(subject["levels"]) == 2
    assert subject["best"] is None


def test_reports_of_several_servers_and_runs_become_one(server: Server, here: Path, capsys: pytest.CaptureFixture[str]):
    one = ["bench", f"ours={server.url}", "-m", "digits", "-c", "1,2", *QUICK]
    assert main([*one, "--json", "one.json"]) == 0
    assert len(read_report(here / "one.json").subjects) == 1
    again = [
        *one[:2],
        f"again={server.url}",
        *one[2:],
        "--compare",
        "one.json",
        "--json",
        "all.json",
        "--html",
        "all.html",
    ]
    assert main(again) == 0
    report = read_report(here / "all.json")
    assert [s.name for s in report.subjects][:2] == ["ours", "again"]
    assert report.subjects[2].name.startswith("ours (20")
    page = (here / "all.html").read_text()
    assert all(s.name in page for s in report.subjects)
    (here / "other.json").write_text('{"schema_version": 1}')
    assert main([*one, "--compare", "other.json"]) == 2


def test_a_page_needs_nothing_from_elsewhere(server: Server, here: Path):
    name = '<script>alert("x")</script>'
    target = parse_target(server.url, None)
    ((subject,), _) = asyncio.run(run([replace(target, name=name)], replace(PLAN, levels=(1.0, 2.0))))
    from deploy.loadtest.page import render
    from deploy.loadtest.report import make_report

    page = render(make_report([subject], PLAN, {"processor": "<b>"}))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for outside in ("http-equiv", "@import", "url(", "src=", "href=", "//cdn"):
        assert outside not in page
    assert page.count("<svg") >= 2 + 2 * 2


def test_ctrl_c_shows_what_was_measured_until_then(server: Server, here: Path):
    command = [sys.executable, "-m", "deploy.cli", "bench", server.url, "-m", "digits", "-c", "1,2,4"]
    command += [
        "--window",
        "0.3",
        "--warm-up",
        "0.1",
        "--max-windows",
        "1000",
        "--stability",
        "0.1",
        "--json",
        "out.json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    before = successes(server, "digits")
    deadline = 200
    while successes(server, "digits") - before < 200 and deadline:
        deadline -= 1
        asyncio.run(asyncio.sleep(0.1))
    asyncio.run(asyncio.sleep(1.5))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted" in out
    assert "Traceback" not in err
    (subject,) = read_report(here / "out.json").subjects
    assert subject.levels[-1].interrupted
    assert subject.levels[-1].latency.count > 10


def test_settings_name_the_server_when_nothing_else_does(
    server: Server, here: Path, capsys: pytest.CaptureFixture[str]
):
    (here / "hardcase.yaml").write_text(f"serving: {{port: {server.port}}}\n")
    assert main(["bench", "-m", "digits", "-c", "1", *QUICK, "--json", "-"]) == 0
    plain: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert plain["subjects"][0]["name"] == "hardcase"
    assert plain["environment"]["cores"]
    (here / "hardcase.yaml").write_text(f"serving: {{port: {server.port}, grpc_port: {server.grpc_port}}}\n")
    assert main(["bench", "-m", "digits", "--protocol", "grpc", "-c", "1", *QUICK, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["subjects"][0]["address"] == f"grpc://127.0.0.1:{server.grpc_port}"
    (here / "hardcase.yaml").write_text(f"serving: {{port: {server.port}, grpc_port: 0}}\n")
    assert main(["bench", "-m", "digits", "--protocol", "grpc"]) == 2
