"""The duties of the configured labelling tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from monitoring.baselines import Baselines
from monitoring.duties import Duty
from monitoring.integrations.contracts import LabelTool
from monitoring.integrations.egress import Egress
from monitoring.integrations.names import Tool
from monitoring.integrations.options import CvatOptions, IntegrationOptions, LabelStudioOptions
from monitoring.integrations.worker import ToolWorker
from monitoring.options import MonitorOptions
from monitoring.store import Store

EVERY_S = 1.0  # a look into the database, unless something is due


class Keeper(Protocol):
    """What these duties need of the loop."""

    @property
    def store(self) -> Store: ...  # noqa: D102  # described where it is implemented
    @property
    def options(self) -> MonitorOptions: ...  # noqa: D102
    @property
    def baselines(self) -> Baselines: ...  # noqa: D102


def configured(options: IntegrationOptions) -> tuple[Tool, ...]:
    """The tools that there are."""
    known = {Tool.LABEL_STUDIO: options.label_studio.url, Tool.CVAT: options.cvat.url}
    return tuple(tool for tool, url in known.items() if url)


def make_label_studio(options: LabelStudioOptions, allowed_hosts: tuple[str, ...] = ()) -> LabelTool:
    """The adapter of the configured Label Studio."""
    from monitoring.integrations.label_studio.client import LabelStudioClient
    from monitoring.integrations.label_studio.tool import LabelStudio
    from monitoring.integrations.secrets import read_token

    egress = Egress.to(options.url, allowed_hosts, attempts=2, max_bytes=256 << 20)
    client = LabelStudioClient(base=options.url, token=lambda: read_token(options.token_file), egress=egress)
    return LabelStudio(client=client, options=options)


def make_cvat(options: CvatOptions, allowed_hosts: tuple[str, ...] = ()) -> LabelTool:
    """The adapter of the configured CVAT."""
    from monitoring.integrations.cvat.client import CvatClient
    from monitoring.integrations.cvat.tool import Cvat
    from monitoring.integrations.secrets import read_token

    egress = Egress.to(options.url, allowed_hosts, attempts=2, max_bytes=256 << 20)
    return Cvat(client=CvatClient(base=options.url, token=lambda: read_token(options.token_file), egress=egress))


def tool_duties(options: MonitorOptions) -> tuple[Duty[Any], ...]:
    """One duty a configured tool; it runs beside the loop, because tools take their time."""
    makers: dict[Tool, Callable[[Keeper], ToolWorker]] = {Tool.LABEL_STUDIO: _label_studio, Tool.CVAT: _cvat}
    return tuple(
        Duty[Keeper](name=tool.value, interval_s=EVERY_S, run=_Once(makers[tool]), aside=True)
        for tool in configured(options.integrations)
    )


class _Once:
    """Makes the worker at its first turn, when there is a loop."""

    def __init__(self, make: Callable[[Keeper], ToolWorker]) -> None:
        self._make = make
        self._worker: ToolWorker | None = None

    def __call__(self, loop: Keeper) -> bool:
        if self._worker is None:
            self._worker = self._make(loop)
        return self._worker.turn()


def _label_studio(loop: Keeper) -> ToolWorker:
    from monitoring.review.ledger import Ledger

    every = loop.options.integrations
    options = every.label_studio
    return ToolWorker(
        tool=make_label_studio(options, every.allowed_hosts),
        store=loop.store,
        baselines=loop.baselines,
        ledger=Ledger(loop.store),
        poll_s=options.poll_s,
        annotators=options.annotators,
        link=lambda case: f"{options.callback_url.rstrip('/')}/cases/{case}" if options.callback_url else "",
    )


def _cvat(loop: Keeper) -> ToolWorker:
    from monitoring.review.ledger import Ledger

    every = loop.options.integrations
    return ToolWorker(
        tool=make_cvat(every.cvat, every.allowed_hosts),
        store=loop.store,
        baselines=loop.baselines,
        ledger=Ledger(loop.store),
        poll_s=every.cvat.poll_s,
    )
