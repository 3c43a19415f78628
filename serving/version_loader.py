"""Loads versions for the pool, a few at a time, in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from export.contracts.errors import HardcaseError
from export.plan_log import previous_champions
from serving.loading import Admit, Ready, load_in_background, load_version
from serving.observers import Observer
from serving.options import ServingOptions
from serving.runtime.base import Fact
from serving.runtime.memory import MemoryBudget
from serving.stats import ServerStats
from serving.traffic_plans import RegistryView

if TYPE_CHECKING:
    from monitoring.records.writer import RecordLogWriter
    from serving.version import LoadedVersion

_log = logging.getLogger("hardcase.pool")
_LOADS_AT_ONCE = 2
_LOAD_GRACE_S = 5.0  # a load ends itself at its limit; this long after it, it is given up


class Tell(Protocol):
    """Takes what happened: an event for the record log."""

    def __call__(self, kind: str, model: str = "", version: str = "", detail: dict[str, Fact] | None = None) -> None:
        """Take one event."""
        ...


class VersionLoader:
    """Turns a registered version into one that answers.

    Args:
        options: Device, time limits, batching.
        registry: Where the packages are.
        writer: The record log that loaded versions offer their records to.
        stats: The process's counters.
        admit: The admission check.
        tell: Takes events.
        observers: Hear how each request of a loaded version ended.
    """

    def __init__(
        self,
        options: ServingOptions,
        registry: RegistryView,
        writer: RecordLogWriter | None,
        *,
        stats: ServerStats,
        admit: Admit,
        tell: Tell,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._options = options
        self._registry = registry
        self._writer = writer
        self._stats = stats
        self._admit = admit
        self._tell = tell
        self._observers = observers
        self._places = asyncio.Semaphore(_LOADS_AT_ONCE)
        self._memory = MemoryBudget(options.runtime)

    async def load(self, model: str, version: str, wanted: Callable[[], bool]) -> LoadedVersion:
        """Load a version, and tell what it took.

        Args:
            model: Its model.
            version: The version.
            wanted: Asked between the steps, on another thread: whether somebody still wants it.

        Raises:
            Exception: whatever went wrong; `serving.loading.public_reason` says it in public.
        """
        limit_s = self._options.runtime.load_timeout_s + _LOAD_GRACE_S
        async with self._places:
            ready = await load_in_background(lambda: self._load(model, version, wanted), limit_s)
        loaded = self._made(ready)
        if ready.runtime.fallback:
            self._stats.cpu_fallbacks += 1
            self._tell("cpu_fallback", model, version, {"asked_for": self._options.runtime.device})
        self._tell("version_ready", model, version, ready.facts())
        _log.info("model %s version %s is READY on %s", model, version, ready.runtime.device)
        return loaded

    async def unload(self, loaded: LoadedVersion, reason: str) -> None:
        """Close a version that answers nobody any more, and tell what memory came back."""
        loaded.batcher.close()
        memory = await asyncio.to_thread(self._memory.close, loaded.runtime)
        loaded.close()  # the rest; closing twice is harmless
        self._tell("version_unloaded", loaded.model, loaded.version, {"reason": reason, **memory})

    async def earlier_champions(self, model: str) -> list[str]:
        """Champions before the one in force, the most recent first; empty when the history cannot be read."""
        try:
            history = await asyncio.to_thread(self._registry.history, model)
        except (HardcaseError, OSError):
            return []
        return previous_champions(history)[::-1]

    def _load(self, model: str, version: str, wanted: Callable[[], bool]) -> Ready:
        package = self._registry.package(model, version)
        return load_version(package, self._options, self._admit, stopped=lambda: not wanted(), memory=self._memory)

    def _made(self, ready: Ready) -> LoadedVersion:
        from serving.version import LoadedVersion

        return LoadedVersion(
            package=ready.package,
            runtime=ready.runtime,
            options=self._options,
            writer=self._writer,
            inline=ready.inline,
            batch_us=ready.proof.batch_us,
            observers=self._observers,
        )
