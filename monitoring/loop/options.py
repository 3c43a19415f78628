"""Settings of the loop. `deploy.settings_retrain` builds them; nothing here reads a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitoring.triggers.contracts import DAY_S, AlarmCondition, AnyOf, FailuresCondition, TriggerPolicy

DEFAULT_POLICY = TriggerPolicy(
    condition=AnyOf(conditions=(AlarmCondition(), FailuresCondition(count=50, one_slice=True)))
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainOptions:
    """How one model is trained again.

    Attributes:
        policy: When.
        budget_s: A training is ended after so many seconds.
        silence_s: ... or when it has said nothing for so long.
        gate_budget_s: The same for the gate.
        approval_s: A training that nobody approved for so long is dropped.
        seed: Of the training.
        parameters: Handed to the trainer.
        recipe: Of the snapshots (`monitoring.datasets.recipes.Recipe`), as plain JSON; what is missing is as there.
    """

    policy: TriggerPolicy = DEFAULT_POLICY
    budget_s: float = 3_600.0
    silence_s: float = 600.0
    gate_budget_s: float = 3_600.0
    approval_s: float = 7 * DAY_S
    seed: int = 0
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopOptions:
    """How models are trained again.

    Attributes:
        default: Of models that have nothing of their own.
        models: {model: its own}.
        look_s: The evidence is looked at so often.
        step_s: ... turns under way.
    """

    default: RetrainOptions = field(default_factory=RetrainOptions)
    models: Mapping[str, RetrainOptions] = field(default_factory=dict)
    look_s: float = 5.0
    step_s: float = 1.0

    def of(self, model: str) -> RetrainOptions:
        """Those of a model."""
        return self.models.get(model, self.default)
