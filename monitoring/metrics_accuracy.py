"""Metrics of how accurate versions are."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from monitoring.accuracy.estimate import Method
from monitoring.accuracy.queries import current, latest
from monitoring.accuracy.rows import ALL
from monitoring.metric_family import Family
from monitoring.metric_family import make as family_of
from monitoring.rows import VersionRow
from monitoring.store import Store

ESTIMATE = Family(
    name="hardcase_accuracy_estimate",
    kind="gauge",
    text=(
        "Accuracy now by method, over the rolling scope; audits over the last 24 hours where that has too few labels. "
        "Method best is the one the console shows. All but audit fail under concept drift."
    ),
    labels=("model", "version", "method"),
)
ESTIMATE_LOWER = Family(
    name="hardcase_accuracy_estimate_lower",
    kind="gauge",
    text="Lower end of the estimate's interval, for methods that have one.",
    labels=("model", "version", "method"),
)
ESTIMATE_UPPER = Family(
    name="hardcase_accuracy_estimate_upper",
    kind="gauge",
    text="Upper end of the estimate's interval, for methods that have one.",
    labels=("model", "version", "method"),
)
AUDITED = Family(
    name="hardcase_accuracy_audited_labels",
    kind="gauge",
    text="Audited labels behind the audit estimate, also where they are too few for one.",
    labels=("model", "version"),
)
ACCURACY = Family(
    name="hardcase_accuracy_labelled",
    kind="gauge",
    text="Share of labelled rows of the last labelled window that were right. Labels may be a biased sample.",
    labels=("model", "version"),
)
ACCURACY_FAMILIES = (ESTIMATE, ESTIMATE_LOWER, ESTIMATE_UPPER, AUDITED, ACCURACY)


def accuracies(store: Store, versions: list[VersionRow]) -> Iterator[Metric]:
    """How accurate each version is, by method."""
    estimates, lower, upper = family_of(ESTIMATE), family_of(ESTIMATE_LOWER), family_of(ESTIMATE_UPPER)
    audits, labelled = family_of(AUDITED), family_of(ACCURACY)
    for v in versions:
        rows = latest(store, v.model, v.version, ALL)
        for method, row in current(rows).items():
            labels = [v.model, v.version, method]
            for family, value in ((estimates, row.value), (lower, row.low), (upper, row.high)):
                if value is not None:
                    family.add_metric(labels, value)
        counts = [r.labels for r in rows if r.method is Method.AUDIT]
        if counts:
            audits.add_metric([v.model, v.version], max(counts))
        windows = store.windows(v.model, version=v.version, limit=10)
        right = [w.accuracy for w in windows if w.accuracy is not None]
        if right:
            labelled.add_metric([v.model, v.version], right[-1])
    yield from (estimates, lower, upper, audits, labelled)
