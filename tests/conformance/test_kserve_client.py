"""The unmodified KServe Python client, from an environment of its own: `python -m benchmarks.peers.setup kserve`."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.server import ROOT, Server

TRANSPORTS = ("fast", "asgi", "haproxy")
PYTHON = ROOT / ".venvs" / "kserve" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="no .venvs/kserve: run python -m benchmarks.peers.setup kserve")
def test_rest_and_grpc(server: Server):
    command = [str(PYTHON), str(ROOT / "tests" / "support" / "kserve_driver.py"), server.url, server.grpc_netloc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for transport, kinds in (("rest", ("json", "binary")), ("grpc", ("typed", "raw"))):
        told = found[transport]
        assert (told["live"], told["ready"], told["model"]) == (True, True, True)
        for kind in kinds:
            answer = told[kind]
            assert (answer["id"], answer["model"]) == ("k1", "varlen")
            assert (answer["name"], answer["values"]) == ("sum", [3.0, 12.0])
        assert "unknown model" in told["error"] or "404" in told["error"]
    assert found["grpc"]["many"] == [[3.0 + 3 * n, 12.0 + 3 * n] for n in range(50)]
