"""Settings of notifications. Nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitoring.notify.contracts import Notice, NoticeKind, Severity


class ChannelKind(StrEnum):
    """How a channel is told."""

    WEBHOOK = "webhook"  # CloudEvents, signed as Standard Webhooks say
    SLACK = "slack"  # a message to an incoming webhook that Slack, or one who is like it, gives
    EMAIL = "email"  # by SMTP


class MailSecurity(StrEnum):
    """How the mail server is spoken to."""

    STARTTLS = "starttls"  # in the clear at first; refused where it does not become TLS
    TLS = "tls"  # from the first byte
    NONE = "none"  # in the clear: for a server on this machine


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelOptions:
    """One channel, and what it wants to be told.

    Attributes:
        name: Of the channel; deliveries are kept under it.
        url: Where webhooks and messages go.
        url_file: File that holds the URL, where the URL is a secret, as Slack's are.
        secret_file: File that holds the signing secret of webhooks, `whsec_` and base64.
        to: Addresses of mail.
        sender: Address that mail comes from.
        host: Mail server.
        username: At the mail server; empty: nobody signs in.
        password_file: File that holds the password.
        events: Kinds of notices; none: all but the digest.
        models: Names; none: all. What is about no single model is told in any case.
        min_severity: What matters less is not told.
        digest_at: "07:30": a digest every day from that time on, UTC; empty: none.
    """

    name: str
    kind: ChannelKind = ChannelKind.WEBHOOK
    url: str = ""
    url_file: str = ""
    secret_file: str = ""
    to: tuple[str, ...] = ()
    sender: str = ""
    host: str = ""
    port: int = 587
    security: MailSecurity = MailSecurity.STARTTLS
    username: str = ""
    password_file: str = ""
    events: tuple[NoticeKind, ...] = ()
    models: tuple[str, ...] = ()
    min_severity: Severity = Severity.INFO
    digest_at: str = ""

    def wants(self, notice: Notice) -> bool:
        """Whether the channel is to be told."""
        if notice.kind is NoticeKind.TEST:
            return notice.data.get("channel") in (self.name, "")
        if notice.kind is NoticeKind.DIGEST:
            return bool(self.digest_at) and notice.data.get("at") == self.digest_at
        if self.events and notice.kind not in self.events:
            return False
        if self.models and notice.model and notice.model not in self.models:
            return False
        return notice.severity.reaches(self.min_severity)
