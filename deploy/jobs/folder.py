"""The folder of a job: everything that is known about it, in files that survive whoever wrote them.

    job.json         what is to be done; made once, never changed
    lock             held (flock) by the one supervisor while it lives
    attempts.jsonl   one line an attempt, synced before its program starts
    events.jsonl     what the program has said, checked, one canonical line each
    log, log.1       everything else that it has printed, bounded
    cancel           somebody wants it to end
    ending           its supervisor ends it for good (and does not only interrupt it)
    inbox.jsonl      what a job that runs elsewhere has sent; `seen` the ids of what was taken
    exit.json        how it ended; made once, never changed: there is one end, whatever happens

`exit.json` and `job.json` are made by linking a whole, synced file to their name, so of two that try, one wins.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from export.contracts import codec
from export.contracts.training import TrainingEvent
from export.training.lines import parse_event
from monitoring.loop.contracts import JobKind, JobState

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,100}")
MAX_READ = 1 << 20  # bytes of events that one look takes
_NOTHING = b""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What a supervisor needs to know; complete, so that it asks nobody.

    Attributes:
        argv: The program; the request's path is appended.
        folder: Where it runs.
        environment: All of the program's variables, but the marks that supervising adds.
        output: Folder that the program may write to.
        expects: Path below `output` without which status 0 is a failure.
        name: What a package found there must be called.
        version: Its version.
        snapshot_digest: What a package that names its snapshot must name.
        memory_bytes: Of all its processes together; 0 is no limit.
        output_bytes: Of everything below `output`; 0 is no limit.
        nice: How much it steps back for others.
        grace_s: Between SIGTERM and SIGKILL.
        secret_file: Holds the secret of those who may write to its inbox; "" where nobody may.
        restarts: How often it is begun again after its supervisor vanished (killed, machine gone, `hardcase down`).
            A program that fails by itself is not begun again.
    """

    id: str
    kind: JobKind
    model: str
    argv: tuple[str, ...]
    request: str
    output: str
    budget_s: float
    silence_s: float
    folder: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    expects: str = ""
    name: str = ""
    version: str = ""
    snapshot_digest: str = ""
    memory_bytes: int = 0
    output_bytes: int = 0
    nice: int = 0
    grace_s: float = 10.0
    restarts: int = 0
    secret_file: str = ""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One start of the program.

    Attributes:
        supervisor: Process id.
        mark: What all processes of this attempt have in their environment.
    """

    number: int
    supervisor: int
    mark: str
    started_at: str


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a job ended."""

    state: JobState
    reason: str
    ended_at: str


def now_text() -> str:
    """RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JobFolder:
    """Reads and writes one job's folder.

    Args:
        root: Folder of all jobs.
        job_id: Of this one; an id that is no good file name stands under its digest.
    """

    def __init__(self, root: Path, job_id: str) -> None:
        name = job_id if _PLAIN.fullmatch(job_id) else "x" + hashlib.sha256(job_id.encode()).hexdigest()[:40]
        self.dir = root / name
        self.log = self.dir / "log"

    @classmethod
    def at(cls, folder: Path) -> JobFolder:
        """The one that lies there."""
        return cls(folder.parent, folder.name)

    def declare(self, spec: JobSpec) -> bool:
        """Write down what is to be done; False when this id was declared before."""
        self.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._once("job.json", codec.dumps(spec))

    def spec(self) -> JobSpec | None:
        """What is to be done; None when nobody has declared it."""
        try:
            return codec.loads(JobSpec, (self.dir / "job.json").read_bytes())
        except FileNotFoundError:
            return None

    def finish(self, state: JobState, reason: str = "") -> bool:
        """Write down how it ended, unless that is known."""
        return self._once("exit.json", codec.dumps(Exit(state=state, reason=reason, ended_at=now_text())))

    def exit(self) -> Exit | None:
        """How it ended; None before."""
        try:
            return codec.loads(Exit, (self.dir / "exit.json").read_bytes())
        except FileNotFoundError:
            return None

    def ask_to_end(self) -> None:
        """Leave the mark that ends it."""
        (self.dir / "cancel").touch(mode=0o600)

    def end_for_good(self) -> None:
        """Say that there will be no further attempt."""
        (self.dir / "ending").touch(mode=0o600)

    @property
    def ends_for_good(self) -> bool:
        """Whether there will be no further attempt."""
        return (self.dir / "ending").exists()

    @property
    def to_end(self) -> bool:
        """Whether somebody wants it to end."""
        return (self.dir / "cancel").exists()

    def lock(self, patience_s: float = 1.0) -> int | None:
        """Become its supervisor: a descriptor to be kept open, or None when there is one.

        Args:
            patience_s: Those who look whether there is one hold it for a moment (`supervised`).
        """
        descriptor = os.open(self.dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    return None
                time.sleep(0.01)
            else:
                return descriptor

    @property
    def supervised(self) -> bool:
        """Whether a supervisor lives."""
        try:
            descriptor = os.open(self.dir / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def begin(self, attempt: Attempt) -> None:
        """Write down an attempt, so that it lasts, before its program starts."""
        with (self.dir / "attempts.jsonl").open("ab") as file:
            file.write(b"\n" + codec.dumps(attempt) + b"\n")  # the first ends what a kill may have torn
            file.flush()
            os.fsync(file.fileno())

    def attempts(self) -> Sequence[Attempt]:
        """All so far. A torn last line is an attempt that never began."""
        try:
            lines = (self.dir / "attempts.jsonl").read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return ()
        found = []
        for line in lines:
            try:
                found.append(codec.loads(Attempt, line))
            except ValueError:
                continue  # empty, or torn by a kill
        return found

    def events(self, since: int) -> tuple[Sequence[TrainingEvent], int]:
        """Events from a place in the file on, and the place behind them. Whole lines only, a megabyte at most."""
        try:
            with (self.dir / "events.jsonl").open("rb") as file:
                file.seek(max(since, 0))
                piece = file.read(MAX_READ)
        except FileNotFoundError:
            return (), since
        whole = piece[: piece.rfind(b"\n") + 1]
        found = [parse_event(line) for line in whole.splitlines()]
        return [event for event in found if event is not None], since + len(whole)

    def log_end(self, lines: int) -> str:
        """The last lines of the log, fit to be shown."""
        text = _NOTHING
        for path in (self.log, self.dir / "log.1"):
            text = _tail(path, 256 << 10) + text
            if text.count(b"\n") >= lines:
                break
        shown = text.decode("utf-8", "replace").split("\n")
        shown = shown[-lines - 1 :] if shown[-1] == "" else shown[-lines:]
        return "\n".join("".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line) for line in shown)

    def _once(self, name: str, data: bytes) -> bool:
        target = self.dir / name
        if target.exists():
            return False
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self.dir)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            Path(temporary).unlink(missing_ok=True)
        self._sync()
        return True

    def _sync(self) -> None:
        descriptor = os.open(self.dir, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def request_facts(path: Path) -> dict[str, str]:
    """Version and snapshot digest that a training request asks for; empty where it is none."""
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    wanted = ("model", "version", "snapshot_digest")
    return {name: plain[name] for name in wanted if isinstance(plain, dict) and isinstance(plain.get(name), str)}


def _tail(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - most, 0))
            return file.read(most)
    except FileNotFoundError:
        return _NOTHING
