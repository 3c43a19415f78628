"""Adding to the windows in the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.samples import WindowSample
from monitoring.windows import WindowStats

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class WindowKey:
    """Which window. `start_s` is a multiple of the window's length."""

    version_id: int
    variant: str
    start_s: int


@dataclass(kw_only=True, slots=True)
class WindowDelta:
    """What one transaction adds to a window; all numbers add up, so deltas may come in any order."""

    stats: WindowStats
    sample: WindowSample | None = None
    requests: int = 0
    rows: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    flagged: int = 0
    labelled: int = 0
    correct: int = 0
    audit_labelled: int = 0
    audit_correct: int = 0
    p_wrong_sum: int = 0
    matched: int = 0
    missed: int = 0
    spurious: int = 0
    error_sum: int = 0
    late: int = 0


_ADDED = (
    "requests",
    "rows",
    "flagged",
    "labelled",
    "correct",
    "audit_labelled",
    "audit_correct",
    "p_wrong_sum",
    "matched",
    "missed",
    "spurious",
    "error_sum",
    "late",
)


def window_start(time_ns: int, length_s: int) -> int:
    """Start of the window that a time lies in, in seconds.

    Example:
        >>> window_start(119_999_999_999, 60)
        60
    """
    return time_ns // (length_s * NANOSECONDS) * length_s


def add_to_window(connection: sa.Connection, key: WindowKey, length_s: int, delta: WindowDelta) -> None:
    """Merge `delta` into its window, making the window when it is new, and mark its signals and estimates as due."""
    w = t.windows.c
    where = sa.and_(
        w.version_id == key.version_id, w.length_s == length_s, w.start_s == key.start_s, w.variant == key.variant
    )
    row = connection.execute(sa.select(t.windows).where(where)).mappings().one_or_none()
    if row is None:
        values: dict[str, Any] = {name: getattr(delta, name) for name in _ADDED}
        values |= {"version_id": key.version_id, "variant": key.variant, "start_s": key.start_s, "length_s": length_s}
        values |= {"outcomes": dict(sorted(delta.outcomes.items())), "stats": delta.stats.encode()}
        insert = t.windows.insert().values(**values, signals_due=True, accuracy_due=True).returning(w.id)
        identity: int = connection.execute(insert).scalar_one()
    else:
        identity = row["id"]
        values = {name: row[name] + getattr(delta, name) for name in _ADDED}
        outcomes = Counter(row["outcomes"]) + delta.outcomes
        values |= {"outcomes": dict(sorted(outcomes.items()))}
        values |= {"stats": WindowStats.decode(row["stats"]).merge(delta.stats).encode()}
        connection.execute(
            t.windows.update().where(w.id == identity).values(**values, signals_due=True, accuracy_due=True)
        )
    if delta.sample is not None:
        _add_sample(connection, identity, delta.sample)


def _add_sample(connection: sa.Connection, window_id: int, sample: WindowSample) -> None:
    s = t.window_samples.c
    stored = connection.execute(sa.select(s.data).where(s.window_id == window_id)).scalar_one_or_none()
    if stored is None:
        connection.execute(t.window_samples.insert().values(window_id=window_id, data=sample.encode()))
        return
    before = WindowSample.decode(stored)
    merged = before.merge(sample)
    if merged is not before:
        query = t.window_samples.update().where(s.window_id == window_id)
        connection.execute(query.values(data=merged.encode()))
