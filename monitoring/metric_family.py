"""A line of the monitor's table of metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Made: TypeAlias = CounterMetricFamily | GaugeMetricFamily


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One metric: `kind` is "counter" or "gauge"; a counter's samples get the suffix `_total`."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ()


def make(family: Family) -> Made:
    """The family without samples."""
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    return kind(family.name, family.text, labels=family.labels)
