"""A real MLflow tracking server as a process: SQLite, artefacts behind it, loopback, an environment of its own.

python -m benchmarks.peers.setup mlflow      # makes it: about a minute, 0.9 GB
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.support.foreign_server import ForeignServer
from tests.support.source_tree import ROOT

BIN = ROOT / ".venvs" / "mlflow" / "bin"
PROGRAM = BIN / "mlflow"


@dataclass(kw_only=True)
class RealMlflow(ForeignServer):
    """The server."""

    START_S: ClassVar = 300.0
    QUIET: ClassVar = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }

    def command(self) -> list[str]:
        return [str(PROGRAM), "server", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}",
                "--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1",
                "--port", str(self.port), "--workers", "1"]  # fmt: skip

    def ask(self) -> object:
        return self.call("GET", "experiments/get-by-name?experiment_name=Default")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call of its API.

        Raises:
            OSError: it does not answer, or refuses.
        """
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.url}/api/2.0/mlflow/{path}"
        request = urllib.request.Request(url, method=method, data=data, headers={"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"{}")

    def script(self, code: str, *arguments: str) -> dict[str, Any]:
        """Run Python with MLflow's own client, as a user would; returns the JSON that it prints last."""
        env = {**os.environ, **self.QUIET, "MLFLOW_TRACKING_URI": self.url}
        env.pop("PYTHONPATH", None)  # that environment has nothing of ours
        command = [str(BIN / "python"), "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


@contextmanager
def real_mlflow(folder: Path, port: int) -> Iterator[RealMlflow]:
    """A running server."""
    server = RealMlflow(folder=folder, port=port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
