"""Time limits on what the record log holds: what is too old is erased from segments that were consumed.

Without an archive, segments stay until the log's quota takes them, which may be never. So a limit on inputs, records or
feedback is kept here as well. A segment is looked at when it is older than a limit: what it holds was recorded within
moments of each other, and what would follow within a tenth of the limit goes at once, so that a limit hardly ever
costs a segment more than one rewriting. Which segments are done is remembered while the monitor runs; after a start
they are looked at once more, and nothing changes in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from export.contracts.privacy import Keep, PrivacyPolicy, policy_of
from monitoring.facts import read_fact
from monitoring.privacy import strip
from monitoring.purge import due_segments
from monitoring.records.decode import DecodedRecords
from monitoring.records.record import Feedback
from monitoring.records.rewrite import rewrite_segment
from monitoring.records.sealed import segment_facts
from monitoring.retention import FACT
from monitoring.retention_limits import Limit, limit_after
from monitoring.store import Store

_A_TURN = 8  # segments
_KINDS = ("input_days", "record_days", "feedback_days")


def limits_the_log(policies: Sequence[PrivacyPolicy]) -> bool:
    """Whether any policy has a limit that reaches the log."""
    return any(getattr(p, kind) is not None for p in policies for kind in _KINDS)


class LogLimits:
    """Keeps the time limits in consumed segments.

    Args:
        store: For the retention clock.
        root: The record log's folder.
        policies: The limits.
    """

    def __init__(self, store: Store, root: Path, policies: Sequence[PrivacyPolicy]) -> None:
        self._store, self._root, self._policies = store, root, tuple(policies)
        self._created: dict[tuple[str, int], int] = {}
        self._done: dict[tuple[str, int], tuple[bool, ...]] = {}  # which limits a segment was rewritten for

    def turn(self) -> bool:
        """A few segments; returns whether there are more."""
        with self._store.read() as connection:
            now_s = read_fact(connection, FACT)
        if now_s is None:
            return False
        there: set[tuple[str, int]] = set()
        dues: dict[tuple[str, int], tuple[bool, ...]] = {}

        def wanted(source: str, number: int) -> bool:
            key = (source, number)
            there.add(key)
            due = dues[key] = self._due(key, float(now_s))
            return due != self._done.get(key, (False,) * len(due))

        due = due_segments(self._root, wanted)
        for key in islice(due, _A_TURN):
            change = _Change(self._policies, float(now_s))
            rewrite_segment(self._root, *key, change.records, change.feedback_stays)
            if not change.younger:  # else it is looked at again, until nothing of it is left to go
                self._done[key] = dues[key]
        if next(due, None) is not None:
            return True
        for known in (self._created, self._done):
            for key in [key for key in known if key not in there]:
                del known[key]
        return False

    def _due(self, key: tuple[str, int], now_s: float) -> tuple[bool, ...]:
        """Of every limit, whether the segment is older."""
        if key not in self._created:
            facts = segment_facts(self._root, *key)
            if facts is None or not facts.created_ns:
                return ()
            self._created[key] = facts.created_ns
        limits = [limit_after(getattr(p, kind), now_s) for p in self._policies for kind in _KINDS]
        return tuple(limit is not None and self._created[key] < limit.due_ns for limit in limits)


class _Change:
    """What stays of records and feedback at a time."""

    def __init__(self, policies: Sequence[PrivacyPolicy], now_s: float) -> None:
        self._policies, self._now_s = policies, now_s
        self.younger = False  # whether something was seen whose time is still to come

    def records(self, records: DecodedRecords) -> DecodedRecords:
        """Without those that are too old, and without inputs that are; the same object when all may stay."""
        policy = policy_of(self._policies, records.model)
        if (limit := self._limit(policy.record_days)) is not None:
            stays = records.time_ns >= limit.with_ns
            self.younger |= bool(stays.any())
            records = records if stays.all() else records.take(np.flatnonzero(stays))
        if (limit := self._limit(policy.input_days)) is not None and policy.keeps_inputs:
            if (records.time_ns < limit.with_ns).any():
                return strip(records, replace(policy, keep=Keep.EMBEDDING))  # a frame's inputs go together
            self.younger |= len(records) > 0
        return records

    def feedback_stays(self, item: Feedback) -> bool:
        """Whether a piece of feedback is young enough."""
        limit = self._limit(policy_of(self._policies, item.model or "").feedback_days)
        stays = limit is None or item.time_ns >= limit.with_ns
        self.younger |= stays and limit is not None
        return stays

    def _limit(self, days: float | None) -> Limit | None:
        return limit_after(days, self._now_s)
