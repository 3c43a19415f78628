"""The monitor process: the cycle in one thread, reports in another, console and API on the event loop."""

from __future__ import annotations

import dataclasses
import logging
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from types import FrameType
from typing import TYPE_CHECKING, Any

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions, Targets
from monitoring.catalogue import Catalogue
from monitoring.console.build_people import effective_settings
from monitoring.loop.contracts import Workshop
from monitoring.metrics import MonitorCollector
from monitoring.monitor import Monitor
from monitoring.options import MonitorOptions
from monitoring.refetch import Refetch
from monitoring.report_rows import write_figures
from monitoring.report_source import frame_source
from monitoring.reports import ReportOptions, ReportService
from monitoring.review.ledger import Ledger
from monitoring.store import Store

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger(__name__)

GRACE_S = 5  # for requests under way when the process is told to end


def serve_monitor(
    options: MonitorOptions,
    catalogue: Catalogue,
    targets: Targets,
    *,
    workshop: Workshop | None = None,
    console: ConsoleOptions | None = None,
    on_ready: Callable[[int], None] | None = None,
) -> None:
    """Run until SIGINT or SIGTERM; then finish the running cycle and close the database.

    Args:
        options: Of the monitor.
        catalogue: Packages and plans.
        targets: Addresses `host:port` of the serving replicas; the monitor adds its own.
        workshop: What the loop acts through; None: nothing is trained again.
        console: Other settings of the console than `options` has.
        on_ready: Called with the port once the first request would be answered.

    Raises:
        ValueError: bound beyond loopback without any credential.
        OSError: the port is taken.
        Unavailable: another process has the database open.
    """
    import uvicorn

    settings = console or _console_options(options)
    settings.check()
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(settings.host, settings.port))
        port: int = listening.getsockname()[1]
        own = f"{settings.host}:{port}"
        store = stack.enter_context(closing(Store(options.database_url)))
        monitor = Monitor(options, store, catalogue, workshop=workshop)
        stack.callback(_stop, monitor)
        reports = stack.enter_context(closing(report_service(options, store, catalogue)))
        monitor.loop.start_report = reports.start
        ledger = Ledger(store)
        app = build_console(
            store,
            catalogue,
            monitor,
            lambda: list(dict.fromkeys([*targets(), own])),
            settings,
            reports=reports,
            metrics=_metrics(monitor, store, ledger),
            ledger=ledger,
            drift=options.drift,
            alarms=options.alarms,
            privacy=options.privacy,
            keys=options.keys,
            channels=options.notify,
            effective=effective_settings(options),
            inference=options.inference,
            integrations=options.integrations,
            experiments=options.experiments,
            refetch=Refetch(options, store),
            searching=options,
            loop=options.loop,
            workshop=workshop,
        )
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = uvicorn.Server(config)
        stack.callback(_end_on_signals(server))
        monitor.start()
        threading.Thread(target=_warm, args=(store,), name="hardcase-warm", daemon=True).start()
        _announce(server, settings.host, port, on_ready)
        server.run(sockets=[listening])


def report_service(options: MonitorOptions, store: Store, catalogue: Catalogue) -> ReportService:
    """The reports of a monitor: kept in its state folder, their figures in its database."""
    asked = options.reports
    names = ("keep", "keep_bytes", "max_rows", "memory_bytes", "timeout_s")
    shelf = ReportOptions(folder=options.state_dir / "reports", **{name: getattr(asked, name) for name in names})
    frames = frame_source(store, catalogue)
    return ReportService(shelf, frames, on_done=lambda report: write_figures(store, report))


def _console_options(options: MonitorOptions) -> ConsoleOptions:
    same = {f.name for f in dataclasses.fields(ConsoleOptions)} & {f.name for f in dataclasses.fields(MonitorOptions)}
    return ConsoleOptions(**{name: getattr(options, name) for name in same})


def _warm(store: Store) -> None:
    """Read the columns of the case list before somebody asks for it: seconds, where there are a million cases."""
    try:
        store.index.warm()
    except Exception:
        log.warning("the columns of the case list are read with the first question", exc_info=True)


def _stop(monitor: Monitor) -> None:
    if not monitor.stop():
        log.error("the running cycle did not end in time; it is repeated after the next start")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is known before anything else is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family, backlog=256)


def _end_on_signals(server: uvicorn.Server) -> Callable[[], None]:
    """Uvicorn raises the signals it caught once more when it is done; by default that would skip the clean-up."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def ask_to_end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before: dict[signal.Signals, Any] = {s: signal.signal(s, ask_to_end) for s in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def _announce(server: uvicorn.Server, host: str, port: int, on_ready: Callable[[int], None] | None) -> None:
    """Say where the console is, as soon as it answers."""

    def wait() -> None:
        done = threading.Event()
        while not server.started and not server.should_exit:
            done.wait(0.02)
        if server.started:
            log.info("console and API at http://%s:%d/", host, port)
            if on_ready is not None:
                on_ready(port)

    threading.Thread(target=wait, name="hardcase-announce", daemon=True).start()


def _metrics(monitor: Monitor, store: Store, ledger: Ledger) -> Any:
    from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

    registry = CollectorRegistry()
    registry.register(MonitorCollector(store, monitor.loop, ledger.counts))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
