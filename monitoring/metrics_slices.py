"""How the worst slices of each model fail, as metrics."""

from __future__ import annotations

from collections.abc import Iterable

from monitoring.metric_family import Family, Made, make
from monitoring.slice_queries import slice_counts, slices
from monitoring.slices.found import SliceState
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
STATES = Family(
    name="hardcase_slices",
    kind="gauge",
    text="Slices by what people have done about them.",
    labels=("model", "state"),
)
ALERTS = Family(
    name="hardcase_slice_alerts_firing",
    kind="gauge",
    text="Slices that surely fail more than the limit of the alert that somebody set on them.",
    labels=("model",),
)
SLICE_FAMILIES = (RATE, SIZE, STATES, ALERTS)


def slice_metrics(store: Store, models: Iterable[str]) -> tuple[Made, ...]:
    """Rates and sizes of the slices of each model's newest search; how many slices are in which state."""
    rate, size, states, alerts = (make(family) for family in SLICE_FAMILIES)
    counted = slice_counts(store)
    for model in sorted(models):
        for one in slices(store, model, current=True, limit=MOST):
            rate.add_metric([model, one.id], one.failure_rate)
            size.add_metric([model, one.id], one.rows)
        for state in SliceState:
            states.add_metric([model, state.value], counted.states.get((model, state.value), 0))
        alerts.add_metric([model], counted.firing.get(model, 0))
    return rate, size, states, alerts
