"""What `hardcase render prometheus` writes: a configuration of Prometheus, the rules, and a start for Alertmanager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deploy.observability.rules import RUNBOOK, Objectives, alerts, recordings

RULES_FILE = "rules/hardcase.yml"


def rule_groups(objectives: Objectives) -> dict[str, Any]:
    """The rule file as Prometheus reads it."""
    recorded = [{"record": r.name, "expr": r.expression} for r in recordings(objectives)]
    raised = [
        {
            "alert": a.name,
            "expr": a.expression,
            **({"for": a.lasts} if a.lasts != "0m" else {}),
            "labels": {"severity": a.severity.value},
            "annotations": {"summary": a.summary, "action": a.action, "runbook_url": f"{RUNBOOK}#{a.anchor}"},
        }
        for a in alerts(objectives)
    ]
    return {
        "groups": [
            {"name": "hardcase-recordings", "interval": "30s", "rules": recorded},
            {"name": "hardcase-alerts", "interval": "30s", "rules": raised},
        ]
    }


def prometheus_config(monitor: str, alertmanager: str | None, *, token_file: str | None = None) -> dict[str, Any]:
    """Scrape what the monitor's service discovery lists: itself, and every replica that it knows of.

    Args:
        monitor: `host:port` of the monitor.
        alertmanager: `host:port`, or None.
        token_file: File with the bearer token that monitor and replicas ask for, None when they ask for none.
    """
    credentials = {"authorization": {"type": "Bearer", "credentials_file": token_file}} if token_file else {}
    discovery = {"url": f"http://{monitor}/sd/prometheus", "refresh_interval": "10s", **credentials}
    config: dict[str, Any] = {
        "global": {"scrape_interval": "10s", "evaluation_interval": "15s"},
        "rule_files": [RULES_FILE],
        "scrape_configs": [
            {"job_name": "hardcase", "http_sd_configs": [discovery], **credentials},
        ],
    }
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    return config


def alertmanager_config() -> dict[str, Any]:
    """Two routes, pages and tickets, grouped by model; the receivers are for you to fill in."""
    return {
        "route": {
            "receiver": "tickets",
            "group_by": ["alertname", "model"],
            "group_wait": "30s",
            "group_interval": "5m",
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
        "receivers": [{"name": "pages"}, {"name": "tickets"}],
    }


def write_prometheus(
    folder: Path, *, monitor: str, alertmanager: str | None, objectives: Objectives, token_file: str | None = None
) -> list[str]:
    """Write all files; returns their names, relative to the folder."""
    files = {
        "prometheus.yml": prometheus_config(monitor, alertmanager, token_file=token_file),
        RULES_FILE: rule_groups(objectives),
        "alertmanager.yml": alertmanager_config(),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        head = "# Written by `hardcase render prometheus`; run it again after an upgrade.\n"
        path.write_text(head + yaml.safe_dump(content, sort_keys=False, width=120), encoding="utf-8")
    return list(files)
