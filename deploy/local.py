"""`hardcase up` and `hardcase down`: what is started on one machine, and what is printed about it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.text import Text

from deploy import processes
from deploy.addresses import addresses
from deploy.cli.context import Invocation, console
from deploy.errors import CommandError, NotRunning
from deploy.observability.local import prometheus_url, watchers
from deploy.paths import StatePaths
from deploy.ports import PortNeed
from deploy.probes import answers
from deploy.replica_list import read_targets
from deploy.run_state import current_run, is_held, write_atomically
from deploy.serving_process import serving_ports
from deploy.settings import Settings
from deploy.settings_file import ENV_PREFIX
from deploy.supervisor import ChildSpec, StopRequested, Supervisor, child_argv

READY_TIMEOUT_S = 120.0
TRAINED_TIMEOUT_S = 300.0  # seconds where nothing else runs
DOWN_TIMEOUT_S = 60.0


def run_up(invocation: Invocation, *, with_demo: bool) -> None:
    """Start everything, stay until a signal, end everything."""
    out = console()
    paths = invocation.paths.make()
    asked = invocation.loaded
    if with_demo:
        from deploy.demo.overlay import for_up

        invocation.loaded = for_up(asked, invocation.registry, os.environ)
    settings = invocation.settings
    processes.adopt_orphans()
    started = time.monotonic()
    supervisor = Supervisor(
        paths,
        say=lambda line: out.print(Text(line, style="yellow")),
        progress=lambda role, after_s: out.print(f"  {role} ready after {after_s:.1f} s"),
        temp_root=Path(settings.ray.temp_root),
    )
    supervisor.install_signals()
    supervisor.claim()
    try:
        frozen = _freeze_settings(settings, paths)
        watching = watchers(settings, paths, out.print)
        specs = [*children(settings, paths, frozen), *watching]
        if with_demo and not settings.storage.url and not invocation.registry.models():
            specs.insert(0, trainer(paths))
            out.print("The registry is empty: training and exporting the demo model on real digits.")
        with _spinner("starting"):
            supervisor.start(specs, ports(settings), addresses(settings))
        _announce(
            invocation,
            time.monotonic() - started,
            watched=any(w.role == "prometheus" for w in watching),
            for_demo=invocation.loaded is not asked,
        )
        tell_first_start(settings, paths, out.print)
        supervisor.watch()
    except StopRequested:
        out.print("Stopping ...")
    finally:
        supervisor.stop()
        out.print("Stopped; nothing is left running. Registry, records and cases stay in " + str(paths.root))


def children(settings: Settings, paths: StatePaths, frozen: Path) -> list[ChildSpec]:
    """Serving and the monitor, as this command's own sub-commands."""
    where = addresses(settings)
    beside = []
    if settings.storage.url:
        beside = [ChildSpec(role="node", argv=child_argv(frozen, "node"), ready=lambda: True, ready_timeout_s=10.0)]
    return [
        *beside,
        ChildSpec(
            role="serving",
            argv=child_argv(frozen, "serve"),
            # the list of replicas appears when HAProxy reaches them; before, a slow proxy of Serve's answers
            ready=lambda: bool(read_targets(paths)) and answers(f"{where['inference']}/v2/health/ready"),
            ready_timeout_s=READY_TIMEOUT_S,
        ),
        ChildSpec(
            role="monitor",
            argv=child_argv(frozen, "monitor"),
            ready=lambda: answers(f"{where['console']}/api/health/ready"),
            ready_timeout_s=READY_TIMEOUT_S,
        ),
    ]


def trainer(paths: StatePaths) -> ChildSpec:
    """Trains, exports, registers and promotes the demo model, then ends."""
    argv = (
        *(sys.executable, "-m", "deploy.demo.train", "--registry", str(paths.registry)),
        *("--out", str(paths.demo), "--datasets", str(paths.datasets)),
    )
    return ChildSpec(
        role="trainer",
        argv=argv,
        ready=lambda: False,
        ready_timeout_s=TRAINED_TIMEOUT_S,
        once=True,
        # Beside two other processes that start, threads only wait for each other.
        environment={"OMP_NUM_THREADS": "1"},
    )


def ports(settings: Settings) -> list[PortNeed]:
    """The ports that must be free."""
    monitor = PortNeed(host=settings.monitor.host, port=settings.monitor.port, setting="monitor.port")
    attached = settings.ray.address is not None and not settings.serving.standalone
    return (
        [monitor] if attached else [*serving_ports(settings), monitor]
    )  # a cluster that is not ours has its own way with ports


def stop_run(paths: StatePaths, *, keep_serving: bool = False) -> int:
    """End the run that holds a state folder, and wait until it has let go.

    Args:
        paths: The state folder.
        keep_serving: Leave the applications running in a Ray cluster that is not ours.

    Returns:
        The process id that was asked to stop.

    Raises:
        NotRunning: nothing runs on the state folder.
        CommandError: it did not end in time.
    """
    info = current_run(paths)
    if info is None:
        raise NotRunning(f"no `hardcase up` runs on {paths.root}", "another settings file may name another state_dir")
    if keep_serving:
        paths.keep_file.touch()
    os.kill(info.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while is_held(paths):
        if time.monotonic() > deadline:
            raise CommandError(
                f"hardcase (pid {info.pid}) has not stopped after {DOWN_TIMEOUT_S:.0f} s", "look into its terminal"
            )
        time.sleep(0.1)
    return info.pid


def tell_first_start(settings: Settings, paths: StatePaths, say: Callable[[str], None]) -> None:
    """Where somebody has to make the first admin: the one-time link. Only the digest of its token is kept."""
    if settings.monitor.sign_in != "always":
        return
    import httpx

    from monitoring.people.first_start import PAGE, make_link

    where = addresses(settings)["console"]
    if httpx.get(f"{where}{PAGE}", trust_env=False, timeout=10).status_code != 200:
        return  # there is a user
    link = make_link(paths.monitor, settings.monitor.public_url or where, time.time_ns())
    say(f"  first admin {link}")
    say("              make it with this link; it holds once, and for a day\n")


def frozen_settings(paths: StatePaths) -> Path:
    """The file that holds a run's settings."""
    return paths.run / "settings.json"


def _freeze_settings(settings: Settings, paths: StatePaths) -> Path:
    """The run's settings as a file for the children: editing hardcase.yaml must not change half of a running system."""
    plain = settings.model_dump(mode="json")
    plain["state_dir"] = str(paths.root)
    file = frozen_settings(paths)
    write_atomically(file, json.dumps(plain, indent=1))
    for variable in [v for v in os.environ if v.startswith(ENV_PREFIX)]:
        del os.environ[variable]  # already part of the file
    return file


def _spinner(text: str) -> AbstractContextManager[object]:
    out = console()
    return out.status(text) if out.is_terminal else nullcontext()


def _announce(invocation: Invocation, seconds: float, *, watched: bool, for_demo: bool) -> None:
    out, where, registry = console(), addresses(invocation.settings), invocation.registry
    out.print(Text(f"\nHardcase is up after {seconds:.1f} s.", style="bold green"))
    for model in registry.models():
        plan = registry.plan(model)
        out.print(f"  model       {model}, version {plan.champion if plan else '-'} answers")
    out.print(f"  inference   {where['inference']}/v2")
    if "grpc" in where:
        out.print(f"  gRPC        {where['grpc']}")
    out.print(f"  console     {where['console']}/")
    out.print(f"  metrics     {where['console']}/metrics, Prometheus discovery at {where['console']}/sd/prometheus")
    if watched:
        out.print(f"  prometheus  {prometheus_url(invocation.settings)}/alerts")
        out.print("  grafana     hardcase render grafana -o grafana writes the dashboards and says how to open them")
    out.print(f"  logs        {invocation.paths.logs}")
    request = invocation.paths.demo / "request.json"
    if request.exists() and "digits" in registry.models():
        shown = os.path.relpath(request) if request.is_relative_to(Path.cwd()) else str(request)
        token = " -H 'Authorization: Bearer TOKEN'" if invocation.settings.serving.auth.keys else ""
        out.print("\nA first request, one real digit:")
        out.print(f"  curl -s{token} {where['inference']}/v2/models/digits/infer -d @{shown}")
    if for_demo:
        out.print("\nThe demo's trainer and its short windows are set, as long as there is no model but the demo's:")
        out.print("`make demo` in another terminal tells the whole story in this console. Ctrl-C stops everything.\n")
    else:
        out.print("\nCtrl-C stops everything.\n")
