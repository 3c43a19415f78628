"""Slices in the database: one row a version and stretch of time, written in the transaction of the records."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.attributes import client_attributes
from monitoring.baseline import Baseline
from monitoring.batches import Batch
from monitoring.options import DriftOptions, MonitorOptions
from monitoring.records.record import Outcome
from monitoring.scores import Scored
from monitoring.slice_drift import SliceDrift, slice_drift
from monitoring.slice_stats import PREDICTED, VARIANT, SliceStats, count_slices
from monitoring.store import Store

NANOSECONDS = 1_000_000_000
MAX_STRETCHES = 200  # newest that are read for a comparison


def stretch_s(options: MonitorOptions) -> int:
    """Length of a stretch: as long as the rolling scope, since a slice has fewer rows than its window."""
    return options.window_s * options.drift.rolling_windows


class SliceTally:
    """Slices of the batches of one transaction, by version and stretch."""

    def __init__(self, options: MonitorOptions) -> None:
        self._length_s = stretch_s(options)
        self._found: dict[tuple[int, int], SliceStats] = {}

    def add(self, version_id: int, batch: Batch, scored: Scored, baseline: Baseline) -> None:
        """Count a batch. Shadow traffic is left out: its inputs are the champion's once more."""
        if batch.outcome is not Outcome.OK or not scored.known or batch.variant == Variant.SHADOW.value:
            return
        attributes = _attributes(batch, scored, baseline)
        starts = (batch.time_ns // (self._length_s * NANOSECONDS) * self._length_s)[batch.row_record]
        for start_s in np.unique(starts).tolist():
            here = starts == start_s
            rows = slice(None) if bool(here.all()) else here
            counted = count_slices(
                baseline, scored.values[rows], scored.p_wrong[rows], {k: v[rows] for k, v in attributes.items()}
            )
            key = (version_id, start_s)
            self._found[key] = self._found[key].merge(counted) if key in self._found else counted

    def write(self, connection: sa.Connection) -> None:
        """Add to what is stored."""
        s = t.slice_windows.c
        for (version_id, start_s), counted in sorted(self._found.items()):
            if not counted.slices:
                continue
            where = sa.and_(s.version_id == version_id, s.length_s == self._length_s, s.start_s == start_s)
            stored = connection.execute(sa.select(s.data).where(where)).scalar_one_or_none()
            if stored is None:
                values = {"version_id": version_id, "length_s": self._length_s, "start_s": start_s}
                connection.execute(t.slice_windows.insert().values(**values, data=counted.encode()))
            else:
                data = SliceStats.decode(stored).merge(counted).encode()
                connection.execute(t.slice_windows.update().where(where).values(data=data))


def read_stretches(
    store: Store, model: str, version: str, to_s: int | None = None
) -> tuple[tuple[int, SliceStats], ...]:
    """(start, slices) of the newest stretches that start before `to_s`, oldest first."""
    s, v = t.slice_windows.c, t.versions.c
    query = (
        sa.select(s.start_s, s.data)
        .join(t.versions, s.version_id == v.id)
        .where(v.model == model, v.version == version)
        .order_by(s.start_s.desc(), s.length_s)
        .limit(MAX_STRETCHES)
    )
    if to_s is not None:
        query = query.where(s.start_s < to_s)
    with store.read() as connection:
        rows = connection.execute(query).all()
    return tuple((row.start_s, SliceStats.decode(row.data)) for row in reversed(rows))


def newest_slices(
    store: Store, baseline: Baseline, options: DriftOptions, model: str, version: str, to_s: int | None = None
) -> tuple[SliceDrift, ...]:
    """Every slice of a version, what moved most first."""
    return slice_drift(baseline, read_stretches(store, model, version, to_s), options)


def _attributes(batch: Batch, scored: Scored, baseline: Baseline) -> dict[str, npt.NDArray[np.str_]]:
    """Texts by attribute, one a row."""
    made = {VARIANT: np.full(len(batch.row_record), batch.variant)}
    if baseline.classes:
        names = np.array([*(baseline.class_names or [str(i) for i in range(baseline.classes)]), ""])
        made[PREDICTED] = names[np.where(scored.predicted < baseline.classes, scored.predicted, -1)]
    for name, values in client_attributes(batch).items():
        if name not in made:
            made[name] = np.array(values)[batch.row_record]
    return made
