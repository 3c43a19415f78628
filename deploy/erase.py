"""`hardcase erase`: asks the monitor, and waits until it is done."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from deploy.cli.context import Invocation, console, print_json
from deploy.errors import CommandError, UsageError
from deploy.monitor_client import MonitorClient

_WAIT_S = 120.0
_AT_ONCE = 200  # ids in one request


def run_erase(
    invocation: Invocation, records: list[str], file: Path | None, *, model: str | None, wait: bool, as_json: bool
) -> None:
    """Erase records by id.

    Raises:
        UsageError: no id is given.
        CommandError: not done in time; it goes on in the monitor.
    """
    ids = list(dict.fromkeys([*records, *(_lines(file) if file is not None else [])]))
    if not ids:
        raise UsageError("which records? give ids, or --file with one on each line")
    client = MonitorClient.of(invocation.settings)
    done: list[dict[str, Any]] = []
    for start in range(0, len(ids), _AT_ONCE):
        body = {"records": ids[start : start + _AT_ONCE]} | ({"model": model} if model else {})
        done.append(client.post("/api/erasures", body))
    deadline = time.monotonic() + _WAIT_S
    while wait and any(e["state"] != "done" for e in done) and time.monotonic() < deadline:
        time.sleep(0.5)
        done = [client.get(f"/api/erasures/{e['id']}") for e in done]
    if as_json:
        print_json(done)
    else:
        for erasure in done:
            console().print(_line(erasure))
    if wait and any(e["state"] != "done" for e in done):
        raise CommandError("not every copy is gone yet", "the monitor goes on by itself: GET /api/erasures says when")


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"'{file}' cannot be read: {type(error).__name__}") from None


def _line(erasure: dict[str, Any]) -> str:
    copies = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in sorted(erasure["counts"].items()))
    if erasure["state"] == "done":
        return f"erasure {erasure['id']} is done: {copies or 'there was nothing under these ids'}"
    return f"erasure {erasure['id']} waits: {erasure['reason']}"
