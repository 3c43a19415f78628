"""Settings of what the monitor calls: labelling tools, and where calls may go at all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deploy.settings_base import Seconds, Section

Url = Annotated[str, Field(pattern=r"^(https?://[^\s/@]+(/[^\s?#]*)?)?$")]


class LabelStudioSettings(Section):
    """A Label Studio that cases are pushed to and labels come back from."""

    url: Url = ""
    """Where it answers, as the monitor reaches it, such as `http://127.0.0.1:8081`; empty: there is none."""
    token_file: str = ""
    """File that holds the access token, and nothing else: a personal access token, or a legacy one."""
    callback_url: Url = ""
    """The console as Label Studio reaches it, for its webhooks. Empty: changes are only polled for."""
    poll_s: Seconds = 30.0
    """Time between two looks at what was annotated."""
    show_predictions: bool = False
    """Annotators see the model's answer before they give theirs. It then often becomes theirs."""
    annotators: int = Field(default=1, ge=1, le=20)
    """Annotations that a task needs before its case is settled."""


class CvatSettings(Section):
    """A CVAT that cases are pushed to."""

    url: Url = ""
    """Where it answers, as the monitor reaches it; empty: there is none."""
    token_file: str = ""
    """File that holds a personal access token, and nothing else."""
    poll_s: Seconds = 60.0
    """Time between two looks at what was completed."""


class IntegrationSettings(Section):
    """What the monitor calls beyond its machine. Nothing, unless something is set here."""

    allowed_hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]+$")], ...] = ()
    """`host` or `host:port` that calls may reach though their address is private. Those of the tools' URLs are allowed
    without being named again."""
    label_studio: LabelStudioSettings = LabelStudioSettings()
    cvat: CvatSettings = CvatSettings()
