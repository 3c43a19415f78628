"""Settings of trigger policies: when a model is trained again, on what, and who must agree."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from deploy.settings_base import Seconds, Section


class TriggerSettings(Section):
    """When a model is trained again. Conditions at zero, or off, are not asked; every decision is kept and shown."""

    alarm: bool = True
    """An alarm on the audited error rate is open."""
    failures: int = Field(default=0, ge=0)
    """So many reviewed failures, with labels, that the champion was not trained on; 0: not asked."""
    slice_failures: int = Field(default=50, ge=0)
    """So many of them in one slice; 0: not asked."""
    regret_cost: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Waiting costs more than training now, where a training with everything that follows is worth so many wrong
    answers; 0: not asked."""
    growth: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """There are so many times as many labels of the present traffic as the last training had; 0: not asked."""
    growth_enough: int = Field(default=1000, ge=1)
    """With so many labels of the present traffic, a training had all that it needs. For `growth`."""
    every_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The champion's training is so many seconds ago; 0: not asked."""
    match: Literal["any", "all"] = "any"
    """Whether one of the conditions is enough, or all that are asked must hold."""
    min_labels: int = Field(default=50, ge=0)
    """New labels without which no training starts, whatever holds."""
    cool_down_s: float = Field(default=3600.0, ge=0, allow_inf_nan=False)
    """Not sooner than this after the last training began. One that failed counts too: nothing is tried again at
    once."""
    budget: int = Field(default=4, ge=1)
    """Trainings allowed within `budget_span_s`."""
    budget_span_s: Seconds = 86_400.0
    """Length of that span, back from now."""
    quiet_from: int | None = Field(default=None, ge=0, le=23)
    """First hour of the day (UTC) in which nothing starts; empty: no quiet hours."""
    quiet_to: int | None = Field(default=None, ge=0, le=23)
    """Hour at which the quiet hours end."""
    approval: bool = False
    """A person must approve: on the page *Loop*, or with `hardcase retrain approve`."""
    approval_s: Seconds = 604_800.0
    """What nobody approved for so long is dropped."""
    seed: int = Field(default=0, ge=0, lt=1 << 62)
    """Of the training: the same snapshot, parent and seed shall give the same package."""
    parameters: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Handed to the trainer: hyper-parameters, for one."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """What goes into the snapshot; what is not given has its default. See `docs/guides/datasets.md`."""
    gate_budget_s: Seconds = 3600.0
    """The gate is ended after so many seconds."""

    @field_validator("recipe")
    @classmethod
    def _known(cls, given: dict[str, Any]) -> dict[str, Any]:
        from monitoring.datasets.recipes import Recipe

        Recipe.from_plain(given)
        return given

    @model_validator(mode="after")
    def _both_hours(self) -> TriggerSettings:
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValueError("quiet_from and quiet_to belong together")
        return self


class ModelTriggerSettings(TriggerSettings):
    """The same for one model; what is not given is as in `retrain.policy`."""

    model: str
    """Name of the model."""
