"""The program of a webhook job: `python -m deploy.jobs.webhook_driver OPTIONS REQUEST`.

It sends the request as a signed CloudEvent, again with the same id until it is taken, and then says what letters the
receiver sends back (`deploy.jobs.inbox`). Limits, silence and single-flight are its supervisor's, as of any program.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.jobs.folder import now_text
from deploy.jobs.supervise import FOLDER
from export.contracts.errors import HardcaseError
from export.contracts.training import PACKAGE_FOLDER
from export.package import copy_package
from export.package_files import staged_folder
from export.registry import Registry
from monitoring.integrations.egress import Egress, EgressError, EgressRefused
from monitoring.notify.messages import SOURCE, signed_headers
from monitoring.notify.send import read_secret

REQUESTED, CANCELLED = "io.hardcase.training.requested", "io.hardcase.training.cancelled"
LOOK_S = 0.2
LONGEST_PAUSE_S = 60.0
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class Call:
    """Where the event goes, and what it says."""

    url: str
    secret_file: str
    callback: str
    folder: Path
    request: dict[str, Any]

    def send(self, kind: str, *, attempts: int = 1, total_s: float = 15.0) -> int:
        """Send an event of this kind; the answer's status.

        Raises:
            EgressError, SendFailed: nothing came back, or the settings are wrong.
        """
        identity = f"{self.folder.name}.{kind.rpartition('.')[2]}"
        path = f"/api/loop/jobs/{self.folder.name}/events"
        event = {
            "specversion": "1.0",
            "id": identity,
            "source": SOURCE,
            "type": kind,
            "time": now_text(),
            "subject": self.request.get("model", ""),
            "datacontenttype": "application/json",
            "data": {"request": self.request, "callback": self.callback.rstrip("/") + path, "callback_path": path},
        }
        body = json.dumps(event, ensure_ascii=False, allow_nan=False).encode()
        headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
        headers |= signed_headers(read_secret(self.secret_file, "secret_file"), identity, int(time.time()), body)
        egress = Egress.to(self.url, attempts=attempts, total_s=total_s, max_bytes=64 << 10)
        return egress.send("POST", self.url, headers=headers, body=body, idempotent=True).status


def deliver(call: Call, stopping: Callable[[], bool], pause_s: float = 1.0) -> str:
    """Send the request until it is taken; "" then, else why it never will be."""
    sent = call.folder / "sent"
    while not sent.exists() and not stopping():
        try:
            status = call.send(REQUESTED)
        except EgressRefused as error:
            return error.message
        except EgressError as error:
            print(error.message, flush=True)
        else:
            if 200 <= status < 300 or status == 409:  # taken, or taken before
                sent.touch(mode=0o600)
                break
            if status not in AGAIN:
                return f"the receiver answered {status}"
            print(f"the receiver answered {status}", flush=True)
        _wait(pause_s, stopping)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
    return ""


def listen(folder: Path, stopping: Callable[[], bool]) -> dict[str, Any] | None:
    """Say what comes in, until it says how it ended; None when somebody wants this program to end."""
    inbox, place = folder / "inbox.jsonl", folder / "read"
    done = int(place.read_text()) if place.exists() else 0
    while not stopping():
        if inbox.exists() and inbox.stat().st_size > done:
            with inbox.open("rb") as file:
                file.seek(done)
                piece = file.read(1 << 20)
            whole = piece[: piece.rfind(b"\n") + 1]
            for line in whole.splitlines(keepends=True):
                plain = json.loads(line)
                if "end" in plain:
                    return dict(plain)
                sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            done += len(whole)
            place.write_text(str(done))  # after a kill in between, a letter is said twice; never not at all
        time.sleep(LOOK_S)
    return None


def fetch(call: Call, where: str, registry: Path) -> None:
    """Put the package where it must lie.

    Raises:
        HardcaseError: it is not where the receiver said.
    """
    target = Path(str(call.request["output"]), PACKAGE_FOLDER)
    if where == "output" or target.exists():
        return  # the supervisor looks whether it is there, and the right one
    found = Registry(registry).package(str(call.request["model"]), str(call.request["version"]))
    with staged_folder(target) as folder:
        copy_package(found, folder)


def main(arguments: list[str]) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--secret-file", required=True)
    parser.add_argument("--callback", default="")
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("request", type=Path)
    given = parser.parse_args(arguments)
    told: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        told.append(number)

    signal.signal(signal.SIGTERM, tell)
    folder = Path(os.environ[FOLDER])
    call = Call(
        url=given.url,
        secret_file=given.secret_file,
        callback=given.callback,
        folder=folder,
        request=json.loads(given.request.read_bytes()),
    )
    try:
        why = deliver(call, lambda: bool(told))
        if why:
            print(why, file=sys.stderr)
            return 1
        end = listen(folder, lambda: bool(told))
        if end is None:
            if (folder / "ending").exists():
                call.send(CANCELLED, total_s=5.0)
            return 128 + signal.SIGTERM
        if end["end"] == "failed":
            print(end["reason"], file=sys.stderr)
            return 1
        fetch(call, str(end["package"]), given.registry)
    except HardcaseError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


def _wait(seconds: float, stopping: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stopping():
        time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
