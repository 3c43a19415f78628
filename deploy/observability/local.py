"""What watches a `hardcase up` on the same machine: addresses, and the Prometheus that is started beside it."""

from __future__ import annotations

from deploy.observability.prometheus import Around
from deploy.settings import Settings

LOOPBACK = "127.0.0.1"


def around_of(settings: Settings) -> Around:
    """Addresses as the settings have them; without Alertmanager."""
    monitor = f"{_reachable(settings.monitor.host)}:{settings.monitor.port}"
    return Around(
        monitor=monitor,
        console=settings.observability.console_url.rstrip("/") or f"http://{monitor}",
        webhook=settings.observability.webhook or None,
    )


def prometheus_url(settings: Settings) -> str:
    """Where the Prometheus beside `up` answers."""
    return f"http://{LOOPBACK}:{settings.observability.prometheus_port}"


def _reachable(host: str) -> str:
    wildcard = {"0.0.0.0": LOOPBACK, "::": "[::1]"}
    return wildcard.get(host, f"[{host}]" if ":" in host else host)
