"""Settings of what is recorded, in which form it is kept, and of whom nothing is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from deploy.settings_base import Seconds, Section, Share, Size
from export.contracts.privacy import PrivacyPolicy


class CaptureSettings(Section):
    """The record log: what a replica writes down about each request."""

    enabled: bool = True
    """Off records nothing: no monitoring, no failure cases."""
    durability: Literal["async", "before_answer", "synced"] = "async"
    """`async`: in the operating system within 50 ms of the answer; `before_answer`: there before the answer goes out;
    `synced`: on the disk before the answer, survives power loss."""
    segment_bytes: Size = 64 << 20
    """A segment file is sealed when it grows past this."""
    segment_age_s: Seconds = 60.0
    """... or when it is older than this and not empty."""
    buffer_bytes: Size = 64 << 20
    """Records waiting for the writer; past it they are dropped and counted."""
    quota_bytes: Size = 4 << 30
    """Bytes that a replica's log may hold on disk; past it records are dropped and counted."""
    flush_interval_s: float = Field(default=0.02, gt=0, le=0.05)
    """How often the writer looks, in `async`; below the promised 50 ms."""
    sample: Share = 1.0
    """Share of ordinary records to keep, stored as probability. Refused, failed and flagged ones are always kept."""
    max_frame_bytes: Size = 64 << 20
    """Largest frame of the log; a record that cannot fit is dropped and counted."""


class ArchiveSettings(Section):
    """Consumed segments of the record log as Parquet (zstd), in `archive/` of the state folder."""

    enabled: bool = False
    """Archive them. Off, segments stay as they are until retention or the writer's quota takes them."""
    file_bytes: Size = 64 << 20
    """Segments of a replica are gathered until they hold so many bytes ..."""
    age_s: Seconds = 900.0
    """... or the oldest of them is older than this."""
    interval_s: Seconds = 10.0
    """How often the monitor looks for segments to archive."""
    days: float = Field(default=90.0, gt=0)
    """Days that archived records are kept."""
    max_bytes: Size = 64 << 30
    """Bytes of all files; past it the oldest go."""


class PrivacySettings(Section):
    """What is kept of a model's requests; replicas and the monitor both keep to it."""

    model: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$")
    """The model; empty: every model that has no entry of its own."""
    keep: Literal["full", "thumbnail", "embedding", "nothing"] = "full"
    """`full`: inputs and outputs; `thumbnail`: outputs, and a small picture with each case, inputs leave the log once
    they are consumed; `embedding`: outputs, no input is ever written; `nothing`: only how a request ended."""
    redact: tuple[str, ...] = ()
    """JSON pointers into the record whose value is never written: `/inputs/NAME`, `/outputs/NAME`, `/parameters/…`,
    `/tags/…`, `/feedback/comment`, `/feedback/source`, `/trace_id`."""
    input_days: float | None = Field(default=None, gt=0)
    """Days that inputs are kept with cases and in the log; empty: as long as the case, and the log. The archive keeps
    them for `record_days`."""
    snapshot_days: float | None = Field(default=None, gt=0)
    """Days that records stay in data set snapshots and in the sets of gates; older rows go as if they were erased.
    Empty: the shorter of `input_days` and `case_days`; where none of the three is given, for ever."""
    record_days: float | None = Field(default=None, gt=0)
    """Days that records are kept, in the index, the log and the archive; empty: see `monitor.retention` and
    `monitor.archive`."""
    case_days: float | None = Field(default=None, gt=0)
    """Days that cases are kept."""
    feedback_days: float | None = Field(default=None, gt=0)
    """Days that feedback is kept, in the database and the log."""

    @field_validator("redact")
    @classmethod
    def _pointers_name_something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        PrivacyPolicy(redact=value)
        return value
