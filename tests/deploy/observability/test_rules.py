"""Every rule is read by Prometheus' own checker, every alert fires on its fault and is quiet without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deploy.cli.main import make_app
from deploy.observability.alerts import alerts
from deploy.observability.prometheus import Around, rule_groups, write_prometheus
from deploy.observability.rules import WINDOWS, Objectives, Severity, paced
from monitoring.metrics import FAMILIES
from serving.metric_table import METRICS

ROOT = Path(__file__).resolve().parents[3]
OBJECTIVES = Objectives()
AROUND = Around(monitor="127.0.0.1:8080", console="http://console:8080", alertmanager="127.0.0.1:9093")
ALERTS = list(alerts(OBJECTIVES))
M, MV = 'model="m"', 'model="m",version="2"'
REQUESTS = 'hardcase_requests_total{model="m",version="1",variant="champion",outcome="%s"}'
SLOW = "hardcase_request_total_seconds"

# What makes each alert fire, and what is near and must not: series to values, one every two minutes for eight hours.
LONG = "x240"
FAULTS: dict[tuple[str, str], tuple[dict[str, str], dict[str, str]]] = {
    ("HardcaseErrorBudgetBurns", "page"): (
        {REQUESTS % "ok": f"0+980{LONG}", REQUESTS % "failed": f"0+20{LONG}"},
        {REQUESTS % "ok": f"0+980{LONG}", REQUESTS % "invalid": f"0+500{LONG}", REQUESTS % "cancelled": f"0+90{LONG}"},
    ),
    ("HardcaseErrorBudgetBurns", "ticket"): (
        {REQUESTS % "ok": f"0+9960{LONG}", REQUESTS % "deadline": f"0+40{LONG}"},
        {REQUESTS % "ok": f"0+99995{LONG}", REQUESTS % "deadline": f"0+5{LONG}"},
    ),
    ("HardcaseLatencyBudgetBurns", "page"): (
        {f'{SLOW}_bucket{{{M},le="0.1"}}': f"0+700{LONG}", f"{SLOW}_count{{{M}}}": f"0+1000{LONG}"},
        {f'{SLOW}_bucket{{{M},le="0.1"}}': f"0+995{LONG}", f"{SLOW}_count{{{M}}}": f"0+1000{LONG}"},
    ),
    ("HardcaseLatencyBudgetBurns", "ticket"): (
        {f'{SLOW}_bucket{{{M},le="0.1"}}': f"0+960{LONG}", f"{SLOW}_count{{{M}}}": f"0+1000{LONG}"},
        {f'{SLOW}_bucket{{{M},le="0.1"}}': f"0+995{LONG}", f"{SLOW}_count{{{M}}}": f"0+1000{LONG}"},
    ),
    ("HardcaseModelAlarm", "page"): (
        {'hardcase_alarm{model="m",promise="lifetime",state="firing"}': f"1{LONG}"},
        {
            'hardcase_alarm{model="m",promise="lifetime",state="firing"}': f"1{LONG}",
            'hardcase_alarm_silenced{model="m",promise="lifetime"}': f"1{LONG}",
        },
    ),
    ("HardcaseNoReplica", "page"): (
        {"hardcase_monitor_cycles_total": f"0+9{LONG}"},
        {'hardcase_ready{instance="a"}': f"0{LONG}"},
    ),
    ("HardcaseTargetDown", "ticket"): (
        {'up{job="hardcase",instance="a"}': f"0{LONG}"},
        {'up{job="hardcase",instance="a"}': f"1{LONG}", 'up{job="node",instance="b"}': f"0{LONG}"},
    ),
    ("HardcaseQueueFull", "ticket"): (
        {f"hardcase_queue_rows{{{MV}}}": f"4000{LONG}", f"hardcase_queue_limit_rows{{{MV}}}": f"4096{LONG}"},
        {f"hardcase_queue_rows{{{MV}}}": f"400{LONG}", f"hardcase_queue_limit_rows{{{MV}}}": f"4096{LONG}"},
    ),
    ("HardcaseLogFills", "ticket"): (
        {
            'hardcase_capture_held_bytes{instance="a"}': f"900{LONG}",
            'hardcase_capture_quota_bytes{instance="a"}': f"1000{LONG}",
        },
        {
            'hardcase_capture_held_bytes{instance="a"}': f"700{LONG}",
            'hardcase_capture_quota_bytes{instance="a"}': f"1000{LONG}",
        },
    ),
    ("HardcaseDutyFailing", "ticket"): (
        {'hardcase_monitor_duty_failing{duty="signals"}': f"1{LONG}"},
        {'hardcase_monitor_duty_failing{duty="signals"}': "0x100 1x2 0x138"},
    ),
    ("HardcaseNotReady", "page"): (
        {'hardcase_ready{instance="a"}': f"0{LONG}"},
        {'hardcase_ready{instance="a"}': f"1{LONG}"},
    ),
    ("HardcaseChampionBehind", "ticket"): (
        {f"hardcase_champion_behind{{{M}}}": f"1{LONG}"},
        {f"hardcase_champion_behind{{{M}}}": f"0{LONG}"},
    ),
    ("HardcaseVersionUnavailable", "ticket"): (
        {f'hardcase_version_state{{{MV},state="UNAVAILABLE"}}': f"1{LONG}"},
        {f'hardcase_version_state{{{MV},state="READY"}}': f"1{LONG}"},
    ),
    ("HardcaseRequestsShed", "ticket"): (
        {f'hardcase_shed_requests_total{{{MV},reason="wait"}}': f"0+600{LONG}"},
        {f'hardcase_shed_requests_total{{{MV},reason="wait"}}': f"0+6{LONG}"},
    ),
    ("HardcaseSlowLane", "ticket"): (
        {'hardcase_lane{instance="a",lane="asgi"}': f"1{LONG}"},
        {'hardcase_lane{instance="a",lane="fast"}': f"1{LONG}"},
    ),
    ("HardcaseCpuFallback", "ticket"): (
        {'hardcase_cpu_fallbacks_total{instance="a"}': f"1{LONG}"},
        {'hardcase_cpu_fallbacks_total{instance="a"}': f"0{LONG}"},
    ),
    ("HardcaseCaptureLoss", "ticket"): (
        {f'hardcase_capture_records_total{{{MV},result="dropped_quota"}}': f"0+1{LONG}"},
        {f'hardcase_capture_records_total{{{MV},result="sampled_out"}}': f"0+100{LONG}"},
    ),
    ("HardcaseMonitorLag", "ticket"): (
        {"hardcase_monitor_lag_seconds": f"900{LONG}", "hardcase_monitor_heartbeat_age_seconds": f"1{LONG}"},
        {"hardcase_monitor_lag_seconds": f"20{LONG}", "hardcase_monitor_heartbeat_age_seconds": f"1{LONG}"},
    ),
    ("HardcaseMonitorStuck", "ticket"): (
        {"hardcase_ready": f"1{LONG}"},  # absent: the monitor is not there at all
        {"hardcase_monitor_heartbeat_age_seconds": f"3{LONG}"},
    ),
    ("HardcaseLogDamaged", "ticket"): (
        {"hardcase_monitor_log_damages": f"2{LONG}"},
        {"hardcase_monitor_log_damages": f"0{LONG}"},
    ),
    ("HardcaseRolledBack", "ticket"): (
        {'hardcase_rollouts_total{model="m",state="rolled_back"}': "0x225 1x15"},
        {
            'hardcase_rollouts_total{model="m",state="rolled_back"}': f"3{LONG}",
            'hardcase_rollouts_total{model="m",state="promoted"}': "0x225 1x15",
        },
    ),
    ("HardcaseRolloutWaits", "ticket"): (
        {'hardcase_rollout{model="m",state="paused"}': f"1{LONG}"},
        {
            'hardcase_rollout{model="m",state="paused"}': "0x230 1x10",
            'hardcase_rollout{model="m",state="running"}': f"1{LONG}",
        },
    ),
    ("HardcaseSliceRegressed", "ticket"): (
        {'hardcase_slices{model="m",state="regressed"}': f"1{LONG}"},
        {
            'hardcase_slices{model="m",state="regressed"}': f"0{LONG}",
            'hardcase_slices{model="m",state="new"}': f"7{LONG}",
            'hardcase_slices{model="m",state="fixed"}': f"2{LONG}",
        },
    ),
    ("HardcaseNoticesLate", "ticket"): (
        {"hardcase_notices_oldest_seconds": f"0+120{LONG}"},
        {"hardcase_notices_oldest_seconds": f"800{LONG}"},  # a receiver that was restarted: the next try is soon
    ),
    ("HardcaseNoticesLost", "ticket"): (
        {'hardcase_notice_attempts_total{channel="pager",outcome="given_up"}': "0x225 1x15"},
        {
            'hardcase_notice_attempts_total{channel="pager",outcome="given_up"}': f"3{LONG}",  # long ago
            'hardcase_notice_attempts_total{channel="pager",outcome="failed"}': f"0+1{LONG}",
            'hardcase_notice_attempts_total{channel="pager",outcome="sent"}': f"0+1{LONG}",
        },
    ),
    ("HardcaseChallengerTripped", "ticket"): (
        {f"hardcase_challenger_tripped{{{MV}}}": f"1{LONG}"},
        {f"hardcase_challenger_tripped{{{MV}}}": f"0{LONG}"},
    ),
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not installed (Debian package prometheus)")
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_prometheus(tmp_path, AROUND, OBJECTIVES)
    return tmp_path


def test_prometheus_reads_the_configuration_and_every_rule(written: Path) -> None:
    done = promtool("check", "config", str(written / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS) + 2 * len(WINDOWS)} rules found" in done.stdout


def test_alertmanager_reads_its_configuration(written: Path) -> None:
    if shutil.which("amtool") is None:
        pytest.skip("amtool is not installed (Debian package prometheus-alertmanager)")
    done = subprocess.run(
        ["amtool", "check-config", str(written / "alertmanager.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_fault_here() -> None:
    assert {(a.name, a.severity.value) for a in ALERTS} == set(FAULTS)


def expected(name: str, severity: str, series: dict[str, str], firing: bool) -> dict[str, Any]:
    count = f'count(ALERTS{{alertname="{name}",severity="{severity}",alertstate="firing"}})'
    samples = [{"labels": "{}", "value": 1}] if firing else []
    return {
        "name": f"{name} {severity} {'fires' if firing else 'is quiet'}",
        "interval": "2m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": count, "eval_time": "7h58m", "exp_samples": samples}],
    }


def test_each_alert_fires_on_its_fault_and_is_quiet_without_it(written: Path) -> None:
    tests = [
        expected(name, severity, series, firing)
        for (name, severity), (fault, healthy) in FAULTS.items()
        for series, firing in ((fault, True), (healthy, False))
    ]
    file = written / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules/hardcase.yml"], "evaluation_interval": "4m", "tests": tests}))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    tests[0]["promql_expr_test"][0]["exp_samples"] = []  # the negative control: the checker does notice
    file.write_text(
        yaml.safe_dump({"rule_files": ["rules/hardcase.yml"], "evaluation_interval": "4m", "tests": tests[:1]})
    )
    assert promtool("test", "rules", str(file)).returncode != 0


def test_rules_use_only_metrics_that_exist() -> None:
    known = set(METRICS) | {f.name for f in FAMILIES}
    known |= {f"{f.name}_total" for f in FAMILIES if f.kind == "counter"}
    text = json.dumps(rule_groups(OBJECTIVES, AROUND))
    for name in set(re.findall(r"(?<!model:)\bhardcase_[a-z_]+", text)):
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        recorded = name.startswith(("hardcase_request_errors", "hardcase_requests_slow"))
        assert name in known or base in known or recorded, name


def section(anchor: str) -> str:
    """The runbook's section behind a link target."""
    text = (ROOT / "docs" / "runbook.md").read_text()
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading = part.partition("\n")[0]
        if re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") == anchor:
            return part
    raise AssertionError(f"the runbook has no heading for #{anchor}")


@pytest.mark.parametrize("name", sorted({a.name for a in ALERTS}))
def test_every_alert_has_a_runbook_entry_that_says_what_to_do_and_how_to_silence_it(name: str) -> None:
    (anchor,) = {a.anchor for a in ALERTS if a.name == name}
    text = section(anchor)
    for part in (f"`{name}`", "**Means.**", "**Look.**", "**Do.**", f"alertname={name}"):
        assert part in text, f"the runbook's section for {name} lacks {part}"


def test_every_alert_says_what_to_do_and_where_to_look() -> None:
    for alert in ALERTS:
        assert alert.action
        assert alert.console.startswith("/")
        assert alert.measures
    assert {a.severity for a in ALERTS} == set(Severity)


def test_the_link_of_an_alert_names_the_model_and_the_hour_before(written: Path) -> None:
    """Prometheus expands it; the time is that of the first evaluation at which the expression held."""
    series, _ = FAULTS["HardcaseErrorBudgetBurns", "page"]
    found = next(a for a in ALERTS if a.name == "HardcaseErrorBudgetBurns" and a.severity is Severity.PAGE)
    annotations = {
        "summary": "m fails 2% of its requests",
        "action": found.action,
        "runbook_url": "https://github.com/hardcase/hardcase/blob/main/docs/runbook.md#requests-fail",
        "console_url": "http://console:8080/cases?model=m&from=1969-12-31T23:04:00Z",
    }
    test = {
        "interval": "2m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": "2h",
                "alertname": "HardcaseErrorBudgetBurns",
                "exp_alerts": [
                    {"exp_labels": {"severity": severity, "model": "m"}, "exp_annotations": annotations}
                    for severity in ("page", "ticket")
                ],
            }
        ],
    }
    file = written / "link.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": ["rules/hardcase.yml"], "evaluation_interval": "4m", "tests": [test]})
    )
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_a_pace_shortens_every_window_and_nothing_else() -> None:
    slow, fast = (rule_groups(OBJECTIVES, Around(monitor="m:1", console="http://c", pace=p)) for p in (1.0, 1 / 60))
    for before, after in zip(slow["groups"], fast["groups"], strict=True):
        assert (before["interval"], after["interval"]) == ("30s", "500ms")
        for rule, quick in zip(before["rules"], after["rules"], strict=True):
            expected = re.sub(r"\[5m\]", "[5000ms]", rule["expr"])
            assert "[5m]" not in quick["expr"]
            assert len(re.findall(r"ms\]", quick["expr"])) == len(re.findall(r"[smhd]\]", rule["expr"]))
            if "[5m]" in rule["expr"] and rule["expr"].count("[") == rule["expr"].count("[5m]"):
                assert quick["expr"] == expected
            assert rule.get("annotations") == quick.get("annotations")
    assert paced("2m", 1.0) == "2m"


@pytest.mark.parametrize(
    ("wrong", "word"),
    [({"availability": 1.0}, "availability"), ({"latency_s": 0.123}, "histogram"), ({"fast": 0.2}, "fast")],
)
def test_objectives_that_cannot_be_followed_are_refused(wrong: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Objectives(**wrong)


def test_the_command_writes_once_and_says_how_to_start(tmp_path: Path) -> None:
    out = tmp_path / "observability"
    run = CliRunner().invoke
    first = run(make_app(), ["render", "prometheus", "-o", str(out), "--json"], env={"NO_COLOR": "1"})
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["files"] == ["prometheus.yml", "rules/hardcase.yml", "alertmanager.yml"]
    assert run(make_app(), ["render", "prometheus", "-o", str(out)]).exit_code != 0
    assert run(make_app(), ["render", "prometheus", "-o", str(out), "--force"]).exit_code == 0
    assert run(make_app(), ["render", "prometheus", "-o", str(tmp_path / "x"), "--latency-s", "0.3"]).exit_code != 0


def test_settings_and_options_reach_the_files(tmp_path: Path) -> None:
    settings = tmp_path / "hardcase.yaml"
    settings.write_text("observability: {objectives: {availability: 0.99}, console_url: 'https://c/x/'}\n")
    out = tmp_path / "out"
    arguments = ["--settings", str(settings), "render", "prometheus", "-o", str(out), "--webhook", "http://hook:1/a"]
    done = CliRunner().invoke(make_app(), [*arguments, "--fast", "0.9"], env={"NO_COLOR": "1"})
    assert done.exit_code == 0, done.output
    rules = " ".join((out / "rules" / "hardcase.yml").read_text().split())
    assert "ratio_rate1h > 0.144" in rules, "14.4 times 1 %"
    assert "requests_slow:ratio_rate3d > 0.1" in rules
    assert "console_url: https://c/x/cases?model=" in rules
    assert (out / "alertmanager.yml").read_text().count("url: http://hook:1/a") == 2


@pytest.mark.parametrize(
    "wrong", ["{objectives: {latency_s: 0.3}}", "{console_url: 'ftp://x'}", "{prometheus_port: 0}"]
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path: Path, wrong: str) -> None:
    settings = tmp_path / "hardcase.yaml"
    settings.write_text(f"observability: {wrong}\n")
    done = CliRunner().invoke(
        make_app(), ["--settings", str(settings), "render", "prometheus", "-o", str(tmp_path / "out")]
    )
    assert done.exit_code != 0
