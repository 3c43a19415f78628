"""Letters of jobs that run elsewhere: signed as Standard Webhooks say, CloudEvents inside, each taken once.

    type "io.hardcase.job.events"    data {"events": [...]}   lines of the trainer contract, oldest first
    type "io.hardcase.job.done"      data {"package": "output" | "registry", "metrics": {...}}
    type "io.hardcase.job.failed"    data {"reason": "..."}

A letter whose id was taken before changes nothing and is answered 409: who repeats one after a lost answer knows then
that it arrived.

References:
    Standard Webhooks 1.0, "Verifying webhooks": signed content `id.timestamp.body`, tolerance of the timestamp.
    CloudEvents 1.0.2, JSON event format.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.jobs.folder import JobFolder
from export.contracts.errors import Conflict, InvalidRequest, Unauthenticated
from export.contracts.training import EventKind, TrainingEvent
from export.training.lines import event_of, to_line
from monitoring.loop.contracts import Letter
from monitoring.notify.messages import signed_headers
from monitoring.notify.send import SendFailed, read_secret

TOLERANCE_S = 300
MAX_EVENTS = 1000  # of a letter
MAX_LETTERS = 100_000  # of a job
TYPE = "io.hardcase.job."
NOT_OURS = "this is no letter of a job of ours"
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
PACKAGES = ("output", "registry")


class FileInbox:
    """`Inbox` in the jobs' folders. The job's driver reads what lies there.

    Args:
        root: Folder of all jobs.
        clock: Seconds since the epoch.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._clock = clock

    def take(self, job_id: str, letter: Letter) -> int:
        """Check it and keep it. Whoever cannot sign learns nothing, not even which jobs there are.

        Raises:
            Unauthenticated, Conflict, InvalidRequest: as of `monitoring.loop.contracts.Inbox`.
        """
        folder = JobFolder(self._root, job_id)
        spec = folder.spec()
        if spec is None or not spec.secret_file or not self._signed(letter, spec.secret_file):
            raise Unauthenticated(NOT_OURS)
        lines = read_letter(letter.body)
        if folder.exit() is not None:
            raise Conflict("the job has ended")
        _keep(folder.dir, letter.id, lines)
        return len(lines)

    def _signed(self, letter: Letter, secret_file: str) -> bool:
        if not _ID.fullmatch(letter.id) or not letter.timestamp.isascii() or not letter.timestamp.isdigit():
            return False
        sent = int(letter.timestamp[:15])
        if abs(self._clock() - sent) > TOLERANCE_S:
            return False
        try:
            secret = read_secret(secret_file, "secret_file")
            wanted = signed_headers(secret, letter.id, sent, letter.body)["webhook-signature"]
        except (SendFailed, ValueError):
            return False
        given = letter.signature.split(" ")[:8]  # several while a secret is being changed
        return any(hmac.compare_digest(one.encode("latin-1", "replace"), wanted.encode()) for one in given)


def read_letter(body: bytes) -> list[bytes]:
    """The lines that a driver reads: events of the contract, and at last how it ended.

    Raises:
        InvalidRequest: not a CloudEvent of ours, or one of its events is none of the contract.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(event, dict) or event.get("specversion") != "1.0" or not isinstance(event.get("data"), dict):
        raise InvalidRequest("the body is not a CloudEvent 1.0 with data")
    data: Mapping[str, Any] = event["data"]
    kind = event.get("type")
    if kind == TYPE + "events":
        return _events(data.get("events"))
    if kind == TYPE + "done":
        package = data.get("package", "output")
        if package not in PACKAGES:
            raise InvalidRequest(f"data.package must be one of {', '.join(PACKAGES)}")
        checked = event_of({"event": "done", "metrics": data.get("metrics", {})})
        if checked is None:
            raise InvalidRequest("data.metrics must be finite numbers by name")
        return [to_line(checked), json.dumps({"end": "done", "package": package}).encode() + b"\n"]
    if kind == TYPE + "failed":
        said = event_of({"event": "note", "text": data.get("reason")})
        if said is None:
            raise InvalidRequest("data.reason must be a text")
        return [json.dumps({"end": "failed", "reason": said.text}).encode() + b"\n"]
    raise InvalidRequest(f"the type must be one of {TYPE}events, {TYPE}done, {TYPE}failed")


def letter_of(secret: str, identity: str, now_s: int, kind: str, data: Mapping[str, Any]) -> Letter:
    """A letter as the other side writes it: `kind` is the end of the type."""
    body = json.dumps(
        {"specversion": "1.0", "id": identity, "source": "urn:trainer", "type": TYPE + kind, "data": dict(data)}
    ).encode()
    headers = signed_headers(secret, identity, now_s, body)
    return Letter(
        id=identity, timestamp=headers["webhook-timestamp"], signature=headers["webhook-signature"], body=body
    )


def _events(plain: Any) -> list[bytes]:
    if not isinstance(plain, list) or len(plain) > MAX_EVENTS:
        raise InvalidRequest(f"data.events must be a list of at most {MAX_EVENTS}")
    lines = []
    for i, item in enumerate(plain):
        event = event_of(item)
        if event is None or event.kind is EventKind.DONE:
            raise InvalidRequest(f"data.events[{i}] is none of the trainer contract, or says that it is done")
        lines.append(to_line(event))
    # An empty letter is a sign of life.
    return lines or [to_line(TrainingEvent(kind=EventKind.NOTE, text="still at it"))]


def _keep(folder: Path, identity: str, lines: list[bytes]) -> None:
    """Append, unless the id was taken before. One lock for both files: a letter is taken whole or not at all.

    Raises:
        Conflict: it was, or there are too many.
    """
    name = hashlib.sha256(identity.encode()).hexdigest().encode() + b"\n"
    with (folder / "inbox.jsonl").open("ab") as inbox, (folder / "seen").open("ab+") as seen:
        fcntl.flock(seen, fcntl.LOCK_EX)
        seen.seek(0)
        taken = seen.read()
        if name in taken or len(taken) > MAX_LETTERS * len(name):
            raise Conflict("a letter with this id was taken before" if name in taken else "too many letters")
        # The id last: what was not answered for may come again, what was answered for is not taken twice.
        inbox.write(b"".join(lines))
        inbox.flush()
        os.fsync(inbox.fileno())
        seen.write(name)
        seen.flush()
        os.fsync(seen.fileno())


def make_secret() -> str:
    """A new signing secret."""
    return "whsec_" + base64.b64encode(os.urandom(24)).decode()
