"""Settings of roll-outs: steps, limits, and what is promised."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deploy.settings_base import Seconds, Section
from monitoring.rollout.options import RolloutOptions
from monitoring.rollout.policy import LIMITS, STEPS, Limit, Metric, RolloutPolicy, Step, StepKind

MetricName = Literal["errors", "invalid", "latency", "flagged", "disagreement", "wrong"]


class StepSettings(Section):
    """One step of a roll-out."""

    kind: Literal["shadow", "canary", "champion"]
    """What the candidate does: run beside the champion, answer its share, or answer everybody (the bake time; always
    the last step, and only that)."""
    percent: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)
    """Share of the requests: mirrored in the shadow, answered as canary; as champion the share that the *old* champion
    goes on answering, for comparison. 0 there compares with nothing."""
    dwell_s: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    """It lasts at least so long; a pause does not count."""
    requests: int = Field(default=30, ge=0)
    """... and until the candidate has had so many requests."""
    prove: tuple[MetricName, ...] = ()
    """... and until the candidate is shown to be not worse than the champion, by each metric's margin."""
    max_s: Seconds = 86_400.0
    """The roll-out is given up when the step takes longer."""


class LimitSettings(Section):
    """How much worse than the champion a candidate may be in one metric, as a share of requests."""

    metric: MetricName
    """`errors`; `invalid` (NaN or infinity); `latency` (slower than the budget); `flagged` (uncertain or novel);
    `disagreement` (with the champion, against what is expected); `wrong` (by labels of audited requests)."""
    tolerance: float = Field(ge=0, lt=1)
    """A candidate that is worse by no more than this is rolled back with at most the promised chance."""
    margin: float = Field(gt=0, lt=1)
    """One that is worse by more than this passes a step that proves the metric with at most the promised chance."""


def _steps() -> tuple[StepSettings, ...]:
    return tuple(
        StepSettings(
            kind=step.kind.value,
            percent=step.percent,
            dwell_s=step.dwell_s,
            requests=step.requests,
            prove=tuple(metric.value for metric in step.prove),
            max_s=step.max_s,
        )
        for step in STEPS
    )


class RolloutPolicySettings(Section):
    """How a version gets from the shadow to all of the traffic, and what takes it back."""

    steps: tuple[StepSettings, ...] = Field(default_factory=_steps)
    """In order: first in the shadow, then canaries with growing shares, last `champion`."""
    limits: tuple[LimitSettings, ...] = ()
    """Where other limits than the built-in ones shall hold; see the guide."""
    false_rollback: float = Field(default=0.01, gt=0, lt=1)
    """Chance that a candidate which is no worse is ever rolled back on evidence, all tests and looks together."""
    wrong_promotion: float = Field(default=0.01, gt=0, lt=1)
    """Chance that a candidate which is worse by the margin of a metric passes a step that proves that metric."""
    exposure: float = Field(default=0.01, gt=0, lt=1)
    """Share of all requests since its beginning that the candidate may have answered in steps up to this share."""
    disagreement: float | None = Field(default=None, ge=0, le=1)
    """Share of requests that a candidate may answer otherwise than the champion; empty: what whoever begins the
    roll-out says (`--disagreement`), and where nobody does it is shown and not tested."""
    latency_factor: float = Field(default=1.5, ge=1, allow_inf_nan=False)
    """An answer is slow when it takes longer than the champion's 95 % quantile times this."""
    latency_floor_ms: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    """... and longer than this."""
    fresh_s: Seconds = 2.0
    """No step forward on evidence that is older than this."""

    @model_validator(mode="after")
    def _can_be_followed(self) -> RolloutPolicySettings:
        rollout_policy(self)
        return self


class ModelRolloutSettings(RolloutPolicySettings):
    """The roll-outs of one model. What is not said here is the default, not what `rollout` says for the others."""

    model: str = Field(min_length=1)
    """Name of the model."""


class RolloutSettings(RolloutPolicySettings):
    """How new versions are rolled out: step by step, each on evidence, and back by itself."""

    models: tuple[ModelRolloutSettings, ...] = ()
    """Models whose roll-outs differ."""


def rollout_policy(settings: RolloutPolicySettings) -> RolloutPolicy:
    """The policy that settings state.

    Raises:
        ValueError: it cannot be followed.
    """
    own = {Metric(limit.metric): limit for limit in settings.limits}
    limits = [
        Limit(metric=known.metric, tolerance=own[known.metric].tolerance, margin=own[known.metric].margin)
        if known.metric in own
        else known
        for known in LIMITS
    ]
    steps = [
        Step(
            kind=StepKind(step.kind),
            percent=step.percent,
            dwell_s=step.dwell_s,
            requests=step.requests,
            prove=tuple(Metric(name) for name in step.prove),
            max_s=step.max_s,
        )
        for step in settings.steps
    ]
    return RolloutPolicy(
        steps=tuple(steps),
        limits=tuple(limits),
        alpha=settings.false_rollback,
        beta=settings.wrong_promotion,
        exposure=settings.exposure,
        disagreement=settings.disagreement,
        latency_factor=settings.latency_factor,
        latency_floor_us=settings.latency_floor_ms * 1000,
        fresh_s=settings.fresh_s,
    )


def rollout_options(settings: RolloutSettings) -> RolloutOptions:
    """How each model is rolled out."""
    return RolloutOptions(
        policy=rollout_policy(settings), models={own.model: rollout_policy(own) for own in settings.models}
    )
