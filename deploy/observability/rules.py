"""Recording rules and burn-rate alerts, as data; alerts about states are in `deploy.observability.alerts`.

Every alert says what it costs the users, and has a runbook entry, a test and a drill. What is only interesting, drift
above all, is drawn and never an alert.

Error and latency alerts burn a budget: an objective of 99.9 % allows 0.1 % of a month's requests to fail, and an alert
fires when the budget is being spent so fast that it would be gone too soon, over a long window (it matters) and a short
one (it still goes on). Factors and windows are those of Google's SRE workbook, chapter 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from serving.latency_bounds import LATENCY_BOUNDS_NS

RUNBOOK = "https://github.com/hardcase/hardcase/blob/main/docs/runbook.md"
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# The server's own failures. What a client did wrong, or did not wait for, spends no budget.
_BAD = 'outcome=~"failed|deadline|rejected"'
_COUNTED = 'outcome!~"invalid|cancelled"'
_ANSWERS = 'variant!="shadow"'


class Severity(StrEnum):
    """Who hears of an alert, and when."""

    PAGE = "page"  # somebody is woken up: users are affected now
    TICKET = "ticket"  # somebody looks at it tomorrow


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """A series that Prometheus keeps up to date. `name` follows level:metric:operation."""

    name: str
    expression: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """An alert.

    Attributes:
        measures: What is looked at. Each has samples on a system where nothing is wrong, so that a silent alert is a
            healthy system and not a misspelt metric.
        expression: The measures with their limits.
        lasts: How long the expression must hold, in Prometheus' notation.
        summary: One line; may use labels.
        action: What to do first.
        anchor: Its heading in the runbook, as a link target.
        console: Where in the console to look: path and query, may use labels. `$since` becomes the time an hour before
            the alert began.
    """

    name: str
    measures: tuple[str, ...]
    expression: str
    severity: Severity
    summary: str
    action: str
    anchor: str
    console: str
    lasts: str = "0m"


@dataclass(frozen=True, kw_only=True, slots=True)
class Objectives:
    """What is promised to users.

    Attributes:
        availability: Share of requests that must not fail through our fault.
        latency_s: Time within which an answer counts as fast; a bound of the latency histogram.
        fast: Share of answers that must be fast.

    Raises:
        ValueError: a share that is no objective, or a time that the histogram cannot tell.
    """

    availability: float = 0.999
    latency_s: float = 0.1
    fast: float = 0.99

    def __post_init__(self) -> None:
        """Check."""
        for name, share in (("availability", self.availability), ("fast", self.fast)):
            if not 0.5 <= share < 1.0:
                raise ValueError(f"{name} is {share}: it must lie between 0.5 and 1")
        if round(self.latency_s * 1e9) not in LATENCY_BOUNDS_NS:
            known = ", ".join(f"{ns / 1e9:g}" for ns in LATENCY_BOUNDS_NS)
            raise ValueError(f"latency_s is {self.latency_s:g}: the histogram can tell {known}")


def recordings(objectives: Objectives) -> Iterator[Recording]:
    """Shares of failed and of slow requests of each model, over every window that an alert looks at."""
    bound = repr(round(objectives.latency_s * 1e9) / 1e9)
    for window in WINDOWS:
        bad = f"sum by (model) (rate(hardcase_requests_total{{{_BAD},{_ANSWERS}}}[{window}]))"
        all_ = f"sum by (model) (rate(hardcase_requests_total{{{_COUNTED},{_ANSWERS}}}[{window}]))"
        yield Recording(name=f"model:hardcase_request_errors:ratio_rate{window}", expression=f"{bad} / {all_}")
        fast = f'sum by (model) (rate(hardcase_request_total_seconds_bucket{{le="{bound}"}}[{window}]))'
        count = f"sum by (model) (rate(hardcase_request_total_seconds_count[{window}]))"
        yield Recording(name=f"model:hardcase_requests_slow:ratio_rate{window}", expression=f"1 - {fast} / {count}")


# Factor by which the budget burns, long window, short window, who hears of it.
_BURNS = (
    (14.4, "1h", "5m", Severity.PAGE),
    (6.0, "6h", "30m", Severity.PAGE),
    (3.0, "1d", "2h", Severity.TICKET),
    (1.0, "3d", "6h", Severity.TICKET),
)


def burn_alerts(objectives: Objectives) -> Iterator[Alert]:
    """Errors and latency, each as a page and as a ticket."""
    yield from _burning(
        "HardcaseErrorBudgetBurns",
        "hardcase_request_errors",
        1.0 - objectives.availability,
        "{{ $labels.model }} fails {{ $value | humanizePercentage }} of its requests",
        "See which outcome it is (failed, deadline, rejected) and since which version: hardcase traffic status",
        "requests-fail",
        "/cases?model={{ $labels.model }}&from=$since",
    )
    yield from _burning(
        "HardcaseLatencyBudgetBurns",
        "hardcase_requests_slow",
        1.0 - objectives.fast,
        f"{{{{ $labels.model }}}} answers {{{{ $value | humanizePercentage }}}} later than {objectives.latency_s:g} s",
        "Compare queue and compute time: a long queue wants replicas, long computing a smaller model or a GPU",
        "requests-are-slow",
        "/models/{{ $labels.model }}",
    )


def _burning(
    name: str, metric: str, budget: float, summary: str, action: str, anchor: str, console: str
) -> Iterator[Alert]:
    for severity in Severity:
        burns = [burn for burn in _BURNS if burn[-1] is severity]
        pairs = [
            f"(model:{metric}:ratio_rate{long} > {factor * budget:.6g} and "
            f"model:{metric}:ratio_rate{short} > {factor * budget:.6g})"
            for factor, long, short, _ in burns
        ]
        yield Alert(
            name=name,
            measures=tuple(f"model:{metric}:ratio_rate{w}" for _, long, short, _ in burns for w in (long, short)),
            expression=" or ".join(pairs),
            severity=severity,
            summary=summary,
            action=action,
            anchor=anchor,
            console=console,
            lasts="2m",
        )


_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def paced(text: str, pace: float) -> str:
    """Every duration in an expression or a field `pace` times as long: drills play days in minutes.

    Example:
        >>> paced("rate(x_total[5m]) > 1", 1 / 60), paced("2m", 0.5), paced("up == 0", 0.5)
        ('rate(x_total[5000ms]) > 1', '60000ms', 'up == 0')
    """

    def shorter(match: re.Match[str]) -> str:
        return f"{match[1]}{round(float(match[2]) * _SECONDS[match[3]] * pace * 1000)}ms{match[4]}"

    return re.sub(r"(\[|^)([0-9]+)([smhd])(\]|$)", shorter, text) if pace != 1.0 else text
