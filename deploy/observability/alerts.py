"""All alerts: budgets that burn, and states that should not last."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.observability.rules import Alert, Objectives, Severity, burn_alerts

_OVERVIEW = "/"
_MODEL = "/models/{{ $labels.model }}"


def alerts(objectives: Objectives) -> Iterator[Alert]:
    """Every alert that there is."""
    yield from burn_alerts(objectives)
    yield from _MODELS
    yield from _REPLICAS
    yield from _MONITOR
    yield from _PEOPLE


def _state(
    name: str,
    measure: str,
    limit: str,
    *,
    summary: str,
    action: str,
    anchor: str,
    severity: Severity = Severity.TICKET,
    lasts: str = "0m",
    console: str = _OVERVIEW,
    expression: str = "",
) -> Alert:
    return Alert(
        name=name,
        measures=(measure,),
        expression=expression or f"{measure} {limit}",
        severity=severity,
        summary=summary,
        action=action,
        anchor=anchor,
        console=console,
        lasts=lasts,
    )


_MODELS = (
    _state(
        "HardcaseModelAlarm",
        'max by (model, promise) (hardcase_alarm{state=~"firing|recovering"})',
        "== 1 unless on (model, promise) max by (model, promise) (hardcase_alarm_silenced) == 1",
        severity=Severity.PAGE,
        summary="{{ $labels.model }} errs more than it may: audited labels prove it ({{ $labels.promise }} promise)",
        action="Look at the failing inputs; hardcase rollback MODEL when a new version brought them",
        anchor="a-model-alarm-fires",
        console="/alarms?model={{ $labels.model }}",
    ),
    _state(
        "HardcaseNotReady",
        "max by (instance) (hardcase_ready)",
        "== 0",
        severity=Severity.PAGE,
        lasts="2m",
        summary="Replica {{ $labels.instance }} has a promoted model without a version that answers",
        action="hardcase traffic status MODEL shows which version is refused, and why; hardcase rollback MODEL",
        anchor="a-version-is-unavailable",
    ),
    _state(
        "HardcaseChampionBehind",
        "max by (model) (hardcase_champion_behind)",
        "== 1",
        lasts="10m",
        summary="{{ $labels.model }} is answered by another version than its plan names",
        action="The planned champion does not load: hardcase traffic status MODEL has the reason",
        anchor="a-version-is-unavailable",
        console=_MODEL,
    ),
    _state(
        "HardcaseVersionUnavailable",
        'max by (model, version) (hardcase_version_state{state="UNAVAILABLE"})',
        "== 1",
        lasts="5m",
        summary="{{ $labels.model }} {{ $labels.version }} is refused by at least one replica",
        action="hardcase traffic status MODEL has the reason",
        anchor="a-version-is-unavailable",
        console=_MODEL,
    ),
    _state(
        "HardcaseChallengerTripped",
        "max by (model, version) (hardcase_challenger_tripped)",
        "== 1",
        summary="Challenger {{ $labels.version }} of {{ $labels.model }} failed too often and was taken out",
        action="hardcase traffic status MODEL; its records in the console show what failed",
        anchor="a-challenger-was-taken-out",
        console="/cases?model={{ $labels.model }}&version={{ $labels.version }}&from=$since",
    ),
    _state(
        "HardcaseRolledBack",
        'sum by (model) (increase(hardcase_rollouts_total{state="rolled_back"}[1h]))',
        "> 0",
        summary="A new version of {{ $labels.model }} was taken back on its way to the champion",
        action="hardcase rollout status MODEL says what spoke against it",
        anchor="a-roll-out-went-back-or-waits",
        console="/rollouts",
    ),
    _state(
        "HardcaseRolloutWaits",
        'max by (model) (last_over_time(hardcase_rollout{state="paused"}[15m]))',  # a missed scrape is no end
        "== 1",
        lasts="1h",
        summary="The roll-out of {{ $labels.model }} is paused for an hour: it waits for a person",
        action="hardcase rollout status MODEL says who or what paused it; resume or abort it",
        anchor="a-roll-out-went-back-or-waits",
        console="/rollouts",
    ),
)

_REPLICAS = (
    _state(
        "HardcaseNoReplica",
        "hardcase_ready",
        "",
        expression="absent(hardcase_ready)",
        severity=Severity.PAGE,
        lasts="1m",
        summary="No replica answers Prometheus: probably nobody answers clients either",
        action="hardcase status; tail .hardcase/logs/serving.log",
        anchor="a-replica-is-missing",
    ),
    _state(
        "HardcaseTargetDown",
        'up{job="hardcase"}',
        "== 0",
        lasts="2m",
        summary="{{ $labels.instance }} is listed as a replica or the monitor and does not answer",
        action="hardcase status says what should run where; its log says why it does not",
        anchor="a-replica-is-missing",
    ),
    _state(
        "HardcaseRequestsShed",
        "sum by (model) (rate(hardcase_shed_requests_total[5m]))",
        "> 1",
        lasts="10m",
        summary="{{ $labels.model }} turns away {{ $value | humanize }} requests a second, because it is overloaded",
        action="More replicas, or less traffic: hardcase_queue_expected_wait_seconds says how far behind it is",
        anchor="requests-are-answered-with-503",
        console=_MODEL,
    ),
    _state(
        "HardcaseQueueFull",
        "max by (model, version) (hardcase_queue_rows / hardcase_queue_limit_rows)",
        "> 0.9",
        lasts="2m",
        summary="The queue of {{ $labels.model }} {{ $labels.version }} is {{ $value | humanizePercentage }} full",
        action="More replicas, or less traffic; what comes when it is full is answered with 503",
        anchor="requests-are-answered-with-503",
        console=_MODEL,
    ),
    _state(
        "HardcaseSlowLane",
        'max by (instance) (hardcase_lane{lane="asgi"})',
        "== 1",
        lasts="10m",
        summary="Replica {{ $labels.instance }} answers through ASGI, several times slower than it could",
        action="The hook of the fast lane is not in place: hardcase doctor says what is in the way",
        anchor="a-replica-is-in-the-slow-lane",
    ),
    _state(
        # Not a rate: a replica falls back while it starts, before anybody could have seen a smaller count.
        "HardcaseCpuFallback",
        "sum by (instance) (hardcase_cpu_fallbacks_total)",
        "> 0",
        summary="Replica {{ $labels.instance }} runs on the CPU what was meant for an accelerator",
        action="hardcase doctor lists GPU and provider facts; serving.runtime.allow_cpu_fallback allowed it",
        anchor="a-model-runs-on-the-cpu",
    ),
    _state(
        "HardcaseCaptureLoss",
        'sum by (model) (rate(hardcase_capture_records_total{result=~"dropped_.*"}[5m]))',
        "> 0",
        lasts="5m",
        summary="{{ $labels.model }}: {{ $value | humanize }} records a second are not captured",
        action="The label result of hardcase_capture_records_total names the reason: disk_full, quota, buffer_full",
        anchor="records-are-dropped",
        console=_MODEL,
    ),
    _state(
        "HardcaseLogFills",
        "max by (instance) (hardcase_capture_held_bytes / hardcase_capture_quota_bytes)",
        "> 0.8",
        lasts="5m",
        summary="The log of {{ $labels.instance }} holds {{ $value | humanizePercentage }} of its quota unread",
        action="Find out why the monitor does not read; when the quota is reached, records are dropped",
        anchor="records-are-dropped",
    ),
)

_MONITOR = (
    _state(
        "HardcaseMonitorLag",
        "max(hardcase_monitor_lag_seconds)",
        "> 300",
        lasts="5m",
        summary="The monitor is {{ $value | humanizeDuration }} behind: charts and cases are old",
        action="hardcase status shows the lag of each log; a monitor that is only slow catches up by itself",
        anchor="the-monitor-is-behind-or-down",
    ),
    _state(
        "HardcaseMonitorStuck",
        "max(hardcase_monitor_heartbeat_age_seconds)",
        "",
        expression="max(hardcase_monitor_heartbeat_age_seconds) > 120"
        " or absent(hardcase_monitor_heartbeat_age_seconds)",
        lasts="5m",
        summary="The monitor's loop does not turn: nothing is ingested, scored or alarmed",
        action="tail .hardcase/logs/monitor.log; serving goes on without it",
        anchor="the-monitor-is-behind-or-down",
    ),
    _state(
        "HardcaseDutyFailing",
        "max by (duty) (hardcase_monitor_duty_failing)",
        "== 1",
        lasts="10m",
        summary="The monitor's duty {{ $labels.duty }} fails again and again; ingest goes on without it",
        action="tail .hardcase/logs/monitor.log has the traceback of each try",
        anchor="a-duty-of-the-monitor-fails",
    ),
    _state(
        "HardcaseLogDamaged",
        "max(hardcase_monitor_log_damages)",
        "> 0",
        summary="{{ $value | humanize }} places of the record log do not verify",
        action="hardcase records verify explains each",
        anchor="the-log-reports-damage",
    ),
)

_PEOPLE = (
    _state(
        "HardcaseSliceRegressed",
        'max by (model) (hardcase_slices{state="regressed"})',
        "> 0",
        summary="{{ $labels.model }}: {{ $value | humanize }} slices that were fixed fail again",
        action="Their pages say since which version; the roll-out that brought it can be taken back",
        anchor="a-fixed-slice-fails-again",
        console="/slices?model={{ $labels.model }}",
    ),
    _state(
        "HardcaseNoticesLate",
        "max(hardcase_notices_oldest_seconds)",
        "> 900",
        lasts="5m",
        summary="A notice has waited for {{ $value | humanizeDuration }}: a channel does not take it",
        action="Settings in the console says why each channel's last attempt failed, and can send a test notice",
        anchor="notices-do-not-arrive",
        console="/settings",
    ),
    _state(
        "HardcaseNoticesLost",
        'sum by (channel) (increase(hardcase_notice_attempts_total{outcome="given_up"}[1h]))',
        "> 0",
        summary="{{ $value | humanize }} notices to {{ $labels.channel }} were given up: nobody was told",
        action="Settings in the console says why; what they said stands on the alarms and slices themselves",
        anchor="notices-do-not-arrive",
        console="/settings",
    ),
)
