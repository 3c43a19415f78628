"""What a dashboard is made of: questions with their queries, as data. Nothing here knows Grafana's JSON.

Metrics are named through `pick`, which looks them up in the tables of metrics: a misspelt metric or label is an error
when the dashboards are built, not an empty panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from deploy.observability.metric_docs import Exposed, exposed

RATE = "[$__rate_interval]"
PROCESS = {
    name: Exposed(name=name, kind=kind, text=text, labels=())
    for name, kind, text in (
        ("process_resident_memory_bytes", "gauge", "Memory of the process."),
        ("process_cpu_seconds_total", "counter", "Processor time of the process."),
        ("up", "gauge", "1 when the last scrape succeeded."),
    )
}


class Kind(StrEnum):
    """How a panel is drawn. Values are Grafana's names of panel types."""

    LINES = "timeseries"  # over time
    NUMBER = "stat"  # the latest value, large
    TABLE = "table"  # the latest values, a line for each combination of labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        legend: Grafana's template of the series' name: text, and labels in double braces.
        exemplars: Show records beside the lines.
        may_be_empty: On a healthy system there is nothing to show; says why.
    """

    expression: str
    legend: str
    exemplars: bool = False
    may_be_empty: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """From `above` on a value is drawn in `color`; None is the lowest colour."""

    above: float | None
    color: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A question and what answers it.

    Attributes:
        title: A question.
        text: What the answer means, and where it may mislead.
        unit: Grafana's id of the unit.
        console: Path in the console where one looks further.
        width: Of 24 columns. `height`: Of rows of 30 pixels.
        words: Text for values, such as 1: "yes".
        steps: Colours by value.
        stacked: Draw series on top of each other.
        low, high: Ends of the axis, None leaves them to the data.
    """

    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    console: str = "/"
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 8
    words: tuple[tuple[str, str, str], ...] = ()
    steps: tuple[Step, ...] = ()
    stacked: bool = False
    low: float | None = None
    high: float | None = None
    decimals: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A dashboard.

    Attributes:
        uid: Stable: links and bookmarks hold it.
        models: Show the choice of model and version.
    """

    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    models: bool = False


@lru_cache(maxsize=1)
def known() -> dict[str, Exposed]:
    """Every metric that may be asked for."""
    return {m.name: m for part in exposed() for m in part} | PROCESS


def pick(name: str, *matchers: str, model: bool = False, suffix: str = "") -> str:
    """A selector: of the dashboard's job, and of its model and version where the metric has them.

    Args:
        name: As in the tables.
        matchers: More, such as `outcome="ok"`.
        model: Belongs to a dashboard of one model.
        suffix: "_bucket", "_sum" or "_count" of a histogram.

    Raises:
        KeyError: there is no such metric, or it has no such label.

    Example:
        >>> pick("hardcase_queue_rows", model=True)
        'hardcase_queue_rows{job=~"$job",model="$model",version=~"$version"}'
    """
    metric = known()[name]
    for matcher in matchers:
        label = matcher.split("=")[0].rstrip("!~ ")
        if label not in metric.labels:
            raise KeyError(f"{name} has no label {label}")
    if suffix and metric.kind != "histogram":
        raise KeyError(f"{name} is no histogram")
    chosen = ['job=~"$job"']
    if model and "model" in metric.labels:
        chosen.append('model="$model"')
    if model and "version" in metric.labels:
        chosen.append('version=~"$version"')
    return f"{name}{suffix}{{{','.join([*chosen, *matchers])}}}"


def rate(name: str, *matchers: str, model: bool = False, suffix: str = "") -> str:
    """What a counter grows by in a second.

    Example:
        >>> rate("hardcase_rows_total")
        'rate(hardcase_rows_total{job=~"$job"}[$__rate_interval])'
    """
    return f"rate({pick(name, *matchers, model=model, suffix=suffix)}{RATE})"


def total(
    of: str, *labels: str, how: str = "sum", legend: str = "", missing: str = "", exemplars: bool = False
) -> Query:
    """The query of a selector or rate, summed up (or `how`) for each combination of the labels.

    Args:
        of: From `pick` or `rate`.
        labels: Kept apart; without any there is one series.
        how: An aggregation of PromQL.
        legend: The labels' values unless given.
        missing: `Query.may_be_empty`.
        exemplars: As of `Query`.

    Example:
        >>> total(pick("hardcase_queue_rows"), "model", "version").legend
        '{{model}} {{version}}'
    """
    by = f" by ({', '.join(labels)}) " if labels else ""
    named = legend or " ".join(f"{{{{{label}}}}}" for label in labels)
    return Query(expression=f"{how}{by}({of})", legend=named, may_be_empty=missing, exemplars=exemplars)


def percentile(share: float, name: str, by: str, model: bool = False) -> str:
    """A percentile of a histogram, for each combination of the labels in `by`."""
    return f"histogram_quantile({share:g}, sum by (le, {by}) ({rate(name, model=model, suffix='_bucket')}))"


def mean(name: str, by: str, model: bool = False) -> str:
    """The mean of a histogram."""
    parts = [f"sum by ({by}) ({rate(name, model=model, suffix=suffix)})" for suffix in ("_sum", "_count")]
    return " / ".join(parts)
