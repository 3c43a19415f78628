"""The stand-alone process: starts, says where it is, stops cleanly, and refuses wrong settings with a sentence."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.contracts import codec
from export.registry import Registry
from monitoring.records.reader import RecordLogReader
from serving.auth import hash_token
from serving.options import ApiKey, AuthOptions, RuntimeOptions, ServingOptions
from serving.standalone import read_options
from tests.support import packages as p
from tests.support.server import ROOT, infer_path, standalone
from tests.support.traffic import digits, driving

CPU = ServingOptions(registry="", records="", runtime=RuntimeOptions(device="cpu"))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    registry.add(p.digits_like_package(tmp_path).dir)
    registry.promote("digits", "1", author="test")
    return registry


def refused(*arguments: str) -> tuple[int, str]:
    """Run the command with settings that it must refuse."""
    command = [sys.executable, "-m", "serving.standalone", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    text = done.stderr.decode()
    assert "Traceback" not in text
    return done.returncode, text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_answers_what_is_under_way_and_seals_the_record_log(
    registry: Registry, tmp_path: Path, number: signal.Signals
) -> None:
    ready, records = tmp_path / "ready.json", tmp_path / "records"
    command = [sys.executable, "-m", "serving.standalone", "--registry", str(registry.root), "--records", str(records)]
    command += ["--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    listening = json.loads(ready.read_text())
    assert listening["pid"] == process.pid
    assert listening["ready"] is True
    with driving(listening["port"], "digits", digits(), threads=2) as traffic:
        traffic.wait_for(50)
        process.send_signal(number)
        out, err = process.communicate(timeout=40)
    assert process.returncode == 0, err
    assert f"serving on http://127.0.0.1:{listening['port']}" in out.decode()
    assert b"Traceback" not in err
    assert not ready.exists()
    assert {s.status for s in traffic.sent} <= {200, 0, 503}, [s for s in traffic.sent if s.status != 200]
    answered = sum(s.status == 200 for s in traffic.sent)
    reader = RecordLogReader(records)
    (source,) = reader.sources()
    account = reader.finalise(source)
    (slot,) = [a for (model, _), a in account.slots.items() if model == "digits"]
    assert slot.requests == slot.captured >= answered >= 50
    assert (slot.in_flight, slot.lost_crash) == (0, 0)
    kinds = [f.event().kind for f in reader.read(source, None, 1 << 30) if f.kind == "event"]
    assert kinds[0] == "replica_started"
    assert kinds[-1] == "replica_stopped"
    assert {"version_ready", "plan_applied", "version_unloaded"} & set(kinds)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = refused("--registry", str(tmp_path), "--records", str(tmp_path / "r"), "--port", str(port))
    assert code == 2
    assert f"port {port}" in text
    assert not (tmp_path / "r").exists()


def test_other_machines_are_not_served_without_a_key(registry: Registry, tmp_path: Path) -> None:
    where = ["--registry", str(registry.root), "--records", str(tmp_path / "r"), "--port", "0", "--host", "0.0.0.0"]
    code, text = refused(*where)
    assert code == 2
    assert "no API key is configured" in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "JSON"),
        ("[]", "expected an object"),
        ("{}", "field 'registry' is missing"),
        ('{"registry": "a", "records": "b", "fast_lan": true}', "unknown field 'fast_lan'"),
        ('{"registry": "a", "records": "b", "limits": {"rows": "many"}}', "limits.rows: expected int"),
    ],
)
def test_wrong_options_are_refused_by_name(text: str, reason: str) -> None:
    code, shown = refused("--options-json", text)
    assert code == 2
    assert reason in shown


def test_options_come_from_a_file_and_the_command_line_goes_on_top(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_bytes(codec.dumps(ServingOptions(registry="one", records="two", plan_poll_s=7.0)))
    options = read_options(f"@{file}", "three", None, False)
    assert (options.registry, options.records, options.plan_poll_s) == ("three", "two", 7.0)
    assert not options.fast_lane
    assert read_options(f"@{file}", None, None, None).fast_lane


@pytest.mark.parametrize("lane", ["fast", "asgi"])
def test_with_keys_only_their_holders_are_answered(registry: Registry, tmp_path: Path, lane: str) -> None:
    options = replace(CPU, auth=AuthOptions(keys=(ApiKey(name="ci", sha256=hash_token("s3cret")),)))
    with standalone(tmp_path / "server", registry.root, lane=lane, options=options, token="s3cret") as server:
        server.infer("digits", digits())
        anonymous = httpx.Client(base_url=server.url)
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            for path in (infer_path("digits"), "/v2/repository/index"):
                response = anonymous.post(path, json={}, headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
        assert anonymous.get("/metrics").status_code == 401
        assert anonymous.get("/v2/health/live").status_code == 200
        anonymous.close()


def test_an_empty_registry_is_served_and_fills_later(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    with standalone(tmp_path / "server", registry.root, options=replace(CPU, plan_poll_s=0.1)) as server:
        assert server.get("/v2/health/ready") == {"ready": True}
        assert server.get("/v2/models") == {"models": []}
        registry.add(p.digits_like_package(tmp_path).dir)
        registry.promote("digits", "1", author="test")
        answered: Any = None
        deadline = time.monotonic() + 60
        while answered is None or answered.status_code != 200:
            assert time.monotonic() < deadline
            answered = server.client.get("/v2/models/digits/ready")
            time.sleep(0.05)
        server.infer("digits", digits())
