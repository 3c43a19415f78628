"""The JSON operations about notifications."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from export.contracts.errors import NotFound
from monitoring.api import fields
from monitoring.api import notify_models as m
from monitoring.api.batch_routes import CHANGE_PROBLEMS
from monitoring.api.who import Operator
from monitoring.notify import outbox
from monitoring.notify.contracts import DeliveryState, Notice, NoticeKind, Severity
from monitoring.notify.options import ChannelOptions
from monitoring.store import Store


def notify_router(store: Store, channels: Sequence[ChannelOptions], clock: Callable[[], datetime]) -> APIRouter:
    """Channels, notices, a test, and another try."""
    router = APIRouter(tags=["notifications"])

    def now_ns() -> int:
        return int(clock().timestamp() * 1e9)

    def named(channel: str | None) -> list[str]:
        names = [c.name for c in channels if channel in (None, c.name)]
        if channel is not None and not names:
            raise NotFound(f"there is no channel '{channel}' in the settings (notify)")
        return names

    @router.get("/api/notices")
    def notices(query: Annotated[m.NoticeQuery, Query()]) -> m.Notices:
        """Channels of the settings, and the newest notices with their deliveries."""
        return notices_of(store, channels, query.limit)

    @router.post("/api/notices/test", status_code=202, responses=CHANGE_PROBLEMS)
    def try_channel(who: Operator, asked: m.ChannelAsk) -> m.Tried:
        """Send a test notice to a channel, or to all."""
        names = named(asked.channel)
        event = f"test:{secrets.token_hex(8)}"
        notice = Notice(
            event=event,
            kind=NoticeKind.TEST,
            severity=Severity.INFO,
            time_ns=now_ns(),
            title="A test of notifications",
            text=f"{who.name} asked for it. If you read this, the channel works.",
            page="/",
            data={"channel": asked.channel or ""},
        )
        with store.write() as connection:
            outbox.announce(connection, notice)
        return m.Tried(event=event, channels=names)

    @router.post("/api/notices/retry", status_code=202, responses=CHANGE_PROBLEMS)
    def retry(who: Operator, asked: m.ChannelAsk) -> m.Retried:
        """Try deliveries again that were given up."""
        named(asked.channel)
        with store.write() as connection:
            return m.Retried(deliveries=outbox.retry(connection, now_ns(), asked.channel))

    return router


def notices_of(store: Store, channels: Sequence[ChannelOptions], limit: int) -> m.Notices:
    """What the list and the page show."""
    with store.read() as connection:
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
        for c in channels
    ]
    lines = []
    for stored, deliveries in found:
        n = stored.notice
        words = {name: getattr(n, name) for name in ("event", "kind", "severity", "model", "version", "title", "text")}
        ways = [m.Delivery.model_validate({k: d[k] for k in m.Delivery.model_fields}) for d in deliveries]
        lines.append(m.NoticeLine(**words, page=n.page, time=fields.from_ns(n.time_ns), deliveries=ways))
    return m.Notices(channels=shown, notices=lines)
