"""How the worst slices of each model fail, as metrics."""

from __future__ import annotations

from collections.abc import Iterable

from monitoring.metric_family import Family, Made, make
from monitoring.slice_queries import slices
from monitoring.store import Store

MOST = 20  # of a model: a slice's id is a label's value, so their number is bounded
RATE = Family(
    name="hardcase_slice_failure_rate",
    kind="gauge",
    text="Share of a slice's requests that fail, from labels or expected, in the newest search; the worst 20 a model.",
    labels=("model", "slice"),
)
SIZE = Family(
    name="hardcase_slice_requests",
    kind="gauge",
    text="Requests in a slice over the newest search; the worst 20 slices a model.",
    labels=("model", "slice"),
)
SLICE_FAMILIES = (RATE, SIZE)


def slice_metrics(store: Store, models: Iterable[str]) -> tuple[Made, ...]:
    """Both families, for the slices of each model's newest search."""
    rate, size = make(RATE), make(SIZE)
    for model in sorted(models):
        for one in slices(store, model, current=True, limit=MOST):
            rate.add_metric([model, one.id], one.failure_rate)
            size.add_metric([model, one.id], one.rows)
    return rate, size
