"""What notifications are made of.

Whoever makes something happen writes a `Notice` with it (`monitoring.notify.outbox.announce`), in one transaction:
either both are in the database or neither. A duty makes deliveries of it, one a channel whose rules want it, and tries
each until it arrives or is given up. So everything is sent at least once, and its `event` tells a repetition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class NoticeKind(StrEnum):
    """What happened."""

    ALARM_FIRED = "alarm.fired"  # the audited error rate is above its limit
    ALARM_RESOLVED = "alarm.resolved"  # ... below again
    SLICE_NEW = "slice.new"  # a group of failures that was not known
    SLICE_REGRESSED = "slice.regressed"  # a group that counted as fixed fails again
    SLICE_ALERT = "slice.alert"  # a watched group fails more often than its limit
    BATCH_DONE = "batch.done"  # a labelling batch is finished
    INTEGRATION_DOWN = "integration.down"  # a labelling tool cannot be reached
    INTEGRATION_UP = "integration.up"  # ... can be reached again
    ROLLOUT_STARTED = "rollout.started"  # a version takes traffic
    ROLLOUT_FINISHED = "rollout.finished"  # ... all of it
    ROLLOUT_ROLLED_BACK = "rollout.rolled_back"  # ... none any more
    TRAINING_SUGGESTED = "training.suggested"  # the policy would train, and there is no trainer
    TRAINING_ASKED = "training.asked"  # ... and a person must approve
    TRAINING_STARTED = "training.started"
    TRAINING_FAILED = "training.failed"  # no package, or one that was refused
    TRAINING_CANCELLED = "training.cancelled"  # by a person, or because nobody approved
    GATE_REJECTED = "gate.rejected"  # the candidate is not surely better
    LOOP_PROMOTED = "loop.promoted"  # a turn of the loop ended with a new champion
    LOOP_ROLLED_BACK = "loop.rolled_back"  # ... with a roll-out that was undone
    DIGEST = "digest"  # the day in a message
    TEST = "test"  # `hardcase notify test`


class Severity(StrEnum):
    """How much it matters; each is more than those before it."""

    INFO = "info"  # good to know
    WARNING = "warning"  # look today
    CRITICAL = "critical"  # look now

    def reaches(self, least: Severity) -> bool:
        """Whether this is at least as much as `least`."""
        order = list(Severity)
        return order.index(self) >= order.index(least)


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"  # not tried yet, or tried in vain and to be tried again
    SENT = "sent"  # the other side took it
    DEAD = "dead"  # given up; `hardcase notify retry` tries again


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """Something that somebody may want to be told.

    Attributes:
        event: Names what happened, at most 120 characters: the same name twice is one notice. Receivers get it as the
            id by which they tell repetitions.
        kind: What happened.
        severity: How much it matters.
        time_ns: When it happened, nanoseconds since the epoch.
        title: In a line, for people; may hold names that clients chose, so whoever shows it escapes it.
        text: More, for people.
        model: "" where it is about no single model.
        version: "" where it is about no single version.
        page: Path of the console's page about it, such as "/alarms/26b550be91a1cdf7"; "" for none.
        data: For programs; JSON-compatible, small.
    """

    event: str
    kind: NoticeKind
    severity: Severity
    time_ns: int
    title: str
    text: str = ""
    model: str = ""
    version: str = ""
    page: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A notice with its row."""

    row: int
    notice: Notice
