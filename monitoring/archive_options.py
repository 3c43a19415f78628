"""Settings of the archive. Nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveOptions:
    """Whether consumed segments become Parquet, and when.

    Attributes:
        enabled: Off leaves segments as they are, until retention or the quota takes them.
        file_bytes: Segments of a source are gathered until they make so many bytes ...
        age_s: ... or the oldest is older than this.
        days: Files whose newest record is older go.
        max_bytes: Bytes of all files; past it the oldest go.
    """

    enabled: bool = False
    file_bytes: int = 64 << 20
    age_s: float = 900.0
    interval_s: float = 10.0
    days: float = 90.0
    max_bytes: int = 64 << 30
