"""What the ingest needs of a frame of the log, so that tests can hand it frames of their own."""

from __future__ import annotations

from typing import Protocol

from monitoring.batches import Records
from monitoring.records.record import Event, Feedback


class LogPosition(Protocol):
    """Where a frame of the log ends (`monitoring.records.reader.Position`)."""

    @property
    def segment(self) -> int: ...  # noqa: D102  # described where it is implemented
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def sequence(self) -> int: ...  # noqa: D102


class LogFrame(Protocol):
    """A frame of the log (`monitoring.records.reader.Frame`)."""

    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def position(self) -> LogPosition: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    def records(self) -> Records: ...  # noqa: D102
    def feedback(self) -> list[Feedback]: ...  # noqa: D102
    def event(self) -> Event: ...  # noqa: D102
