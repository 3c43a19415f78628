"""A served model: its versions, their states, and which of them takes a request. No I/O; changed on the loop only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from export.contracts.errors import Conflict, NotFound, Unavailable
from export.contracts.traffic import ChallengerMode, TrafficPlan, Variant

if TYPE_CHECKING:
    from serving.canary import Canary
    from serving.evidence import Evidence
    from serving.shadow import Shadow
    from serving.version import LoadedVersion


class VersionState(StrEnum):
    """Where a version stands in this process; the values are the repository extension's."""

    LOADING = "LOADING"  # being admitted, tried, loaded or proved
    READY = "READY"  # answers
    UNLOADING = "UNLOADING"  # no longer wanted: answers what it has taken, takes nothing more
    UNAVAILABLE = "UNAVAILABLE"  # refused, failed, or let go; the reason says which


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionStatus:
    """One line of the repository index. `reason` is public text, "" when there is nothing to say."""

    name: str
    version: str
    state: VersionState
    reason: str = ""


class VersionEntry:
    """A version that the process hosts or tried to host.

    Attributes:
        revision: Revision of the plan under which it was (last) loaded: a later one is a reason to try again.
    """

    __slots__ = ("loaded", "reason", "revision", "state", "version")

    def __init__(self, version: str, revision: int) -> None:
        self.version = version
        self.revision = revision
        self.state = VersionState.LOADING
        self.reason = ""
        self.loaded: LoadedVersion | None = None


class ServedModel:
    """One model of the pool.

    Attributes:
        plan: The traffic plan in force; None when the model is registered and has none.
        champion: What answers requests that name no version. It may lag behind `plan.champion`: a version that is not
            READY never becomes the champion, and the last good one goes on.
        pins: Versions that this process was asked to keep, besides the plan's.
        stand_in: An earlier champion that is loaded because the plan's cannot be.
        entries: Versions by name.
        canary: The challenger that answers a share of the requests; None while none does.
        shadow: The challenger that runs beside; None while none does.
        evidence: What is known about the plan's challenger here; None without one.
        arranged: Who is on duty, and how: what `ChallengerDuty` compares with the plan.
        flipped_ns: Wall clock of the last change of champion, 0 before the first.
    """

    __slots__ = (
        "arranged",
        "canary",
        "champion",
        "entries",
        "evidence",
        "flipped_ns",
        "name",
        "pins",
        "plan",
        "registered",
        "shadow",
        "stand_in",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.plan: TrafficPlan | None = None
        self.registered: tuple[str, ...] = ()
        self.champion: LoadedVersion | None = None
        self.pins: set[str] = set()
        self.stand_in: str | None = None
        self.entries: dict[str, VersionEntry] = {}
        self.canary: Canary | None = None
        self.shadow: Shadow | None = None
        self.evidence: Evidence | None = None
        self.arranged: tuple[object, ...] = ()
        self.flipped_ns = 0

    def choose(self, version: str | None) -> tuple[LoadedVersion, Variant]:
        """The version that takes a request, and as what.

        Args:
            version: The version that the request names, or None.

        Raises:
            NotFound: the model has no such version.
            Unavailable: the version, or the model's champion, does not answer now; says why.
        """
        if version is None:
            champion = self.champion
            if champion is None:
                raise Unavailable(self._no_champion())
            return champion, Variant.CHAMPION
        entry = self.entries.get(version)
        if entry is not None and entry.state is VersionState.READY and entry.loaded is not None:
            return entry.loaded, Variant.PINNED
        if entry is None and version not in self.registered:
            raise NotFound(f"model '{self.name}' has no version '{version[:64]}'")
        if entry is None:
            raise Unavailable(f"version '{version}' of model '{self.name}' is not loaded")
        reason = f": {entry.reason}" if entry.reason else ""
        raise Unavailable(f"version '{version}' of model '{self.name}' is {entry.state}{reason}")

    def loaded(self) -> Iterator[LoadedVersion]:
        """Every version in memory, those that are being unloaded included."""
        return (entry.loaded for entry in self.entries.values() if entry.loaded is not None)

    def statuses(self) -> Iterator[VersionStatus]:
        """The model's lines of the repository index."""
        for entry in self.entries.values():
            yield VersionStatus(name=self.name, version=entry.version, state=entry.state, reason=entry.reason)

    @property
    def wanted(self) -> frozenset[str]:
        """Versions that must be loaded: the plan's, the pins, the stand-in, and the champion until another one is."""
        named = set(self.plan.versions if self.plan else ()) | self.pins
        named.update(v for v in (self.stand_in, self.champion and self.champion.version) if v)
        return frozenset(named)

    def target(self) -> LoadedVersion | None:
        """What should answer requests that name no version, of what can.

        The plan's champion once it is READY; until then whatever answers now, or else the stand-in. A stand-in is
        given up when the plan's champion has come.
        """
        if self.plan is None or self.plan.champion is None:
            return None
        planned = self._ready(self.plan.champion)
        if planned is not None:
            self.stand_in = None
            return planned
        return self.champion or (self._ready(self.stand_in) if self.stand_in else None)

    def challenger(self) -> LoadedVersion | None:
        """The plan's challenger, when it can go on duty beside what answers now."""
        plan = self.plan
        if plan is None or plan.challenger is None or plan.mode is ChallengerMode.NONE or self.champion is None:
            return None
        found = self._ready(plan.challenger)
        return found if found is not self.champion else None

    def to_load(self, version: str | None) -> list[str]:
        """Versions that a client's `load` means; the one that it names, or the newest without a plan, is pinned.

        Raises:
            NotFound: the registry has no such version.
        """
        planned = list(self.plan.versions) if self.plan else []
        if version is None and planned:
            return planned
        if version is None and self.registered:
            version = self.registered[-1]
        if version is None or version not in self.registered:
            raise NotFound(f"model '{self.name}' has no version '{(version or '')[:64]}'")
        self.pins.add(version)
        return [version]

    def to_unload(self, version: str | None) -> list[str]:
        """Pins that a client's `unload` means: the one that it names, or all.

        Raises:
            NotFound: the version is not here.
            Conflict: the traffic plan names it: change the plan.
        """
        if version is not None and version not in self.entries:
            raise NotFound(f"version '{version[:64]}' of model '{self.name}' is not loaded")
        names = sorted(self.pins) if version is None else [version]
        planned = self.plan.versions if self.plan else ()
        named = [v for v in planned if v in names or not names]
        if named:
            raise Conflict(f"the traffic plan of '{self.name}' names version '{named[0]}': change the plan instead")
        return names

    def _ready(self, version: str) -> LoadedVersion | None:
        entry = self.entries.get(version)
        return entry.loaded if entry is not None and entry.state is VersionState.READY else None

    @property
    def behind(self) -> bool:
        """Whether something else than the plan's champion answers, or nothing does."""
        planned = self.plan.champion if self.plan else None
        return planned != (self.champion.version if self.champion else None)

    @property
    def ready(self) -> bool:
        """Whether the model answers, or need not."""
        return self.champion is not None or self.plan is None or self.plan.champion is None

    def _no_champion(self) -> str:
        if self.plan is None or self.plan.champion is None:
            return f"model '{self.name}' is registered and no version of it is promoted"
        entry = self.entries.get(self.plan.champion)
        state = entry.state if entry else VersionState.LOADING
        reason = f": {entry.reason}" if entry and entry.reason else ""
        return f"version '{self.plan.champion}' of model '{self.name}' is {state}{reason}"
