"""A notice as each kind of channel carries it.

References:
    CloudEvents 1.0.2, JSON event format, structured mode.
    Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature; symmetric signatures (v1).
    Slack: message blocks; escaping of & < >.
    RFC 5322; RFC 2046, 5.1.4: text and HTML of one message.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import re
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from monitoring.api.fields import from_ns, to_text
from monitoring.notify.contracts import Notice, Severity

SOURCE = "urn:hardcase:monitor"
TYPE = "io.hardcase."
PREFIX = "whsec_"
_MARKS = {Severity.INFO: "\u2139\ufe0f", Severity.WARNING: "\u26a0\ufe0f", Severity.CRITICAL: "\U0001f534"}
_SPACES = re.compile(r"\s+")


def message_id(notice: Notice) -> str:
    """Names the notice to receivers: the same whenever it is sent again.

    Example:
        >>> from monitoring.notify.contracts import NoticeKind
        >>> n = Notice(event="alarm:x:0", kind=NoticeKind.ALARM_FIRED, severity=Severity.INFO, time_ns=0, title="t")
        >>> message_id(n)
        'msg_ea64653d2b8d90e1961bfd95'
    """
    return "msg_" + hashlib.sha256(notice.event.encode()).hexdigest()[:24]


def cloud_event(notice: Notice, base: str) -> bytes:
    """The body of a webhook."""
    data: dict[str, Any] = {"severity": notice.severity.value, "title": notice.title, "text": notice.text}
    data |= {"model": notice.model, "version": notice.version, "page": link(notice, base), **notice.data}
    event = {
        "specversion": "1.0",
        "id": message_id(notice),
        "source": SOURCE,
        "type": TYPE + notice.kind.value,
        "time": to_text(from_ns(notice.time_ns)),
        "datacontenttype": "application/json",
        "data": data,
    }
    if notice.model:
        event["subject"] = notice.model
    return json.dumps(event, ensure_ascii=False, allow_nan=False, default=str).encode()


def signed_headers(secret: str, identity: str, now_s: int, body: bytes) -> dict[str, str]:
    """Headers by which a receiver knows that we sent the body, and when.

    Raises:
        ValueError: the secret is not `whsec_` and base64.
    """
    key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    if len(key) < 16:
        raise ValueError("a signing secret has at least 16 bytes")
    signature = hmac.new(key, f"{identity}.{now_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(now_s),
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


def slack_message(notice: Notice, base: str) -> bytes:
    """A message for an incoming webhook; what clients chose is shown as it is, and never as markup."""
    title = f"{_MARKS[notice.severity]} {_slack(notice.title)}"
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": f"*{title}*"}}]
    if notice.text:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": _slack(notice.text)[:2900]}})
    facts = [f"model {notice.model}" if notice.model else "", f"version {notice.version}" if notice.version else ""]
    where = link(notice, base)
    told = " \u00b7 ".join(_slack(x) for x in [*facts, to_text(from_ns(notice.time_ns))] if x)
    told += f" \u00b7 <{where}|open>" if where.startswith("http") else ""
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": told}]})
    return json.dumps({"text": title, "blocks": blocks}, ensure_ascii=False).encode()


def mail(notice: Notice, base: str, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """A message in text and HTML."""
    message = EmailMessage()
    message["Subject"] = _SPACES.sub(" ", f"[Hardcase] {notice.title}")[:200]
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = format_datetime(from_ns(notice.time_ns))
    message["Message-ID"] = f"<{message_id(notice)}@hardcase>"
    message["Auto-Submitted"] = "auto-generated"
    where = link(notice, base)
    facts = [x for x in (notice.model, notice.version and f"version {notice.version}") if x]
    plain = [notice.title, "", notice.text, "", *facts, to_text(from_ns(notice.time_ns)), where]
    message.set_content("\n".join(plain).strip() + "\n")
    anchor = f'<p><a href="{html.escape(where)}">Open in Hardcase</a></p>' if where.startswith("http") else ""
    paragraphs = "".join(f"<p>{html.escape(part)}</p>" for part in notice.text.split("\n") if part.strip())
    told = html.escape(" \u00b7 ".join([*facts, to_text(from_ns(notice.time_ns))]))
    head = f"<h3>{html.escape(notice.title)}</h3>"
    page = f"<html><body>{head}{paragraphs}{anchor}<p><small>{told}</small></p></body></html>"
    message.add_alternative(page, subtype="html")
    return message


def link(notice: Notice, base: str) -> str:
    """Address of the notice's page; its path where nobody has said how the console is reached."""
    return base.rstrip("/") + notice.page if notice.page else base


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
