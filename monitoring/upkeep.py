"""Duties that look after what is kept: the archive, erasures, time limits in data sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from monitoring.archive.compact import Compactor
from monitoring.datasets.expiry import Expirer
from monitoring.duties import Duty
from monitoring.erasure.duty import Eraser
from monitoring.log_limits import LogLimits, limits_the_log
from monitoring.options import MonitorOptions
from monitoring.privacy import at_rest
from monitoring.purge import Purger
from monitoring.store import Store

ERASE_EVERY_S = 2.0
PURGE_EVERY_S = 5.0
EXPIRE_EVERY_S = 600.0


class Keeper(Protocol):
    """What these duties need of the loop."""

    @property
    def store(self) -> Store: ...  # noqa: D102  # described where it is implemented
    @property
    def options(self) -> MonitorOptions: ...  # noqa: D102


class Worker(Protocol):
    """Something that does a piece a turn and remembers where it is."""

    def turn(self) -> bool: ...  # noqa: D102


class _Once:
    """Makes the worker at its first turn, when there is a loop."""

    def __init__(self, make: Callable[[Keeper], Worker]) -> None:
        self._make = make
        self._worker: Worker | None = None

    def __call__(self, loop: Keeper) -> bool:
        if self._worker is None:
            self._worker = self._make(loop)
        return self._worker.turn()


def upkeep(options: MonitorOptions) -> tuple[Duty[Any], ...]:
    """The duties that the settings ask for; what is off is not there."""
    erasure = Duty[Keeper](name="erasure", interval_s=ERASE_EVERY_S, run=_Once(_eraser), while_behind=True, aside=True)
    expiry = Duty[Keeper](name="expiry", interval_s=EXPIRE_EVERY_S, run=_Once(_expirer), aside=True)
    purge: tuple[Duty[Any], ...] = ()
    if limits_the_log(options.privacy):
        purge = (Duty[Keeper](name="log_limits", interval_s=EXPIRE_EVERY_S, run=_Once(_limiter), aside=True),)
    if not all(policy.keeps_everything for policy in options.privacy):
        purge = (
            *purge,
            Duty[Keeper](name="purge", interval_s=PURGE_EVERY_S, run=_Once(_purger), aside=True),
        )
    if not options.archive.enabled:
        return (*purge, erasure, expiry)
    archive = Duty[Keeper](name="archive", interval_s=options.archive.interval_s, run=_Once(_compactor), aside=True)
    return (archive, *purge, erasure, expiry)


def _eraser(loop: Keeper) -> Worker:
    return Eraser(loop.store, loop.options)


def _expirer(loop: Keeper) -> Worker:
    return Expirer(loop.store, loop.options)


def _limiter(loop: Keeper) -> Worker:
    return LogLimits(loop.store, loop.options.records_root, loop.options.privacy)


def _purger(loop: Keeper) -> Worker:
    return Purger(loop.store, loop.options.records_root, at_rest(loop.options.privacy))


def _compactor(loop: Keeper) -> Worker:
    o = loop.options
    return Compactor(loop.store, o.records_root, o.archive_root, o.archive, at_rest(o.privacy))
