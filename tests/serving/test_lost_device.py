"""A device that fails for good, in a real server: one batch meets it, the process says so and ends."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import psutil
import pytest

from export.registry import Registry
from monitoring.records.reader import RecordLogReader
from serving.options import RuntimeOptions, ServingOptions
from serving.replica import DEVICE_LOST_STATUS
from tests.support import packages as p
from tests.support import wire
from tests.support.server import standalone
from tests.support.traffic import digits

LOST_AT = 200
pytestmark = pytest.mark.fault


def test_the_process_ends_and_its_log_accounts_for_every_request(tmp_path: Path):
    registry = Registry(tmp_path / "registry")
    registry.add(p.digits_like_package(tmp_path).dir)
    registry.promote("digits", "1", author="test")
    runtime = RuntimeOptions(device=f"double:0ms,lost_at={LOST_AT}", lanes=1, cuda_graphs=False)
    options = ServingOptions(registry="", records="", runtime=runtime)
    with standalone(tmp_path, registry.root, options=options) as server:
        process = psutil.Process(server.pid)

        def ask(rows: int) -> int:
            headers, body = wire.request(digits(rows=rows))
            try:
                return server.client.post("/v2/models/digits/infer", content=body, headers=headers).status_code
            except httpx.TransportError:
                return 0

        assert [ask(1), ask(LOST_AT - 1)] == [200, 200], "the control: every other batch is answered"
        assert ask(LOST_AT) in (0, 500)
        started = time.monotonic()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() - started < 5, "it goes on with a broken device"
            time.sleep(0.01)
        assert server.log is not None
        assert "failed for good" in server.log.read_text()
    assert server.records is not None
    reader = RecordLogReader(server.records)
    (source,) = reader.sources()
    account = reader.finalise(source).slots["digits", "1"]
    assert account.requests == 3
    assert account.captured + account.sampled_out + sum(account.dropped.values()) + account.lost_crash == 3
    assert DEVICE_LOST_STATUS == 70
