"""Recording rules and alerts, as data. Every alert says what it costs the users, and has a runbook entry and a test.

Error and latency alerts burn a budget: an objective of 99.9 % allows 0.1 % of a month's requests to fail, and an alert
fires when the budget is being spent so fast that it would be gone too soon, over a long window (it matters) and a short
one (it still goes on). Factors and windows are those of Google's SRE workbook, chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from serving.stats import LATENCY_BOUNDS_NS

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
        lasts: How long the expression must hold, in Prometheus' notation.
        summary: One line; may use labels.
        action: What to do first.
        anchor: Its heading in the runbook, as a link target.
    """

    name: str
    expression: str
    severity: Severity
    summary: str
    action: str
    anchor: str
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


def alerts(objectives: Objectives) -> Iterator[Alert]:
    """All alerts."""
    yield from _burning(
        "HardcaseErrorBudgetBurns",
        "hardcase_request_errors",
        1.0 - objectives.availability,
        "{{ $labels.model }} fails {{ $value | humanizePercentage }} of its requests",
        "See which outcome it is (failed, deadline, rejected) and since which version: hardcase traffic status",
        "requests-fail",
    )
    yield from _burning(
        "HardcaseLatencyBudgetBurns",
        "hardcase_requests_slow",
        1.0 - objectives.fast,
        f"{{{{ $labels.model }}}} answers {{{{ $value | humanizePercentage }}}} later than {objectives.latency_s:g} s",
        "Compare queue and compute time: a long queue wants replicas, long computing a smaller model or a GPU",
        "requests-are-slow",
    )
    yield from _STATES


def _burning(name: str, metric: str, budget: float, summary: str, action: str, anchor: str) -> Iterator[Alert]:
    for severity in Severity:
        pairs = [
            f"(model:{metric}:ratio_rate{long} > {factor * budget:.6g} and "
            f"model:{metric}:ratio_rate{short} > {factor * budget:.6g})"
            for factor, long, short, of in _BURNS
            if of is severity
        ]
        yield Alert(
            name=name,
            expression=" or ".join(pairs),
            severity=severity,
            summary=summary,
            action=action,
            anchor=anchor,
            lasts="2m",
        )


_STATES = (
    Alert(
        name="HardcaseNotReady",
        expression="max by (instance) (hardcase_ready) == 0",
        severity=Severity.PAGE,
        lasts="2m",
        summary="Replica {{ $labels.instance }} has a promoted model without a version that answers",
        action="hardcase traffic status MODEL shows which version is refused, and why; hardcase rollback MODEL",
        anchor="a-version-is-unavailable",
    ),
    Alert(
        name="HardcaseChampionBehind",
        expression="max by (model) (hardcase_champion_behind) == 1",
        severity=Severity.TICKET,
        lasts="10m",
        summary="{{ $labels.model }} is answered by another version than its plan names",
        action="The planned champion does not load: hardcase traffic status MODEL has the reason",
        anchor="a-version-is-unavailable",
    ),
    Alert(
        name="HardcaseVersionUnavailable",
        expression='max by (model, version) (hardcase_version_state{state="UNAVAILABLE"}) == 1',
        severity=Severity.TICKET,
        lasts="5m",
        summary="{{ $labels.model }} {{ $labels.version }} is refused by at least one replica",
        action="hardcase traffic status MODEL has the reason",
        anchor="a-version-is-unavailable",
    ),
    Alert(
        name="HardcaseRequestsShed",
        expression="sum by (model) (rate(hardcase_shed_requests_total[5m])) > 1",
        severity=Severity.TICKET,
        lasts="10m",
        summary="{{ $labels.model }} turns away {{ $value | humanize }} requests a second, because it is overloaded",
        action="More replicas, or less traffic: hardcase_queue_expected_wait_seconds says how far behind it is",
        anchor="requests-are-answered-with-503",
    ),
    Alert(
        name="HardcaseSlowLane",
        expression='max by (instance) (hardcase_lane{lane="asgi"}) == 1',
        severity=Severity.TICKET,
        lasts="10m",
        summary="Replica {{ $labels.instance }} answers through ASGI, several times slower than it could",
        action="The hook of the fast lane is not in place: hardcase doctor says what is in the way",
        anchor="a-replica-is-in-the-slow-lane",
    ),
    Alert(
        name="HardcaseCpuFallback",
        expression="sum by (instance) (increase(hardcase_cpu_fallbacks_total[1h])) > 0",
        severity=Severity.TICKET,
        summary="Replica {{ $labels.instance }} runs on the CPU what was meant for an accelerator",
        action="hardcase doctor lists GPU and provider facts; serving.runtime.allow_cpu_fallback allowed it",
        anchor="a-model-runs-on-the-cpu",
    ),
    Alert(
        name="HardcaseCaptureLoss",
        expression='sum by (model) (rate(hardcase_capture_records_total{result=~"dropped_.*"}[5m])) > 0',
        severity=Severity.TICKET,
        lasts="5m",
        summary="{{ $labels.model }}: {{ $value | humanize }} records a second are not captured",
        action="The label result of hardcase_capture_records_total names the reason: disk_full, quota, buffer_full",
        anchor="records-are-dropped",
    ),
    Alert(
        name="HardcaseMonitorLag",
        expression="max(hardcase_monitor_lag_seconds) > 300",
        severity=Severity.TICKET,
        lasts="5m",
        summary="The monitor is {{ $value | humanizeDuration }} behind: charts and cases are old",
        action="hardcase status shows the lag of each log; a monitor that is only slow catches up by itself",
        anchor="the-monitor-is-behind-or-down",
    ),
    Alert(
        name="HardcaseMonitorStuck",
        expression="max(hardcase_monitor_heartbeat_age_seconds) > 120"
        " or absent(hardcase_monitor_heartbeat_age_seconds)",
        severity=Severity.TICKET,
        lasts="5m",
        summary="The monitor's loop does not turn: nothing is ingested, scored or alarmed",
        action="tail .hardcase/logs/monitor.log; serving goes on without it",
        anchor="the-monitor-is-behind-or-down",
    ),
    Alert(
        name="HardcaseLogDamaged",
        expression="max(hardcase_monitor_log_damages) > 0",
        severity=Severity.TICKET,
        summary="{{ $value | humanize }} places of the record log do not verify",
        action="hardcase records verify explains each",
        anchor="the-log-reports-damage",
    ),
    Alert(
        name="HardcaseChallengerTripped",
        expression="max by (model, version) (hardcase_challenger_tripped) == 1",
        severity=Severity.TICKET,
        summary="Challenger {{ $labels.version }} of {{ $labels.model }} failed too often and was taken out",
        action="hardcase traffic status MODEL; its records in the console show what failed",
        anchor="a-challenger-was-taken-out",
    ),
)
