"""A real Label Studio as a process: SQLite, loopback, an environment of its own.

python -m benchmarks.peers.setup label-studio      # makes it: about a minute, 1 GB
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.support.foreign_server import ForeignServer
from tests.support.source_tree import ROOT

PROGRAM = ROOT / ".venvs" / "label-studio" / "bin" / "label-studio"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
EMAIL = "a@example.com"


@dataclass(kw_only=True)
class RealServer(ForeignServer):
    """The server."""

    START_S: ClassVar = 400.0  # the first start makes its database: half a minute on a quiet machine
    QUIET: ClassVar = {
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        # Its guard against calls into private networks stays on; the console of the test is on loopback.
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": "169.254.0.0/16",
    }

    def command(self) -> list[str]:
        return [str(PROGRAM), "start", "--no-browser", "--data-dir", str(self.folder), "--internal-host",
                "127.0.0.1", "-p", str(self.port), "--username", EMAIL, "--password", "S3cret-Pass",
                "--user-token", TOKEN, "--enable-legacy-api-token"]  # fmt: skip

    def ask(self) -> object:
        return self.call("GET", "/api/projects/")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call of its API, as an annotator's browser makes it."""
        return call(self.url, method, path, body)


def call(url: str, method: str, path: str, body: object = None) -> Any:
    """One call of a server's API.

    Raises:
        OSError: it does not answer, or refuses.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Token {TOKEN}", "content-type": "application/json"}
    request = urllib.request.Request(url + path, method=method, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def choice(name: str) -> list[dict[str, Any]]:
    """The results of an annotation that chose a class."""
    return [{"from_name": "label", "to_name": "input_0", "type": "choices", "value": {"choices": [name]}}]


@contextmanager
def real_server(folder: Path, port: int) -> Iterator[RealServer]:
    """A running server."""
    server = RealServer(folder=folder, port=port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
