"""Metrics of tasks whose answers hold several things, or miss by an amount."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from monitoring.metric_family import Family
from monitoring.metric_family import make as family_of
from monitoring.queries import judged_items
from monitoring.store import Store

ITEMS = Family(
    name="hardcase_answer_items",
    kind="gauge",
    text="Labels or boxes of labelled rows in the kept windows: matched, missed by the answer, or spurious in it.",
    labels=("model", "version", "result"),
)
MEAN_ERROR = Family(
    name="hardcase_answer_error_tolerances",
    kind="gauge",
    text="Mean absolute error of a regression over the labelled rows of the kept windows, in tolerances.",
    labels=("model", "version"),
)
TASK_FAMILIES = (ITEMS, MEAN_ERROR)


def task_metrics(store: Store) -> Iterator[Metric]:
    """What was matched, missed and spurious; how far regressions miss."""
    items, errors = family_of(ITEMS), family_of(MEAN_ERROR)
    for (model, version), totals in sorted(judged_items(store).items()):
        if totals.matched or totals.missed or totals.spurious:
            for result in ("matched", "missed", "spurious"):
                items.add_metric([model, version, result], getattr(totals, result))
        if totals.mean_error is not None:
            errors.add_metric([model, version], totals.mean_error)
    yield from (items, errors)
