"""What the pool reads of the registry: the plans in force, all at once, on a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from export.contracts.errors import HardcaseError
from export.contracts.traffic import TrafficPlan
from export.package import Package


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
