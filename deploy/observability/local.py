"""What watches a `hardcase up` on the same machine: Prometheus, and Alertmanager when asked for, as its children.

They are extras. One that is not installed, whose port is taken, or that ends again and again is left out with a line
about it; serving and the monitor never wait for them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from deploy import processes
from deploy.observability.prometheus import Around, write_prometheus
from deploy.paths import StatePaths
from deploy.probes import answers
from deploy.settings import Settings
from deploy.supervisor import ChildSpec

LOOPBACK = "127.0.0.1"
READY_TIMEOUT_S = 30.0
ALERTMANAGER_NAMES = ("alertmanager", "prometheus-alertmanager")  # upstream's name, and Debian's
EXEMPLARS = "--enable-feature=exemplar-storage"


def around_of(settings: Settings) -> Around:
    """Addresses as the settings have them; without Alertmanager."""
    monitor = f"{_reachable(settings.monitor.host)}:{settings.monitor.port}"
    return Around(
        monitor=monitor,
        console=settings.observability.console_url.rstrip("/") or f"http://{monitor}",
        webhook=settings.observability.webhook or None,
        scrape_s=settings.observability.scrape_s,
    )


def prometheus_url(settings: Settings) -> str:
    """Where the Prometheus beside `up` answers."""
    return f"http://{LOOPBACK}:{settings.observability.prometheus_port}"


def watchers(settings: Settings, paths: StatePaths, say: Callable[[str], None]) -> list[ChildSpec]:
    """The children that watch, with their files written; what cannot be started is told to `say`."""
    wanted = settings.observability
    if not wanted.prometheus:
        return []
    if settings.serving.auth.keys or settings.monitor.token_sha256 or settings.monitor.sign_in == "always":
        say("no Prometheus is started: replicas or monitor ask for a token; hardcase render prometheus --token-file")
        return []
    folder = paths.root / "observability"
    found = {
        "prometheus": (shutil.which("prometheus"), wanted.prometheus_port, "observability.prometheus_port"),
        "alertmanager": (
            next(filter(None, map(shutil.which, ALERTMANAGER_NAMES)), None),
            wanted.alertmanager_port,
            "observability.alertmanager_port",
        ),
    }
    specs = []
    for role in ("alertmanager", "prometheus") if wanted.alertmanager else ("prometheus",):
        program, port, setting = found[role]
        if program is None:
            say(f"{role} is not installed: none is started (docs/guides/observability.md)")
        elif not processes.port_is_free(LOOPBACK, port):
            owner = processes.port_owner(port).describe()
            say(f"no {role} is started: port {port} ({setting}) is taken by {owner}")
        else:
            specs.append(_child(role, program, port, folder))
    if any(spec.role == "prometheus" for spec in specs):
        heard = f"{LOOPBACK}:{wanted.alertmanager_port}" if specs[0].role == "alertmanager" else None
        around = replace(around_of(settings), alertmanager=heard)
        write_prometheus(folder, around, wanted.objectives.as_objectives())
        return list(_with_retention(specs, wanted.retention_days))
    return []


def _child(role: str, program: str, port: int, folder: Path) -> ChildSpec:
    listen = f"--web.listen-address={LOOPBACK}:{port}"
    if role == "prometheus":
        arguments = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}", EXEMPLARS]
    else:
        # No cluster: it would listen on every address.
        arguments = [
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            "--cluster.listen-address=",
        ]
    return ChildSpec(
        role=role,
        argv=(sys.executable, "-m", "deploy.observability.child", program, *arguments, listen, "--log.level=warn"),
        ready=lambda: answers(f"http://{LOOPBACK}:{port}/-/ready"),
        ready_timeout_s=READY_TIMEOUT_S,
        extra=True,
    )


def _with_retention(specs: list[ChildSpec], days: int) -> Iterator[ChildSpec]:
    for spec in specs:
        if spec.role == "prometheus":
            yield replace(spec, argv=(*spec.argv, f"--storage.tsdb.retention.time={days}d"))
        else:
            yield spec


def _reachable(host: str) -> str:
    wildcard = {"0.0.0.0": LOOPBACK, "::": "[::1]"}
    return wildcard.get(host, f"[{host}]" if ":" in host else host)
