"""What the API says of notifications."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from monitoring.api.fields import Answer, Asked, Time
from monitoring.notify.contracts import DeliveryState, NoticeKind, Severity
from monitoring.notify.options import ChannelKind

ChannelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Channel(Answer):
    """A channel, and how its deliveries stand."""

    name: str
    kind: ChannelKind
    events: list[NoticeKind] = Field(description="None: all but the digest.")
    models: list[str]
    min_severity: Severity
    digest_at: str
    waiting: int
    sent: int
    dead: int = Field(description="Given up.")


class Delivery(Answer):
    """A notice on its way to a channel."""

    channel: str
    state: DeliveryState
    attempts: int
    problem: str = Field(description="Of the last attempt.")


class NoticeLine(Answer):
    """Something that happened."""

    event: str
    time: Time
    kind: NoticeKind
    severity: Severity
    model: str
    version: str
    title: str
    text: str
    page: str
    deliveries: list[Delivery]


class Notices(Answer):
    """Channels, and the newest notices."""

    channels: list[Channel]
    notices: list[NoticeLine]


class NoticeQuery(Asked):
    """How many notices."""

    limit: int = Field(50, ge=1, le=500)


class ChannelAsk(Asked):
    """Which channel to try; none: all."""

    channel: ChannelName | None = None


class Tried(Answer):
    """The event of a test notice; its deliveries are in the list of notices."""

    event: str
    channels: list[str]


class Retried(Answer):
    """How many deliveries are tried again."""

    deliveries: int
