"""How telling people goes, as metrics. What was tried is counted in the transaction that says how it came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.metric_family import Family, Made, make
from monitoring.metrics_tools import TOOL_FAMILIES, tool_metrics
from monitoring.notify.contracts import DeliveryState
from monitoring.notify.options import ChannelOptions
from monitoring.notify.outbox import Outcome, counts, tallies
from monitoring.options import MonitorOptions
from monitoring.store import Store

ATTEMPTS = Family(
    name="hardcase_notice_attempts",
    kind="counter",
    text="Attempts to deliver a notice by how they came out, since the database was made; given_up is tried no more.",
    labels=("channel", "outcome"),
)
RETRIES = Family(
    name="hardcase_notice_retries",
    kind="counter",
    text="Attempts to deliver a notice that were not the first, since the database was made.",
    labels=("channel",),
)
WAITING = Family(
    name="hardcase_notices_waiting",
    kind="gauge",
    text="Notices that a channel has not taken yet.",
    labels=("channel",),
)
OLDEST = Family(
    name="hardcase_notices_oldest_seconds",
    kind="gauge",
    text="Age of the oldest notice that a configured channel has not taken yet; 0 while none waits.",
)
NOTIFY_FAMILIES = (ATTEMPTS, RETRIES, WAITING, OLDEST)
OUTSIDE_FAMILIES = (*TOOL_FAMILIES, *NOTIFY_FAMILIES)


def outside_metrics(store: Store, options: MonitorOptions) -> Iterator[Made]:
    """What goes to the outside: labelling tools, and channels that are told."""
    yield from tool_metrics(store, options.integrations)
    yield from notify_metrics(store, options.notify)


def notify_metrics(
    store: Store, channels: Sequence[ChannelOptions], clock: Callable[[], float] = time.time
) -> tuple[Made, ...]:
    """Of the configured channels, now."""
    attempts, retries, waiting, oldest = (make(family) for family in NOTIFY_FAMILIES)
    names = [channel.name for channel in channels]
    d, n = t.deliveries.c, t.notices.c
    first = sa.select(sa.func.min(n.time_ns)).join(t.deliveries, d.notice_id == n.id)
    first = first.where(d.state == DeliveryState.WAITING.value, d.channel.in_(names))
    with store.read() as connection:
        found, tried = counts(connection), tallies(connection)
        since = connection.scalar(first) if names else None
    for name in names:
        for outcome in (Outcome.SENT, Outcome.FAILED, Outcome.GIVEN_UP):
            attempts.add_metric([name, outcome.value], tried.get((name, outcome), 0))
        retries.add_metric([name], tried.get((name, Outcome.AGAIN), 0))
        waiting.add_metric([name], found.get((name, DeliveryState.WAITING.value), 0))
    oldest.add_metric([], 0.0 if since is None else max(0.0, clock() - since / 1e9))
    return attempts, retries, waiting, oldest
