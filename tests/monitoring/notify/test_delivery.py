"""Notices against real receivers: signed, once each, none lost while the other side is down, quiet on quiet days."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from monitoring import schema as t
from monitoring.metrics_notify import notify_metrics
from monitoring.notify import outbox
from monitoring.notify.contracts import DeliveryState, Notice, NoticeKind, Severity
from monitoring.notify.duty import ATTEMPTS, Teller
from monitoring.notify.messages import message_id
from monitoring.notify.options import ChannelKind, ChannelOptions, MailSecurity
from monitoring.notify.send import NetworkSender
from monitoring.store import Store

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
EVIL = "<script>alert(1)</script> & <!channel> =cmd\nBcc: x@y.z"


@dataclass(kw_only=True)
class Receiver:
    """A server that keeps what it is sent and answers as told."""

    status: int = 200
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(made.status)
            self.send_header("location", made.url("/elsewhere"))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(kw_only=True)
class Clock:
    now: float = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path}/monitor.db")
    yield made
    made.close()


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text(SECRET + "\n")
    return str(tmp_path / "secret")


def teller(store: Store, clock: Clock, *channels: ChannelOptions) -> Teller:
    send = NetworkSender(base="https://hardcase.example", clock=clock)
    return Teller(store=store, channels=channels, send=send, clock=clock, draw=lambda: 0.5)


def happen(store: Store, clock: Clock, event: str = "alarm:1:0", **changes: Any) -> Notice:
    given = {"kind": NoticeKind.ALARM_FIRED, "severity": Severity.CRITICAL, "title": "digits fails", "model": "digits"}
    notice = Notice(event=event, time_ns=int(clock.now * 1e9), text=EVIL, page="/alarms/1", **given | changes)
    with store.write() as connection:
        outbox.announce(connection, notice)
    return notice


def states(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(sa.select(t.deliveries.c.state).order_by(t.deliveries.c.id)))


def measured(store: Store, clock: Clock, channel: ChannelOptions) -> dict[str, float]:
    """What Prometheus is told, by short names."""
    samples = [sample for family in notify_metrics(store, [channel], clock) for sample in family.samples]
    names = {
        "hardcase_notice_retries_total": "again",
        "hardcase_notices_waiting": "waiting",
        "hardcase_notices_oldest_seconds": "oldest",
    }
    return {names.get(s.name) or s.labels["outcome"]: s.value for s in samples}


def test_a_webhook_is_a_cloud_event_that_its_receiver_can_verify(store: Store, secret: str, receiver: Receiver) -> None:
    clock = Clock(now=datetime.now(UTC).timestamp())
    notice = happen(store, clock)
    assert not teller(store, clock, ChannelOptions(name="w", url=receiver.url(), secret_file=secret)).turn()
    ((headers, body),) = receiver.got
    event = Webhook(SECRET).verify(body, headers)  # S19: the library's own check
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert (event["specversion"], event["type"]) == ("1.0", "io.hardcase.alarm.fired")
    assert event["id"] == headers["webhook-id"] == message_id(notice)
    assert event["data"]["page"] == "https://hardcase.example/alarms/1"
    with pytest.raises(WebhookVerificationError):  # forged
        Webhook(SECRET).verify(body.replace(b"digits", b"others"), headers)
    stale = str(int(clock.now) - 3600)
    with pytest.raises(WebhookVerificationError):  # replayed with another time
        Webhook(SECRET).verify(body, headers | {"webhook-timestamp": stale})
    old = Clock(now=clock.now - 3600)
    happen(store, old, "alarm:1:1")
    teller(store, old, ChannelOptions(name="w", url=receiver.url(), secret_file=secret)).turn()
    with pytest.raises(WebhookVerificationError):  # honestly signed an hour ago: outside the tolerance
        Webhook(SECRET).verify(receiver.got[1][1], receiver.got[1][0])


def test_nothing_is_lost_and_nothing_new_while_the_receiver_is_down(
    store: Store, secret: str, receiver: Receiver
) -> None:
    clock, channel = Clock(), ChannelOptions(name="w", url=receiver.url(), secret_file=secret)
    events = [happen(store, clock, f"alarm:1:{i}") for i in range(7)]
    receiver.status = 503
    for _ in range(6):
        teller(store, clock, channel).turn()  # a new one each time, as after a restart
        clock.now += 30
    assert len(receiver.got) > 3  # the outage happened
    assert set(states(store)) == {"waiting"}
    down = measured(store, clock, channel)
    assert (down["waiting"], down["sent"], down["failed"]) == (7, 0, len(receiver.got))
    assert down["oldest"] == pytest.approx(180)
    receiver.status = 200
    before = len(receiver.got)
    for _ in range(40):
        teller(store, clock, channel).turn()
        clock.now += 300
    assert states(store) == ["sent"] * 7
    tried = len(receiver.got)
    assert measured(store, clock, channel) == {
        "sent": 7,
        "failed": tried - 7,
        "given_up": 0,
        "again": tried - 7,
        "waiting": 0,
        "oldest": 0,
    }
    ids = [headers["webhook-id"] for headers, _ in receiver.got[before:]]
    assert sorted(ids) == sorted(message_id(n) for n in events)


def test_what_never_arrives_is_given_up_and_can_be_tried_again(store: Store, secret: str, receiver: Receiver) -> None:
    clock, channel = Clock(), ChannelOptions(name="w", url=receiver.url(), secret_file=secret)
    happen(store, clock)
    receiver.status = 302  # no redirect is followed
    for _ in range(ATTEMPTS + 5):
        teller(store, clock, channel).turn()
        clock.now += 86_400
    assert states(store) == ["dead"]
    assert len(receiver.got) == ATTEMPTS
    with store.write() as connection:
        assert outbox.counts(connection) == {("w", "dead"): 1}
        assert outbox.retry(connection, int(clock.now * 1e9)) == 1
    receiver.status = 200
    teller(store, clock, channel).turn()
    assert states(store) == ["sent"]


def test_gone_is_gone(store: Store, secret: str, receiver: Receiver) -> None:
    clock = Clock()
    happen(store, clock)
    receiver.status = 410
    teller(store, clock, ChannelOptions(name="w", url=receiver.url(), secret_file=secret)).turn()
    assert states(store) == [DeliveryState.DEAD.value]


def test_slack_shows_what_clients_chose_as_text(store: Store, receiver: Receiver) -> None:
    clock = Clock()
    happen(store, clock)
    teller(store, clock, ChannelOptions(name="s", kind=ChannelKind.SLACK, url=receiver.url())).turn()
    message = json.loads(receiver.got[0][1])
    assert "digits fails" in message["text"]
    text = message["blocks"][1]["text"]["text"]
    assert "<!channel>" not in text
    assert "&lt;!channel&gt;" in text


class Mailbox:
    """What aiosmtpd hands over."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.full = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.full:
            return "452 come again"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append((envelope.rcpt_tos, message))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    from aiosmtpd.controller import Controller

    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


def mail_channel(port: int, **changes: Any) -> ChannelOptions:
    given = {"kind": ChannelKind.EMAIL, "host": "127.0.0.1", "port": port, "security": MailSecurity.NONE}
    return ChannelOptions(
        name="m", to=("ann@example.org", "ben@example.org"), sender="hc@example.org", **given | changes
    )


def test_mail_arrives_in_text_and_html_and_waits_for_a_full_mailbox(store: Store, mailbox: tuple[Mailbox, int]) -> None:
    (box, port), clock = mailbox, Clock()
    notice = happen(store, clock, title="digits\nBcc: evil@example.org")
    box.full = True
    teller(store, clock, mail_channel(port)).turn()
    assert (states(store), box.mails) == (["waiting"], [])
    box.full = False
    clock.now += 60
    teller(store, clock, mail_channel(port)).turn()
    ((to, message),) = box.mails
    assert to == ["ann@example.org", "ben@example.org"]
    assert message["subject"] == "[Hardcase] digits Bcc: evil@example.org"
    assert message["bcc"] is None
    assert message["message-id"] == f"<{message_id(notice)}@hardcase>"
    html = message.get_body(("html",))
    plain = message.get_body(("plain",))
    assert html is not None
    assert plain is not None
    assert "<script>" not in html.get_content()
    assert "https://hardcase.example/alarms/1" in plain.get_content()


def test_mail_goes_nowhere_in_the_clear_unless_that_is_set(store: Store, mailbox: tuple[Mailbox, int]) -> None:
    """The server offers no TLS."""
    (box, port), clock = mailbox, Clock()
    happen(store, clock)
    teller(store, clock, mail_channel(port, security=MailSecurity.STARTTLS)).turn()
    assert (states(store), box.mails) == (["waiting"], [])


def test_rules_say_who_is_told(store: Store, receiver: Receiver) -> None:
    clock = Clock()
    slack = {"kind": ChannelKind.SLACK, "url": receiver.url()}
    channels = (
        ChannelOptions(name="all", **slack),
        ChannelOptions(name="other", models=("faces",), **slack),
        ChannelOptions(name="severe", min_severity=Severity.CRITICAL, **slack),
        ChannelOptions(name="slices", events=(NoticeKind.SLICE_NEW,), **slack),
    )
    happen(store, clock)
    happen(store, clock, "slice:1", kind=NoticeKind.SLICE_NEW, severity=Severity.WARNING)
    happen(store, clock, "slice:1", kind=NoticeKind.SLICE_NEW, severity=Severity.WARNING)  # the same event is one
    happen(store, Clock(now=clock.now - 2 * 86_400), "old")  # a log that is read in late wakes nobody
    teller(store, clock, *channels).turn()
    with store.read() as connection:
        told = sorted(connection.scalars(sa.select(t.deliveries.c.channel)))
    assert told == ["all", "all", "severe", "slices"]


def test_the_digest_comes_once_a_day_and_not_on_a_quiet_one(store: Store, mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    clock = Clock(now=datetime(2026, 11, 20, 6, tzinfo=UTC).timestamp())
    channel = mail_channel(port, digest_at="07:30", events=(NoticeKind.SLICE_NEW,))

    def until(day: int, hour: int) -> None:
        clock.now = datetime(2026, 11, day, hour, tzinfo=UTC).timestamp()
        teller(store, clock, channel).turn()

    until(20, 6)
    until(20, 12)
    assert box.mails == []  # nothing happened
    happen(store, clock)
    until(21, 6)
    assert box.mails == []
    until(21, 8)
    until(21, 9)
    ((_, message),) = box.mails
    assert "1 alarms" in message["subject"]
    body = message.get_body(("plain",))
    assert body is not None
    assert "digits fails" in body.get_content()
    until(22, 8)
    assert len(box.mails) == 1


def test_what_is_undone_is_not_told_and_would_be_without_the_one_transaction(
    store: Store, secret: str, receiver: Receiver
) -> None:
    clock, channel = Clock(), ChannelOptions(name="w", url=receiver.url(), secret_file=secret)
    notice = Notice(
        event="alarm:9:0", time_ns=int(clock.now * 1e9), kind=NoticeKind.ALARM_FIRED, severity=Severity.CRITICAL,
        title="digits fails", text="", page="/alarms/9", model="digits",
    )  # fmt: skip

    def fails(*, apart: bool) -> None:
        """Something happens, and is rolled back."""
        with store.write() as connection:
            outbox.announce(connection, notice)
            if apart:
                connection.commit()
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="full"):
        fails(apart=False)
    teller(store, clock, channel).turn()
    assert receiver.got == []
    with pytest.raises(RuntimeError, match="full"):
        fails(apart=True)  # the negative control: a notice with a transaction of its own
    teller(store, clock, channel).turn()
    assert len(receiver.got) == 1


def test_an_unsigned_notice_is_refused_by_a_receiver_that_looks(
    store: Store, secret: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the signature: without the key, the library that verifies takes none of it."""
    clock = Clock(now=datetime.now(UTC).timestamp())
    channel = ChannelOptions(name="w", url=receiver.url(), secret_file=secret)
    other = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()
    monkeypatch.setattr("monitoring.notify.send.read_secret", lambda path, setting: other)
    happen(store, clock)
    teller(store, clock, channel).turn()
    ((headers, body),) = receiver.got
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers)
    Webhook(other).verify(body, headers)
