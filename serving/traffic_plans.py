"""What the pool reads of the registry: the plans in force, all at once, on a thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from export.contracts.errors import HardcaseError
from export.contracts.traffic import TrafficPlan
from export.package import Package
from serving.loading import public_reason

if TYPE_CHECKING:
    from serving.version_loader import Tell

_log = logging.getLogger("hardcase.pool")
_LOOKS_SHARE = 50  # of the time, looks take at most one part in so many


class RegistryView(Protocol):
    """What the pool needs of the registry; `export.registry.Registry` is one. Called on threads."""

    def generation(self) -> str:
        """A token that changes with every plan, version and alias; cheap."""
        ...

    def models(self) -> tuple[str, ...]:
        """Names of all models."""
        ...

    def versions(self, model: str) -> tuple[str, ...]:
        """Versions of a model, oldest first."""
        ...

    def plan(self, model: str) -> TrafficPlan | None:
        """The plan in force."""
        ...

    def history(self, model: str) -> tuple[TrafficPlan, ...]:
        """All plans, oldest first."""
        ...

    def package(self, model: str, version: str) -> Package:
        """A registered package."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPlan:
    """A model's plan, None without one, and its registered versions."""

    plan: TrafficPlan | None
    versions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlansSeen:
    """One look at the registry.

    Attributes:
        generation: None when the registry as a whole could not be read.
        models: What could be read, by model.
        unreadable: Why something could not, by model; "" is the registry as a whole.
    """

    generation: str | None
    models: dict[str, ModelPlan] = field(default_factory=dict)
    unreadable: dict[str, Exception] = field(default_factory=dict)


def read_plans(registry: RegistryView, wanted: Callable[[str], bool], known: str | None) -> PlansSeen | None:
    """Look at the registry. A model that cannot be read hinders no other.

    Args:
        registry: Where to look.
        wanted: Says of a model whether to read it.
        known: The generation of the last look.

    Returns:
        None when nothing has changed since `known`.
    """
    try:
        generation = registry.generation()
        if generation == known:
            return None
        names = [name for name in registry.models() if wanted(name)]
    except (HardcaseError, OSError) as error:
        return PlansSeen(generation=None, unreadable={"": error})
    seen = PlansSeen(generation=generation)
    for name in names:
        try:
            seen.models[name] = ModelPlan(plan=registry.plan(name), versions=registry.versions(name))
        except (HardcaseError, OSError) as error:
            seen.unreadable[name] = error
    return seen


class Looks:
    """Looks at the registry, and how long to wait between two: long enough that they take next to nothing.

    Args:
        registry: Where to look.
        wanted: Says of a model whether to read it.
        poll_s: The shortest wait.

    Attributes:
        wait_s: Until the next look: `poll_s`, or more where a look takes long (a registry of thousands of folders).
    """

    def __init__(self, registry: RegistryView, wanted: Callable[[str], bool], poll_s: float) -> None:
        self._registry, self._wanted, self._poll_s = registry, wanted, poll_s
        self.wait_s = poll_s

    def look(self, known: str | None) -> PlansSeen | None:
        """See `read_plans`. On a thread."""
        started = time.thread_time()
        try:
            return read_plans(self._registry, self._wanted, known)
        finally:
            self.wait_s = max(self._poll_s, _LOOKS_SHARE * (time.thread_time() - started))


class Readability:
    """Tells once that something of the registry cannot be read, and once that it can again.

    Args:
        tell: Takes events.

    Attributes:
        lacks: Models that could not be read at the last look; "" is the registry as a whole.
    """

    def __init__(self, tell: Tell) -> None:
        self.lacks: frozenset[str] = frozenset()
        self._tell = tell

    def look(self, unreadable: Mapping[str, Exception]) -> None:
        """Take the result of a look: why something could not be read, by model."""
        for model in unreadable.keys() - self.lacks:
            error = unreadable[model]
            _log.error("registry: %s cannot be read; the last plan stays in force", model or "it", exc_info=error)
            self._tell("registry_unreadable", model, "", {"reason": public_reason(error)})
        for model in self.lacks - unreadable.keys():
            self._tell("registry_readable", model)
        self.lacks = frozenset(unreadable)
