"""Settings of the monitor: the loop, the console, and who may use it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deploy.settings_base import Port, Seconds, Section, Size
from deploy.settings_findings import (
    AlarmSettings,
    CaseSettings,
    DriftSettings,
    ReportSettings,
    RetentionSettings,
    ScoreSettings,
    SliceSearchSettings,
)
from deploy.settings_inference import InferenceSettings
from deploy.settings_records import ArchiveSettings


class MonitorSettings(Section):
    """The monitor: reads the record log, keeps windows and failure cases, and serves the console and its API."""

    host: str = "127.0.0.1"
    """Address of the console and API. Anything beyond loopback needs `monitor.sign_in: always` or
    `monitor.token_sha256`."""
    port: Port = 8080
    """Port of the console and API."""
    token_sha256: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = ()
    """SHA-256 of bearer tokens that console and API accept beside people and API keys; each may do everything."""
    sign_in: Literal["auto", "always"] = "auto"
    """When people have to say who they are. `auto`: as soon as there is a user or a token. `always`: from the first
    start on; a one-time link makes the first admin (docs/guides/people.md)."""
    session_idle_s: Seconds = 7200.0
    """A session that nobody uses ends after so long."""
    session_s: Seconds = 43_200.0
    """Every session ends after so long."""
    allowed_hosts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,253}$")], ...] = ()
    """Names under which browsers may reach the console, besides IP addresses, `localhost` and `public_url`. Any other
    name is refused (DNS rebinding)."""
    public_url: str = Field(default="", pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+)?$")
    """Where browsers reach the console when it stands behind a proxy, such as `https://hardcase.example.com`."""
    secure_cookie: bool = False
    """Browsers reach the console by TLS: its cookie is marked `Secure`. So it is where `public_url` says https."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of proxies whose `X-Forwarded-For` is believed, for the throttling of sign-ins and for the audit."""
    database_url: str | None = None
    """SQLAlchemy URL of the database; empty is SQLite in the state folder."""
    poll_interval_s: Seconds = 0.25
    """Pause between cycles when there is nothing to read."""
    batch_bytes: Size = 16 << 20
    """Bytes of the record log that one cycle, and so one transaction, takes at most."""
    window_s: int = Field(default=60, ge=1)
    """Length of a window in seconds."""
    lateness_s: float = Field(default=10.0, ge=0)
    """How far behind the newest record a record may be before it counts as late. It is counted either way."""
    sample_rows: int = Field(default=100, ge=0)
    """Rows of input values kept per window, for reports."""
    keys: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")], ...] = ()
    """Request parameters and tags that are business keys, such as `order_id`: feedback may name them instead of the
    record's id. Their values are kept beside the record."""
    cases: CaseSettings = CaseSettings()
    scores: ScoreSettings = ScoreSettings()
    slices: SliceSearchSettings = SliceSearchSettings()
    drift: DriftSettings = DriftSettings()
    alarms: AlarmSettings = AlarmSettings()
    reports: ReportSettings = ReportSettings()
    retention: RetentionSettings = RetentionSettings()
    archive: ArchiveSettings = ArchiveSettings()
    inference: InferenceSettings = InferenceSettings()
