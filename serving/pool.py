"""The pool: which versions of which models are in this process. It follows the registry; nobody tells it.

One task looks at the registry every `plan_poll_s`. What a plan names and is not here is loaded in the background; when
it is READY a pointer moves, between two requests. A version that cannot be loaded becomes UNAVAILABLE with the reason,
and whatever answered before goes on. All state changes on the event loop; all blocking work is on threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from export.admission import admit
from export.contracts.errors import NotFound
from monitoring.records.record import Event
from serving.duty import ChallengerDuty
from serving.loading import Admit, public_reason
from serving.observers import Observer
from serving.options import ServingOptions
from serving.runtime.base import Fact
from serving.served import ServedModel, VersionEntry, VersionState, VersionStatus
from serving.standby import Standby
from serving.stats import ServerStats
from serving.tasks import TaskGroup
from serving.traffic_plans import Looks, PlansSeen, Readability, RegistryView
from serving.version_loader import VersionLoader

if TYPE_CHECKING:
    from monitoring.records.writer import RecordLogWriter
    from serving.version import LoadedVersion

_log = logging.getLogger("hardcase.pool")
_UNLOAD_AFTER_S = 2.0  # a version that nobody wants any more stays this long, for requests that have just chosen it
_UNLOAD_PATIENCE_S = 60.0  # and this long while its queue is not empty


class Pool:
    """Models and versions of one process.

    Args:
        options: Which models, which device, how often to look.
        registry: Where plans and packages are.
        writer: The record log: versions offer their records to it, the pool its events. None records nothing.
        stats: The process's counters.
        admit: The admission check; another one than the real one is for tests.
        observers: As in `DataPlane`.
    """

    def __init__(
        self,
        options: ServingOptions,
        registry: RegistryView,
        writer: RecordLogWriter | None = None,
        *,
        stats: ServerStats | None = None,
        admit: Admit = admit,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.models: Mapping[str, ServedModel] = {}
        self._writer, self._looks = writer, Looks(registry, options.hosts, options.plan_poll_s)
        self._loader = VersionLoader(
            options, registry, writer, stats=stats or ServerStats(), admit=admit, tell=self._event, observers=observers
        )
        self._standby = Standby(options.keep_previous_s)
        self._duty = ChallengerDuty(options.challenger, tell=self._event)
        self._generation: str | None = None
        self._readable = Readability(self._event)
        self._looking, self._stopping = asyncio.Lock(), False
        self._tasks = TaskGroup()

    # ---- life

    async def start(self) -> None:
        """Look at the registry once, begin to load, and go on looking in the background."""
        await self._follow()
        self._tasks.spawn(self._watch())

    async def settled(self, timeout_s: float) -> bool:
        """Wait until nothing is being loaded any more; False when the time is over first."""
        deadline = time.monotonic() + timeout_s
        while any(s.state is VersionState.LOADING for s in self.index()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    async def stop(self) -> None:
        """Stop looking and unload everything. Call when no request is under way."""
        self._stopping = True
        await self._tasks.cancel()
        models, self.models = self.models, {}
        for model in models.values():
            await self._duty.end(model)
        for loaded in [version for model in models.values() for version in model.loaded()]:
            loaded.close()

    # ---- questions

    def ready(self) -> bool:
        """Whether every model that should answer does. False before the first look at the registry."""
        return self._generation is not None and all(m.ready for m in self.models.values())

    def index(self) -> list[VersionStatus]:
        """Every version that this process hosts or tried to host."""
        return [status for _, model in sorted(self.models.items()) for status in model.statuses()]

    def healthy(self) -> bool:
        """False when a device failed in a way that only a new process can repair."""
        return all(version.runtime.healthy for model in self.models.values() for version in model.loaded())

    def stuck(self, limit_s: float) -> str | None:
        """A version whose batch has been running for longer than `limit_s`, when nobody waits for it any more."""
        earliest = time.perf_counter_ns() - int(limit_s * 1e9)
        loaded = [version for model in self.models.values() for version in model.loaded()]
        return next((f"{v.model}/{v.version}" for v in loaded if 0 < v.batcher.busy_since_ns < earliest), None)

    # ---- the repository API: this process only, until it restarts

    async def load(self, model: str, version: str | None = None) -> None:
        """Keep a registered version loaded besides what the plan names, and wait until it is READY.

        Args:
            model: Its model.
            version: None: what the plan names, tried again where it failed; without a plan the newest version.

        Raises:
            NotFound: not in the registry.
            Unavailable: the load failed; says why.
        """
        await self._follow(force=True)
        served = self._served(model)
        wanted = served.to_load(version)
        for name in wanted:
            entry = served.entries.get(name)
            if entry is not None and entry.state in (VersionState.UNAVAILABLE, VersionState.UNLOADING):
                self._let_go(served, entry, "load again")
        self._reconcile(served)
        while any(e.state is VersionState.LOADING for v in wanted if (e := served.entries.get(v))):
            await asyncio.sleep(0.01)
        for name in wanted:
            served.choose(name)

    async def unload(self, model: str, version: str | None = None) -> None:
        """Let go of a version that `load` keeps.

        Raises:
            NotFound: the model, or the version, is not in this process.
            Conflict: the traffic plan names it: change the plan.
        """
        served = self._served(model)
        served.pins.difference_update(served.to_unload(version))
        self._reconcile(served)

    # ---- following the registry

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._looks.wait_s)
            try:
                await self._follow()
            except Exception:  # a defect of ours must not end the watching: the next look may find what is needed
                _log.exception("a look at the registry failed unexpectedly")

    async def _follow(self, *, force: bool = False) -> None:
        """Look at the registry; when it changed, or could not be read before, take over its plans."""
        async with self._looking:
            known = None if force or self._readable.lacks else self._generation
            seen = await asyncio.to_thread(self._looks.look, known)
            if seen is None:
                return
            self._readable.look(seen.unreadable)
            if seen.generation is not None:
                self._take_over(seen)
                self._generation = seen.generation

    def _take_over(self, seen: PlansSeen) -> None:
        """Make the plans that were read the ones in force."""
        models = dict(self.models)
        for name, found in seen.models.items():
            served = models.setdefault(name, ServedModel(name))
            before, plan = served.plan, found.plan
            served.plan, served.registered = plan, found.versions
            served.pins.intersection_update(found.versions)  # what was deleted is not kept
            if plan is not None and (before is None or before.revision != plan.revision):
                self._event("plan_seen", name, plan.champion or "", {"revision": plan.revision})
        there = {*seen.models, *seen.unreadable}
        for name in models.keys() - there:
            models[name].plan, models[name].registered = None, ()
            models[name].pins.clear()
        for served in models.values():
            self._retry_refused(served)
            self._reconcile(served)
        self.models = {n: m for n, m in models.items() if n in there or m.entries}

    def _retry_refused(self, served: ServedModel) -> None:
        """A new revision of the plan is a reason to try a refused version again."""
        revision = served.plan.revision if served.plan else 0
        for entry in list(served.entries.values()):
            if entry.state is VersionState.UNAVAILABLE and entry.revision < revision:
                del served.entries[entry.version]

    def _reconcile(self, served: ServedModel) -> None:
        """Move the pointer where the plan wants it, load what is missing, let go of what is not wanted."""
        for entry in served.entries.values():
            if entry.state is VersionState.UNLOADING and entry.loaded is not None and entry.version in served.wanted:
                entry.state = VersionState.READY  # wanted again before it was gone
                self._standby.release(served, entry=entry)
        self._flip(served, served.target())
        self._duty.arrange(served)
        wanted = served.wanted
        for version in sorted(wanted - set(served.entries)):
            self._standby.release(served)  # a third version takes its place
            new = served.entries[version] = VersionEntry(version, served.plan.revision if served.plan else 0)
            self._tasks.spawn(self._load(served, new))
        for entry in list(served.entries.values()):
            if entry.version not in wanted and entry.state is VersionState.READY:
                entry.state = VersionState.UNLOADING
                self._tasks.spawn(self._unload(served, entry))
            elif entry.version not in wanted and entry.state is VersionState.UNAVAILABLE:
                del served.entries[entry.version]

    def _flip(self, served: ServedModel, after: LoadedVersion | None) -> None:
        """Let another version, or none, answer from the next request on."""
        before, served.champion = served.champion, after
        if before is after:
            return
        served.flipped_ns = time.time_ns()
        self._standby.replaced(served, before)
        detail: dict[str, Fact] = {
            "revision": served.plan.revision if served.plan else 0,
            "from": before.version if before else None,
            "stand_in": after is not None and served.behind,
        }
        self._event("plan_applied", served.name, after.version if after else "", detail)
        _log.info("model %s: champion is now %s", served.name, after.version if after else "none")

    # ---- loading and unloading

    async def _load(self, served: ServedModel, entry: VersionEntry) -> None:
        """Bring one version to READY or UNAVAILABLE, then let the plan use it."""
        started = time.monotonic()

        def wanted() -> bool:
            return not self._stopping and entry.version in served.wanted

        try:
            entry.loaded = await self._standby.make_room(partial(self._loader.load, served.name, entry.version, wanted))
        except Exception as error:  # whatever it is: this version is out, and everything else goes on
            entry.state, entry.reason = VersionState.UNAVAILABLE, public_reason(error)
            _log.warning("model %s version %s is UNAVAILABLE: %s", served.name, entry.version, entry.reason)
            detail: dict[str, Fact] = {"reason": entry.reason, "seconds": time.monotonic() - started}
            self._event("version_unavailable", served.name, entry.version, detail)
            await self._find_stand_in(served, entry.version)
        else:
            entry.state = VersionState.READY
        self._reconcile(served)

    async def _find_stand_in(self, served: ServedModel, failed: str) -> None:
        """The plan's champion cannot be loaded and nothing else answers: go back to the champion before it."""
        plan = served.plan
        if plan is None or served.champion is not None or failed not in (plan.champion, served.stand_in):
            return
        for version in await self._loader.earlier_champions(served.name):
            if version in served.registered and version not in served.entries:
                served.stand_in = version
                self._event("stand_in", served.name, version, {"for": failed})
                return

    async def _unload(self, served: ServedModel, entry: VersionEntry) -> None:
        """Close a version once nobody uses it, unless it is wanted again first."""
        await asyncio.sleep(_UNLOAD_AFTER_S)
        await self._standby.keep(served, entry)
        give_up = time.monotonic() + _UNLOAD_PATIENCE_S - _UNLOAD_AFTER_S
        while entry.loaded is not None and not entry.loaded.idle and time.monotonic() < give_up:
            await asyncio.sleep(0.05)
        if entry.state is VersionState.UNLOADING:
            self._let_go(served, entry, "no longer wanted")

    def _let_go(self, served: ServedModel, entry: VersionEntry, reason: str) -> None:
        loaded, entry.loaded = entry.loaded, None
        entry.state = VersionState.UNAVAILABLE
        if served.entries.get(entry.version) is entry:
            del served.entries[entry.version]
        if loaded is not None:
            self._tasks.spawn(self._loader.unload(loaded, reason))

    def _served(self, model: str) -> ServedModel:
        if model in self.models:
            return self.models[model]
        raise NotFound(f"unknown model '{model[:64]}'")

    def _event(self, kind: str, model: str = "", version: str = "", detail: dict[str, Fact] | None = None) -> None:
        if self._writer is not None:
            event = Event(kind=kind, time_ns=time.time_ns(), model=model, version=version, detail=detail or {})
            self._writer.event(event)
