"""What a supervisor writes down of a program's words: events and log, both bounded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from deploy.jobs.folder import JobFolder
from export.contracts.training import EventKind, TrainingEvent
from export.training.lines import parse_event, to_line

LOG_BYTES = 4 << 20  # of one of the two files
BURST = 5000  # events that are kept without a look at the clock
PER_S = 5.0  # ... and how many a second after that
MOST = 200_000  # of a job, ever


class Book:
    """Appends to a job's `events.jsonl` and `log`.

    Args:
        folder: Of the job.
    """

    def __init__(self, folder: JobFolder) -> None:
        self._events = (folder.dir / "events.jsonl").open("ab", buffering=0)
        _whole(self._events, folder.dir / "events.jsonl")
        self._folder = folder
        self._log = folder.log.open("ab", buffering=0)
        self._kept = 0
        self._allowance = float(BURST)
        self._before_s: float | None = None
        self.left_out = 0
        self.done: TrainingEvent | None = None

    def take(self, line: bytes, now_s: float, *, may_speak: bool = True) -> None:
        """Keep a line: as an event if it is one and the stream carries events, as log otherwise.

        Args:
            line: Without its end.
            now_s: Of a monotonic clock.
            may_speak: False for standard error.
        """
        event = parse_event(line) if may_speak else None
        if event is None:
            self.log(line)
        else:
            self.event(event, now_s)

    def event(self, event: TrainingEvent, now_s: float) -> None:
        """Keep an event, unless there are too many; the one that says it is done always."""
        since = 0.0 if self._before_s is None else now_s - self._before_s
        self._before_s = now_s
        self._allowance = min(self._allowance + since * PER_S, float(BURST))
        if event.kind is EventKind.DONE:
            if self.done is not None:
                return
            self.done = event
        elif self._allowance < 1 or self._kept >= MOST:
            self.left_out += 1
            return
        self._allowance -= 1
        self._kept += 1
        self._events.write(to_line(event))

    def note(self, text: str) -> None:
        """The supervisor's own word among the events."""
        self._events.write(to_line(TrainingEvent(kind=EventKind.NOTE, text=text)))

    def log(self, line: bytes) -> None:
        """Keep a line of log; the oldest go when there are too many."""
        if self._log.tell() > LOG_BYTES:
            self._log.close()
            self._folder.log.replace(self._folder.dir / "log.1")
            self._log = self._folder.log.open("ab", buffering=0)
        self._log.write(line + b"\n")

    def close(self) -> None:
        """Say what was left out, and let go of the files."""
        if self.left_out:
            self.note(f"{self.left_out} events were left out: the program said too many")
        os.fsync(self._events.fileno())
        self._events.close()
        self._log.close()


def _whole(file: BinaryIO | object, path: Path) -> None:
    """End the line that a kill may have torn, so that the next one is read."""
    size = path.stat().st_size
    if size == 0:
        return
    with path.open("rb+") as opened:
        opened.seek(size - 1)
        if opened.read(1) != b"\n":
            opened.write(b"\n")
