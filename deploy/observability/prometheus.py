"""What `hardcase render prometheus` writes: a configuration of Prometheus, the rules, and a start for Alertmanager."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.observability.alerts import alerts
from deploy.observability.rules import RUNBOOK, Alert, Objectives, paced, recordings

RULES_FILE = "rules/hardcase.yml"
_SINCE_S = 3600


@dataclass(frozen=True, kw_only=True)
class Around:
    """What Prometheus has to do with.

    Attributes:
        monitor: `host:port` of the monitor.
        console: Where people reach the console: URL without a slash at its end; links in alerts begin with it.
        alertmanager: `host:port`, or None.
        token_file: File with the bearer token that monitor and replicas ask for, None when they ask for none.
        webhook: URL that Alertmanager tells of alerts, or None.
        scrape_s: How often Prometheus asks.
        pace: Intervals, windows and durations are multiplied with it; drills play days in minutes.
    """

    monitor: str
    console: str
    alertmanager: str | None = None
    token_file: str | None = None
    webhook: str | None = None
    scrape_s: float = 10.0
    pace: float = 1.0

    def interval(self, seconds: float) -> str:
        """A duration in Prometheus' notation, at this pace."""
        paced_s = seconds * self.pace
        return f"{paced_s:g}s" if float(paced_s).is_integer() else f"{max(200, round(paced_s * 1000))}ms"


def console_link(alert: Alert, console: str) -> str:
    """The template of the link from an alert to the console.

    `ALERTS_FOR_STATE` is the time since when the alert's expression holds; it is not there yet at the first evaluation.
    """
    name = alert.name
    labels = f"alertname='{name}',severity='{alert.severity.value}'"
    seconds = f"min(ALERTS_FOR_STATE{{{labels},model='%s'}} or vector(time())) - {_SINCE_S}"
    moment = '(. | first | value | toTime).Format "2006-01-02T15:04:05Z"'
    since = f'{{{{ with query (printf "{seconds}" $labels.model) }}}}{{{{ {moment} }}}}{{{{ end }}}}'
    return console + alert.console.replace("$since", since)


def rule_groups(objectives: Objectives, around: Around) -> dict[str, Any]:
    """The rule file as Prometheus reads it."""
    pace = around.pace
    recorded = [{"record": r.name, "expr": paced(r.expression, pace)} for r in recordings(objectives)]
    raised = [
        {
            "alert": a.name,
            "expr": paced(a.expression, pace),
            **({"for": paced(a.lasts, pace)} if a.lasts != "0m" else {}),
            "labels": {"severity": a.severity.value},
            "annotations": {
                "summary": a.summary,
                "action": a.action,
                "runbook_url": f"{RUNBOOK}#{a.anchor}",
                "console_url": console_link(a, around.console),
            },
        }
        for a in alerts(objectives)
    ]
    interval = around.interval(3 * around.scrape_s)
    return {
        "groups": [
            {"name": "hardcase-recordings", "interval": interval, "rules": recorded},
            {"name": "hardcase-alerts", "interval": interval, "rules": raised},
        ]
    }


def prometheus_config(around: Around) -> dict[str, Any]:
    """Scrape what the monitor's service discovery lists: itself, and every replica that it knows of."""
    token_file, alertmanager = around.token_file, around.alertmanager
    credentials = {"authorization": {"type": "Bearer", "credentials_file": token_file}} if token_file else {}
    discovery = {
        "url": f"http://{around.monitor}/sd/prometheus",
        "refresh_interval": around.interval(around.scrape_s),
        **credentials,
    }
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": around.interval(around.scrape_s),
            "evaluation_interval": around.interval(1.5 * around.scrape_s),
        },
        "rule_files": [RULES_FILE],
        "scrape_configs": [
            {"job_name": "hardcase", "http_sd_configs": [discovery], **credentials},
        ],
    }
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    return config


def alertmanager_config(around: Around) -> dict[str, Any]:
    """Two routes, pages and tickets, grouped by model; without a webhook the receivers are for you to fill in."""

    def receiver(name: str) -> dict[str, Any]:
        told = {"webhook_configs": [{"url": around.webhook, "send_resolved": True}]} if around.webhook else {}
        return {"name": name, **told}

    return {
        "route": {
            "receiver": "tickets",
            "group_by": ["alertname", "model"],
            "group_wait": around.interval(30),
            "group_interval": around.interval(300),
            "repeat_interval": "12h",
            "routes": [{"matchers": ['severity="page"'], "receiver": "pages", "repeat_interval": "1h"}],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['severity="page"'],
                "target_matchers": ['severity="ticket"'],
                "equal": ["alertname", "model"],
            }
        ],
        "receivers": [receiver("pages"), receiver("tickets")],
    }


def write_prometheus(folder: Path, around: Around, objectives: Objectives) -> list[str]:
    """Write all files; returns their names, relative to the folder."""
    files = {
        "prometheus.yml": prometheus_config(around),
        RULES_FILE: rule_groups(objectives, around),
        "alertmanager.yml": alertmanager_config(around),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        head = "# Written by `hardcase render prometheus`; run it again after an upgrade.\n"
        path.write_text(head + yaml.safe_dump(content, sort_keys=False, width=120), encoding="utf-8")
    return list(files)
