"""The duty that tells: notices to deliveries, deliveries out, what failed again later.

A delivery is sent between two transactions, so one that is cut off after the other side took it is sent again, with the
same id. Pauses grow; after `ATTEMPTS` it is given up, kept, and shown.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from monitoring.duties import Duty
from monitoring.notify import outbox
from monitoring.notify.contracts import Notice
from monitoring.notify.digest import announce_digests
from monitoring.notify.options import ChannelOptions
from monitoring.notify.send import NetworkSender, Sender, SendFailed
from monitoring.options import MonitorOptions
from monitoring.store import Store

logger = logging.getLogger(__name__)

PAUSES_S = (5, 15, 60, 180, 600, 1800, 3600, 7200, 14_400, 28_800, 57_600)
ATTEMPTS = len(PAUSES_S) + 1  # over a day and a half
AT_ONCE = 20
EVERY_S = 2.0
BATCHES_EVERY_NS = 15 * 10**9


@dataclass(kw_only=True)
class Teller:
    """Tells channels what happened.

    Attributes:
        channels: From the settings.
        send: Sends one.
        clock: Seconds since the epoch.
        draw: Uniform in [0, 1), for the pauses.
    """

    store: Store
    channels: Sequence[ChannelOptions]
    send: Sender
    clock: Callable[[], float] = time.time
    draw: Callable[[], float] = field(default_factory=lambda: random.SystemRandom().random)
    _batches_ns: int = 0  # when batches are looked at again

    def turn(self) -> bool:
        """One bounded piece of work; returns whether there is more to do at once."""
        now_ns = int(self.clock() * 1e9)
        with self.store.write() as connection:
            announce_digests(
                connection, [c.digest_at for c in self.channels], datetime.fromtimestamp(now_ns / 1e9, UTC)
            )
            routed = outbox.route(connection, self._wanting, now_ns)
        if not self.channels:
            return routed == outbox.ROUTE_AT_ONCE
        named = {channel.name: channel for channel in self.channels}
        with self.store.read() as connection:
            due = outbox.due(connection, now_ns, list(named), AT_ONCE)
        down: set[str] = set()
        for one in due:
            if one.channel not in down and not self._deliver(named[one.channel], one):
                down.add(one.channel)  # the rest of its deliveries wait for their own turn
        return routed == outbox.ROUTE_AT_ONCE or (len(due) == AT_ONCE and not down)

    def _wanting(self, notice: Notice) -> list[str]:
        return [channel.name for channel in self.channels if channel.wants(notice)]

    def _deliver(self, channel: ChannelOptions, one: outbox.Due) -> bool:
        try:
            self.send(channel, one.stored.notice)
        except SendFailed as error:
            given_up = error.final or one.attempts + 1 >= ATTEMPTS
            pause_s = PAUSES_S[min(one.attempts, len(PAUSES_S) - 1)] * (0.5 + self.draw())
            later = None if given_up else int((self.clock() + pause_s) * 1e9)
            level = logging.ERROR if given_up else logging.WARNING
            logger.log(level, "notice to '%s' %s: %s", channel.name, "given up" if given_up else "failed", error)
            with self.store.write() as connection:
                outbox.settle(connection, one.row, sent_ns=None, next_ns=later, problem=str(error))
            return False
        with self.store.write() as connection:
            outbox.settle(connection, one.row, sent_ns=int(self.clock() * 1e9), next_ns=None, problem="")
        return True


def notify_duty(options: MonitorOptions) -> Duty[Any]:
    """The duty with the channels of the settings. Without a channel, notices are only kept."""
    sender = NetworkSender(allowed_hosts=options.integrations.allowed_hosts, base=options.public_url)

    made: list[Teller] = []  # at its first turn, when there is a loop

    def run(loop: Any) -> bool:
        if not made:
            made.append(Teller(store=loop.store, channels=options.notify, send=sender, clock=loop.wall))
        return made[0].turn()

    return Duty(name="notify", interval_s=EVERY_S, run=run, aside=bool(options.notify), alone=bool(options.notify))
