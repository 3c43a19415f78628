"""Settings of notifications: channels, and what each wants to be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from deploy.settings_base import Port, Section
from monitoring.notify.contracts import NoticeKind, Severity
from monitoring.notify.options import ChannelKind, MailSecurity

Url = Annotated[str, Field(pattern=r"^(https?://[^\s@]+)?$")]
Address = Annotated[str, Field(pattern=r"^[^\s@<>,;]+@[^\s@<>,;]+$", max_length=254)]


class ChannelSettings(Section):
    """A channel that is told what happened: alarms, slices, batches, tools that are away, rollouts, a daily digest."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Names the channel. What was not sent yet stays with that name."""
    kind: ChannelKind = ChannelKind.WEBHOOK
    """`webhook`: CloudEvents, signed as Standard Webhooks say. `slack`: a message to an incoming webhook. `email`: by
    SMTP."""
    url: Url = ""
    """Where webhooks and messages go."""
    url_file: str = ""
    """File that holds the URL and nothing else, where the URL is a secret, as Slack's are."""
    secret_file: str = ""
    """File that holds the signing secret of a webhook: `whsec_` and at least 16 bytes in base64."""
    to: tuple[Address, ...] = ()
    """Addresses that mail goes to."""
    sender: Address | None = None
    """Address that mail comes from."""
    host: str = ""
    """Mail server."""
    port: Port = 587
    """Its port."""
    security: MailSecurity = MailSecurity.STARTTLS
    """`starttls` or `tls`; `none` only for a server on this machine."""
    username: str = ""
    """At the mail server; empty: nobody signs in."""
    password_file: str = ""
    """File that holds the password and nothing else."""
    events: tuple[NoticeKind, ...] = ()
    """Kinds of notices; none: all but the digest."""
    models: tuple[str, ...] = ()
    """Models; none: all. What is about no single model is told in any case."""
    min_severity: Severity = Severity.INFO
    """What matters less is not told."""
    digest_at: str = Field(default="", pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9])?$")
    """Time of day, UTC, such as `07:30`, of a digest: what happened, what waits, where to click; none when nothing
    happened. Empty: no digest."""

    @model_validator(mode="after")
    def _whole(self) -> ChannelSettings:
        if self.kind is ChannelKind.EMAIL:
            if not (self.host and self.to and self.sender):
                raise ValueError("a channel of kind 'email' needs host, to and sender")
        elif bool(self.url) == bool(self.url_file):
            raise ValueError(f"a channel of kind '{self.kind.value}' needs url or url_file")
        if self.kind is ChannelKind.WEBHOOK and not self.secret_file:
            raise ValueError("a channel of kind 'webhook' needs secret_file: receivers must know who sends")
        return self
