"""What Evidently's reports say, as metrics. See `monitoring.metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from monitoring.metric_family import Family, Made, make
from monitoring.report_rows import read_figures
from monitoring.rows import VersionRow
from monitoring.store import Store

MAX_COLUMNS = 50  # of a version: those that are farthest in units of their threshold

COLUMN = Family(
    name="hardcase_evidently_column_drift",
    kind="gauge",
    text="Distance of a column in Evidently's newest drift report of the version; bounded to the farthest columns.",
    labels=("model", "version", "column", "method"),
)
COLUMN_THRESHOLD = Family(
    name="hardcase_evidently_column_drift_threshold",
    kind="gauge",
    text="Threshold that the report names for the column.",
    labels=("model", "version", "column", "method"),
)
REPORT_FAMILIES = (COLUMN, COLUMN_THRESHOLD)


def report_metrics(store: Store, versions: Sequence[VersionRow]) -> Iterator[Made]:
    """What the newest drift report of each version says."""
    values, thresholds = make(COLUMN), make(COLUMN_THRESHOLD)
    for v in versions:
        known = [f for f in read_figures(store, v.model, v.version, reports=1) if f.ratio is not None]
        for f in sorted(known, key=lambda f: (-(f.ratio or 0.0), f.name))[:MAX_COLUMNS]:
            labels = [v.model, v.version, f.name, f.method]
            values.add_metric(labels, f.value or 0.0)
            thresholds.add_metric(labels, f.threshold or 0.0)
    yield values
    yield thresholds
