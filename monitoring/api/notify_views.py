"""Notifications: what the operations and the page *Settings* show and do."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from export.contracts.errors import NotFound
from monitoring.api import fields
from monitoring.api import notify_models as m
from monitoring.notify import outbox
from monitoring.notify.contracts import DeliveryState, Notice, NoticeKind, Severity
from monitoring.notify.options import ChannelOptions
from monitoring.people.contracts import Principal
from monitoring.store import Store


@dataclass(frozen=True, kw_only=True)
class NoticeDesk:
    """Channels, notices, a test, and another try.

    Attributes:
        channels: From the settings.
    """

    store: Store
    channels: Sequence[ChannelOptions]
    clock: Callable[[], datetime]

    def notices(self, limit: int) -> m.Notices:
        """Channels of the settings, and the newest notices with their deliveries."""
        with self.store.read() as connection:
            counts = outbox.counts(connection)
            found = outbox.listed(connection, limit)
        same = ("name", "kind", "min_severity", "digest_at")
        shown = [
            m.Channel(
                **{name: getattr(c, name) for name in same},
                events=list(c.events),
                models=list(c.models),
                waiting=counts.get((c.name, DeliveryState.WAITING.value), 0),
                sent=counts.get((c.name, DeliveryState.SENT.value), 0),
                dead=counts.get((c.name, DeliveryState.DEAD.value), 0),
            )
            for c in self.channels
        ]
        lines = []
        for stored, deliveries in found:
            n = stored.notice
            words = {w: getattr(n, w) for w in ("event", "kind", "severity", "model", "version", "title", "text")}
            ways = [m.Delivery.model_validate({k: d[k] for k in m.Delivery.model_fields}) for d in deliveries]
            lines.append(m.NoticeLine(**words, page=n.page, time=fields.from_ns(n.time_ns), deliveries=ways))
        return m.Notices(channels=shown, notices=lines)

    def test(self, who: Principal, channel: str | None) -> m.Tried:
        """Announce a test notice to a channel, or to all.

        Raises:
            NotFound: the settings have no such channel.
        """
        names = self._named(channel)
        event = f"test:{secrets.token_hex(8)}"
        notice = Notice(
            event=event,
            kind=NoticeKind.TEST,
            severity=Severity.INFO,
            time_ns=self._now_ns(),
            title="A test of notifications",
            text=f"{who.name} asked for it. If you read this, the channel works.",
            page="/",
            data={"channel": channel or ""},
        )
        with self.store.write() as connection:
            outbox.announce(connection, notice)
        return m.Tried(event=event, channels=names)

    def retry(self, channel: str | None) -> m.Retried:
        """Try deliveries again that were given up.

        Raises:
            NotFound: the settings have no such channel.
        """
        self._named(channel)
        with self.store.write() as connection:
            return m.Retried(deliveries=outbox.retry(connection, self._now_ns(), channel))

    def _now_ns(self) -> int:
        return int(self.clock().timestamp() * 1e9)

    def _named(self, channel: str | None) -> list[str]:
        names = [c.name for c in self.channels if channel in (None, c.name)]
        if channel is not None and not names:
            raise NotFound(f"there is no channel '{channel}' in the settings (notify)")
        return names
