"""Whether `hardcase up` runs on a state folder: a lock that the kernel frees, and a file that says who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.paths import StatePaths


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a supervisor says about itself.

    Attributes:
        run_id: Marks every process of this run: each inherits it in the environment variable `HARDCASE_RUN_ID`.
        started_at: RFC 3339, UTC.
        ready: Everything answered at least once.
        addresses: What listens where: "inference", "grpc", "console".
        temporary: Folders outside the state folder that go when the run ends.
        children: Role to process id.
    """

    pid: int
    run_id: str
    started_at: str
    ready: bool = False
    addresses: dict[str, str] = field(default_factory=dict)
    temporary: list[str] = field(default_factory=list)
    children: dict[str, int] = field(default_factory=dict)


class RunLock:
    """Exclusive hold of a state folder; free as soon as the process ends, however it ends."""

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        self._fd = -1

    def acquire(self) -> bool:
        """Try once; False when somebody else holds it."""
        fd = os.open(self._paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        """Let go; the run file goes first, so that nobody reads about a run that ended."""
        if self._fd >= 0:
            self._paths.run_file.unlink(missing_ok=True)
            self._paths.replicas_file.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def is_held(paths: StatePaths) -> bool:
    """Whether a supervisor holds the state folder now."""
    if not paths.lock.exists():
        return False
    fd = os.open(paths.lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read_run(paths: StatePaths) -> RunInfo | None:
    """The last run's own words, whether or not it still runs; None when there is no (readable) file."""
    try:
        return RunInfo(**json.loads(paths.run_file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def current_run(paths: StatePaths) -> RunInfo | None:
    """The run that holds the state folder now."""
    return read_run(paths) if is_held(paths) else None


def write_run(paths: StatePaths, info: RunInfo) -> None:
    """Replace the run file atomically."""
    write_atomically(paths.run_file, json.dumps(asdict(info), indent=1))


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old text or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
