"""Sending one notice to one channel. An answer of success, or `SendFailed` with words for the settings page."""

from __future__ import annotations

import smtplib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from monitoring.integrations.egress import Egress, EgressError
from monitoring.notify import messages
from monitoring.notify.contracts import Notice
from monitoring.notify.options import ChannelKind, ChannelOptions, MailSecurity

TIMEOUT_S = 15.0
MAX_ANSWER = 64 << 10
GONE = 410


class SendFailed(Exception):
    """It did not arrive. `final`: trying again cannot help."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class Sender(Protocol):
    """Sends notices."""

    def __call__(self, channel: ChannelOptions, notice: Notice) -> None:
        """Send it.

        Raises:
            SendFailed: it did not arrive, as far as is known.
        """


@dataclass(frozen=True, kw_only=True)
class NetworkSender:
    """Sends through the egress client, and mail by SMTP.

    Attributes:
        allowed_hosts: That may be on this machine or in a private network, besides those of the channels.
        base: Where the console is reached, for links; may be empty.
        clock: Seconds since the epoch.
    """

    allowed_hosts: tuple[str, ...] = ()
    base: str = ""
    clock: Callable[[], float] = time.time

    def __call__(self, channel: ChannelOptions, notice: Notice) -> None:
        """See `Sender`."""
        try:
            if channel.kind is ChannelKind.EMAIL:
                self._mail(channel, notice)
            else:
                self._post(channel, notice)
        except EgressError as error:
            raise SendFailed(error.message) from None
        except ValueError as error:
            raise SendFailed(str(error)) from None

    def _post(self, channel: ChannelOptions, notice: Notice) -> None:
        if channel.kind is ChannelKind.SLACK:
            body, headers = messages.slack_message(notice, self.base), {"content-type": "application/json"}
        else:
            body = messages.cloud_event(notice, self.base)
            headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
            secret = read_secret(channel.secret_file, "secret_file")
            headers |= messages.signed_headers(secret, messages.message_id(notice), int(self.clock()), body)
        url = channel.url or read_secret(channel.url_file, "url_file")
        egress = Egress.to(url, self.allowed_hosts, attempts=1, total_s=TIMEOUT_S, max_bytes=MAX_ANSWER)
        answer = egress.send("POST", url, headers=headers, body=body)
        if not answer.ok:
            raise SendFailed(f"the other side answered {answer.status}", final=answer.status == GONE)

    def _mail(self, channel: ChannelOptions, notice: Notice) -> None:
        message = messages.mail(notice, self.base, channel.sender, channel.to)
        context = ssl.create_default_context()
        try:
            if channel.security is MailSecurity.TLS:
                server: smtplib.SMTP = smtplib.SMTP_SSL(channel.host, channel.port, timeout=TIMEOUT_S, context=context)
            else:
                server = smtplib.SMTP(channel.host, channel.port, timeout=TIMEOUT_S)
            with server:
                if channel.security is MailSecurity.STARTTLS:
                    server.starttls(context=context)
                if channel.username:
                    server.login(channel.username, read_secret(channel.password_file, "password_file"))
                refused = server.send_message(message)
        except smtplib.SMTPRecipientsRefused:
            raise SendFailed("the mail server takes none of the addresses") from None
        except smtplib.SMTPResponseException as error:
            raise SendFailed(f"the mail server answered {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise SendFailed(f"the mail server was not reached, or broke off ({type(error).__name__})") from None
        if refused:
            raise SendFailed(f"the mail server took the message, but {len(refused)} addresses not", final=True)


def read_secret(path: str, setting: str) -> str:
    """What a secret's file holds, without spaces around it.

    Raises:
        SendFailed: there is none; the text names the setting, not the file.
    """
    if not path:
        raise SendFailed(f"the setting {setting} is missing")
    try:
        text = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SendFailed(f"the file that {setting} names cannot be read") from None
    if not text:
        raise SendFailed(f"the file that {setting} names is empty")
    return text
