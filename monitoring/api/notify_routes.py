"""The JSON operations about notifications."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from monitoring.api import notify_models as m
from monitoring.api.batch_routes import CHANGE_PROBLEMS
from monitoring.api.notify_views import NoticeDesk
from monitoring.api.who import Operator


def notify_router(desk: NoticeDesk) -> APIRouter:
    """Channels, notices, a test, and another try."""
    router = APIRouter(tags=["notifications"])

    @router.get("/api/notices")
    def notices(query: Annotated[m.NoticeQuery, Query()]) -> m.Notices:
        """Channels of the settings, and the newest notices with their deliveries."""
        return desk.notices(query.limit)

    @router.post("/api/notices/test", status_code=202, responses=CHANGE_PROBLEMS)
    def try_channel(who: Operator, asked: m.ChannelAsk) -> m.Tried:
        """Send a test notice to a channel, or to all."""
        return desk.test(who, asked.channel)

    @router.post("/api/notices/retry", status_code=202, responses=CHANGE_PROBLEMS)
    def retry(who: Operator, asked: m.ChannelAsk) -> m.Retried:
        """Try deliveries again that were given up."""
        return desk.retry(asked.channel)

    return router
