"""The monitor process: the cycle and the console with its API, in the foreground until a signal."""

from __future__ import annotations

from deploy import processes
from deploy.cli.context import Invocation
from deploy.errors import CommandError
from deploy.ports import PortNeed, check_port
from deploy.serving_process import configure_logging
from deploy.shipping.agent import beside_monitor
from deploy.wiring import RegistryCatalogue, monitor_options


def run_monitor(invocation: Invocation, *, supervised: bool) -> None:
    """Ingest, score and show until SIGINT or SIGTERM.

    Raises:
        AlreadyRunning: the port is taken.
        CommandError: the host may not be bound without a token.
    """
    configure_logging(invocation.settings.log.level)
    if supervised:
        processes.end_with_parent()
    settings, paths = invocation.settings, invocation.paths.make()
    check_port(PortNeed(host=settings.monitor.host, port=settings.monitor.port, setting="monitor.port"))

    from deploy.workshop import make_workshop
    from monitoring.server import serve_monitor

    try:
        with beside_monitor(settings, paths, invocation.registry) as targets:
            serve_monitor(
                monitor_options(settings, paths),
                RegistryCatalogue(invocation.registry),
                lambda: list(targets()),
                workshop=make_workshop(settings, paths, invocation.registry),
            )
    except ValueError as error:
        raise CommandError(str(error)) from None
