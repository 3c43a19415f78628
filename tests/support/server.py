"""Stand-alone servers as subprocesses, for tests that need the real thing on a real port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from export.contracts import codec
from serving.options import ServingOptions
from tests.support import wire
from tests.support.wire import Answer, Tensor

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server under test.

    Attributes:
        lane: "fast" or "asgi"; what the server was asked to use.
        log: File with its standard error, None when somebody else holds it.
        pid: 0 when it is not ours.
        grpc_port: 0 when it serves HTTP only.
    """

    port: int
    lane: str
    client: httpx.Client
    log: Path | None = None
    pid: int = 0
    records: Path | None = None
    grpc_port: int = 0

    @property
    def url(self) -> str:
        """Base URL without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc_netloc(self) -> str:
        """What a gRPC client calls its target."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def netloc(self) -> str:
        """What `tritonclient` calls its url."""
        return f"127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """The JSON of a 200."""
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, plain: Any = None) -> httpx.Response:
        """Post JSON."""
        return self.client.post(path, json=plain) if plain is not None else self.client.post(path)

    def infer(self, model: str, tensors: Sequence[Tensor], *, version: str | None = None, **how: Any) -> Answer:
        """Send a request that must succeed; `how` goes to `wire.request`."""
        headers, body = wire.request(tensors, **how)
        response = self.client.post(infer_path(model, version), content=body, headers=headers)
        assert response.status_code == 200, response.text
        return wire.answer(response.headers, response.content)

    def refused(self, model: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        """Send a request that must fail; status and error text."""
        response = self.client.post(infer_path(model), content=body, headers=headers)
        assert response.status_code != 200, response.text
        assert response.headers["content-type"] == "application/json"
        plain = response.json()
        assert list(plain) == ["error"]
        return response.status_code, plain["error"]


def infer_path(model: str, version: str | None = None) -> str:
    """Path of the infer endpoint."""
    return f"/v2/models/{model}/versions/{version}/infer" if version else f"/v2/models/{model}/infer"


@contextmanager
def standalone(
    folder: Path, registry: Path, *, lane: str = "fast", options: ServingOptions | None = None, token: str | None = None
) -> Iterator[Server]:
    """Run `python -m serving.standalone` on a free port until the block ends.

    Args:
        folder: For its record log, ready file and standard error.
        registry: Folder of the registry.
        lane: "fast" or "asgi".
        options: Other settings; registry and records are filled in.
        token: Sent by the client with every request.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = replace(
        options or ServingOptions(registry="", records=""),
        registry=str(registry),
        records=str(folder / "records"),
        fast_lane=lane == "fast",
    )
    ready, log = folder / "ready.json", folder / "stderr.txt"
    command = [
        sys.executable,
        "-m",
        "serving.standalone",
        "--port",
        "0",
        "--grpc-port",
        "0",
        "--ready-file",
        str(ready),
    ]
    command += ["--options-json", codec.dumps(options).decode()]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=stderr, env=os.environ | CANARY)
    try:
        listening = _wait_until_ready(process, ready, log)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # httpx asks for compression by itself; tests ask when they mean it.
        headers["Accept-Encoding"] = "identity"
        with httpx.Client(base_url=f"http://127.0.0.1:{listening['port']}", headers=headers, timeout=30) as client:
            yield Server(
                port=listening["port"],
                lane=lane,
                client=client,
                log=log,
                pid=process.pid,
                records=folder / "records",
                grpc_port=listening["grpc_port"],
            )
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# S01: no answer may ever hold this; the server's environment does.
CANARY = {"HARDCASE_TEST_CANARY": "canary-5f1e7c0d9b"}


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path, seconds: float = 90) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the server did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.05)
    plain: dict[str, Any] = json.loads(ready.read_text())
    return plain
