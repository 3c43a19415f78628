"""Follow a log file and pick out what a person at the terminal should see."""

from __future__ import annotations

import re
from pathlib import Path

_IMPORTANT = re.compile(r"\b(WARNING|ERROR|CRITICAL|Traceback)\b|^\w*(Error|Exception)\b")
_NOISE = re.compile(
    r"Token authentication is enabled|/dev/shm|object store|usage stats|SIGTERM|sigterm"
    r"|DeprecationWarning|FutureWarning|UserWarning"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MAX_LINE = 240


class LogTail:
    """Lines that a log gains after this object was made. A file that does not exist yet is an empty one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def lines(self) -> list[str]:
        """Whole new lines, without colours, cut at 240 characters."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read(1 << 20)
        except FileNotFoundError:
            return []
        self._offset += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        return [_COLOUR.sub("", raw.decode("utf-8", "replace")).rstrip()[:_MAX_LINE] for raw in whole]

    def important(self) -> list[str]:
        """New lines that warn or report an error; known harmless ones are left to the file."""
        return [line for line in self.lines() if _IMPORTANT.search(line) and not _NOISE.search(line)]

    def close(self) -> None:
        """Forget the rest of an unfinished line."""
        self._rest = b""


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a log, for an error message; empty when there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - (64 << 10)))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = [_COLOUR.sub("", line).rstrip()[:_MAX_LINE] for line in text.splitlines() if line.strip()]
    return lines[-count:]
