"""When a refit is due, and which records wait for it.

A refit looks at the labels given before a whole multiple of `refit_s` of event time, and holds for records from
`hold_s` later. So that the same log gives the same scores whenever the monitor looks, kills and long absences included,
records from that moment on are left in the log until the refit before them was tried. Live traffic never waits: the
refit is tried as soon as `lateness_s` have passed, long before `hold_s` have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from monitoring.batches import Records
from monitoring.ingest_rows import START, Cursor
from monitoring.options import MonitorOptions
from monitoring.window_rows import NANOSECONDS


class LogFrame(Protocol):
    """What is asked of a frame (`monitoring.records.reader.Frame`)."""

    @property
    def source(self) -> str: ...  # noqa: D102  # described where it is implemented
    @property
    def kind(self) -> str: ...  # noqa: D102
    def records(self) -> Records: ...  # noqa: D102


F = TypeVar("F", bound=LogFrame)


class FitClock:
    """The next boundary, kept in memory; what was looked at is in the database.

    Args:
        looked_ns: Event time up to which labels were looked at, or of the first record; 0 before there was one.
    """

    def __init__(self, options: MonitorOptions, looked_ns: int) -> None:
        self._step = options.scores.refit_s * NANOSECONDS
        self._hold = max(options.scores.hold_s, options.lateness_s) * NANOSECONDS
        self._late = options.lateness_s * NANOSECONDS
        self._looked = looked_ns // self._step * self._step
        self._held: dict[str, int] = {}
        self._behind: frozenset[str] = frozenset()

    def hold(self, frames: Sequence[F], behind: frozenset[str]) -> tuple[list[F], frozenset[str]]:
        """Leave out what must wait, source by source, and say which sources hold more now."""
        self._held = {}
        self._behind = behind
        if not self._looked:
            times = [newest for frame in frames if (newest := _newest(frame)) is not None]
            self._looked = min(times, default=0) // self._step * self._step
        kept: list[F] = []
        for frame in frames:
            if frame.source in self._held:
                continue
            newest = _newest(frame)
            if newest is not None and newest >= self._looked + self._step + self._hold:
                self._held[frame.source] = newest
                continue
            kept.append(frame)
        self._behind = behind | frozenset(self._held)
        return kept, self._behind

    def due(self, ends: Mapping[str, Cursor]) -> tuple[int, int] | None:
        """Event times (ns) from which and up to which labels can be looked at now, or None.

        Every source that has more to read must have passed the boundary, so that no label given before it is missing.
        """
        if not self._looked:
            return None
        newest = max([*self._held.values(), *(end.event_ns for end in ends.values())], default=0)
        slowest = [self._held.get(s, ends.get(s, START).event_ns) for s in self._behind]
        reach = int(min([newest - self._late, *slowest]) // self._step * self._step)
        return (self._looked, reach) if reach > self._looked else None

    @property
    def waiting(self) -> frozenset[str]:
        """Sources whose next records wait for a refit."""
        return frozenset(self._held)

    def looked(self, until_ns: int) -> None:
        """Labels given before `until_ns` were looked at."""
        self._looked = until_ns

    def boundary_after(self, time_ns: int) -> int:
        """The first boundary after a time."""
        return (time_ns // self._step + 1) * self._step

    @property
    def hold_ns(self) -> int:
        """From a boundary to the first record that is scored with its refit."""
        return int(self._hold)


def _newest(frame: LogFrame) -> int | None:
    """Time of the newest record in a frame; None where there are none, or they cannot be read."""
    if frame.kind != "records":
        return None
    try:
        return int(frame.records().time_ns.max(initial=0))
    except (ValueError, OSError, KeyError):  # the ingest sets it aside, with its reason
        return None
