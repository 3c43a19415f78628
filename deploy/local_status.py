"""`hardcase status`: what runs, where, and how it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from deploy import probes, processes
from deploy.addresses import addresses
from deploy.cli.context import Invocation, console, print_table
from deploy.run_state import current_run


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version as serving reports it."""

    model: str
    version: str
    state: str
    reason: str
    champion: bool


@dataclass(frozen=True, kw_only=True)
class Status:
    """Everything that `hardcase status` knows.

    Attributes:
        running: A supervisor holds the state folder, or serving answers.
        healthy: Serving and the monitor are ready, and every champion answers.
        processes: How many processes belong to the run.
        monitor: The body of `/api/health/ready`; empty when it does not answer.
    """

    running: bool
    healthy: bool
    pid: int | None
    started_at: str | None
    addresses: dict[str, str]
    serving_live: bool
    serving_ready: bool
    versions: list[VersionStatus]
    monitor_ready: bool
    monitor: dict[str, Any] = field(default_factory=dict)
    processes: int = 0
    memory_bytes: int = 0


def collect(invocation: Invocation) -> Status:
    """Ask everybody; nothing is started or changed."""
    run = current_run(invocation.paths)
    where = run.addresses if run and run.addresses else addresses(invocation.settings)
    live = probes.answers(where["inference"] + "/v2/health/live")
    ready = probes.answers(where["inference"] + "/v2/health/ready")
    versions = _versions(invocation, where["inference"]) if live else []
    monitor_code, monitor_body = probes.get(where["console"] + "/api/health/ready")
    members = processes.members(run.run_id) if run else []
    champions_answer = all(v.state == "READY" for v in versions if v.champion)
    return Status(
        running=run is not None or live,
        healthy=ready and monitor_code == 200 and champions_answer,
        pid=run.pid if run else None,
        started_at=run.started_at if run else None,
        addresses=where,
        serving_live=live,
        serving_ready=ready,
        versions=versions,
        monitor_ready=monitor_code == 200,
        monitor=_json(monitor_body),
        processes=len(members),
        memory_bytes=sum(_private_bytes(p) for p in members),
    )


def show(status: Status) -> None:
    """For people."""
    out = console()
    if not status.running:
        out.print("hardcase is not running; `hardcase up` starts it")
        return
    since = f" (pid {status.pid}, since {status.started_at})" if status.pid else ""
    out.print(f"hardcase runs{since}: {status.processes} processes, {status.memory_bytes / 2**20:.0f} MiB")
    word = {True: "ready", False: "not ready"}
    out.print(f"  inference  {status.addresses['inference']}/v2  {word[status.serving_ready]}")
    out.print(f"  console    {status.addresses['console']}/  {word[status.monitor_ready]}")
    rows = ((v.model, v.version, "champion" if v.champion else "", v.state, v.reason) for v in status.versions)
    print_table(("model", "version", "", "state", "reason"), rows, empty="No versions are loaded.")


def _versions(invocation: Invocation, base: str) -> list[VersionStatus]:
    code, body = probes.post_json(base + "/v2/repository/index", {})
    if code != 200:
        return []  # with authentication on, the index is for key holders
    champions = {}
    for model in invocation.registry.models():
        plan = invocation.registry.plan(model)
        champions[model] = plan.champion if plan else None
    return [
        VersionStatus(
            model=str(entry["name"]),
            version=str(entry["version"]),
            state=str(entry["state"]),
            reason=str(entry.get("reason") or ""),
            champion=champions.get(str(entry["name"])) == str(entry["version"]),
        )
        for entry in json.loads(body)
    ]


def _private_bytes(process: Any) -> int:
    import psutil

    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return max(0, int(memory.rss) - int(getattr(memory, "shared", 0)))


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
