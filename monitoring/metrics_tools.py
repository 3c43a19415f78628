"""How labelling tools are doing, as metrics. See `monitoring.metrics`."""

from __future__ import annotations

import time
from collections.abc import Iterator

from monitoring.integrations.duty import configured
from monitoring.integrations.names import TaskState
from monitoring.integrations.options import IntegrationOptions
from monitoring.integrations.tool_rows import tool_row
from monitoring.metric_family import Family, Made, make
from monitoring.store import Store

FAILING = Family(
    name="hardcase_integration_failing_seconds",
    kind="gauge",
    text="How long a labelling tool has not answered; 0 while it does.",
    labels=("tool",),
)
TASKS = Family(
    name="hardcase_integration_tasks",
    kind="gauge",
    text="Cases in a labelling tool, by what became of them; those that wait are not there yet.",
    labels=("tool", "state"),
)
PUSHED = Family(
    name="hardcase_integration_pushed",
    kind="counter",
    text="Tasks made in a labelling tool, since the database was made.",
    labels=("tool",),
)
PULLED = Family(
    name="hardcase_integration_pulled",
    kind="counter",
    text="Annotations taken over from a labelling tool, since the database was made.",
    labels=("tool",),
)
REFUSED = Family(
    name="hardcase_integration_refused",
    kind="counter",
    text="Annotations that were not taken over, because the model has no such answer.",
    labels=("tool",),
)
TOOL_FAMILIES = (FAILING, TASKS, PUSHED, PULLED, REFUSED)


def tool_metrics(store: Store, options: IntegrationOptions) -> Iterator[Made]:
    """Of the configured tools."""
    made = {family.name: make(family) for family in TOOL_FAMILIES}
    for tool in configured(options):
        row = tool_row(store, tool)
        failing_s = max(0.0, (time.time_ns() - row.failing_ns) / 1e9) if row.failing_ns else 0.0
        made[FAILING.name].add_metric([tool.value], failing_s)
        for state in TaskState:
            made[TASKS.name].add_metric([tool.value, state.value], row.tasks.get(state.value, 0))
        for family, value in ((PUSHED, row.pushed), (PULLED, row.pulled), (REFUSED, row.refused)):
            made[family.name].add_metric([tool.value], value)
    yield from made.values()
