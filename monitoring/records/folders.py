"""Folders of the record log: names, the lock that says whether a writer lives, acknowledgements, sizes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from monitoring.records.frames import segment_numbers, segment_path

LOCK_FILE = "LOCK"
ACK_FILE = "ack.json"
FINAL_FILE = "final.json"
AS_OF_FILE = "as_of"  # in the root: records of other machines have arrived up to this time, in nanoseconds
SOURCE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*-([0-9a-f]{24})")


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """A place between two frames of a source: everything before it has been read."""

    segment: int
    offset: int
    sequence: int


def new_incarnation(time_ns: int) -> str:
    """24 hex digits: the time, so that folders sort by age, and chance, so that they never meet."""
    return f"{max(0, time_ns) & (2**64 - 1):016x}{secrets.token_hex(4)}"


def safe_replica(replica: str) -> str:
    """A replica's name as part of a folder name: other characters than letters, digits, `_`, `.`, `-` become `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", replica).lstrip(".-")[:100] or "replica"


def incarnation_of(source: str) -> str | None:
    """The incarnation in a folder's name; None for a folder that is not a source."""
    match = SOURCE_NAME.fullmatch(source)
    return match[1] if match else None


def list_sources(root: Path) -> tuple[str, ...]:
    """Names of all sources under a root, oldest first; empty when there is no root."""
    try:
        names = [entry.name for entry in root.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return ()
    return tuple(sorted((n for n in names if incarnation_of(n)), key=lambda n: (incarnation_of(n), n)))


def as_of_ns(root: Path, now_ns: int) -> int:
    """The time up to which the log under `root` is all there: now, or less where it comes from other machines."""
    try:
        return min(now_ns, int((root / AS_OF_FILE).read_bytes()))
    except (FileNotFoundError, ValueError):
        return now_ns


def lock(directory: Path) -> int:
    """Take the writer's lock of a folder; the lock ends with the descriptor.

    Raises:
        BlockingIOError: another writer has it.
    """
    fd = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def is_locked(directory: Path) -> bool:
    """Whether a living process holds the writer's lock."""
    try:
        fd = os.open(directory / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two readers that ask at once do not take each other for a writer.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a reader, or a restart after a kill, sees the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def acknowledge(directory: Path, position: Position) -> None:
    """Store how far the monitor has consumed a source. It never goes back."""
    current = acknowledged(directory)
    if current is None or position > current:
        write_atomically(directory / ACK_FILE, json.dumps(asdict(position)).encode())


def acknowledged(directory: Path) -> Position | None:
    """The stored acknowledgement; None when there is none, or it cannot be read."""
    try:
        plain = json.loads((directory / ACK_FILE).read_bytes())
        return Position(int(plain["segment"]), int(plain["offset"]), int(plain["sequence"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def log_bytes(directory: Path, *, first: int = 0) -> int:
    """Bytes of all segments in a folder, of those numbered `first` and above."""
    total = 0
    for number in segment_numbers(directory):
        if number < first:
            continue
        with contextlib.suppress(FileNotFoundError):
            total += segment_path(directory, number).stat().st_size
    return total


def held_bytes(directory: Path) -> int:
    """Bytes in the root of `directory` that its writer may not delete: unread, in its own folder and in dead ones."""
    total = 0
    for source in list_sources(directory.parent):
        folder = directory.parent / source
        if folder == directory or not is_locked(folder):
            read = acknowledged(folder)
            total += log_bytes(folder, first=read.segment if read else 0) - (read.offset if read else 0)
    return max(0, total)


def delete_before(directory: Path, segment: int, *, at_least: int | None = None) -> int:
    """Delete segments numbered below `segment`, oldest first, until `at_least` bytes are gone (None: all of them).

    Returns:
        Bytes deleted.
    """
    freed = 0
    for number in segment_numbers(directory):
        if number >= segment or (at_least is not None and freed >= at_least):
            break
        path = segment_path(directory, number)
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            path.unlink()
            freed += size
    return freed
