"""Settings to the options of the loop: trigger policies, and what a turn is made of."""

from __future__ import annotations

from deploy.settings_retrain import RetrainSettings, TrainerSettings
from deploy.settings_triggers import TriggerSettings
from monitoring.loop.options import LoopOptions, RetrainOptions
from monitoring.triggers.contracts import (
    AlarmCondition,
    AllOf,
    AnyOf,
    Condition,
    FailuresCondition,
    GrowthCondition,
    RegretCondition,
    ScheduleCondition,
    TriggerPolicy,
)


def loop_options(settings: RetrainSettings) -> LoopOptions:
    """When and how every model is trained again."""
    trainers = {model: trainer for trainer in settings.trainers for model in trainer.models}
    own = {given.model: given for given in settings.models}
    return LoopOptions(
        default=_retrain(settings.policy, None),
        models={
            model: _retrain(_merged(settings.policy, own.get(model)), trainers.get(model))
            for model in sorted({*trainers, *own})
        },
    )


def policy_of(given: TriggerSettings) -> TriggerPolicy:
    """The policy that a section of the settings spells."""
    asked: list[Condition] = []
    if given.alarm:
        asked.append(AlarmCondition())
    if given.failures:
        asked.append(FailuresCondition(count=given.failures))
    if given.slice_failures:
        asked.append(FailuresCondition(count=given.slice_failures, one_slice=True))
    if given.regret_cost:
        asked.append(RegretCondition(cost=given.regret_cost))
    if given.growth:
        asked.append(GrowthCondition(factor=given.growth, enough=given.growth_enough))
    if given.every_s:
        asked.append(ScheduleCondition(every_s=given.every_s))
    # Nothing asked is nothing that could hold: "all of none" would train all the time.
    together = AllOf if given.match == "all" and asked else AnyOf
    quiet = None if given.quiet_from is None or given.quiet_to is None else (given.quiet_from, given.quiet_to)
    return TriggerPolicy(
        condition=together(conditions=tuple(asked)),
        min_labels=given.min_labels,
        cool_down_s=given.cool_down_s,
        budget=given.budget,
        budget_s=given.budget_span_s,
        quiet=quiet,
        approval=given.approval,
    )


def _merged(policy: TriggerSettings, own: TriggerSettings | None) -> TriggerSettings:
    """A model's own, and where it says nothing the policy of all."""
    if own is None:
        return policy
    given = {name: getattr(own, name) for name in own.model_fields_set if name != "model"}
    return policy.model_copy(update=given)


def _retrain(given: TriggerSettings, trainer: TrainerSettings | None) -> RetrainOptions:
    limits = {} if trainer is None else {"budget_s": trainer.budget_s, "silence_s": trainer.silence_s}
    return RetrainOptions(
        policy=policy_of(given),
        gate_budget_s=given.gate_budget_s,
        approval_s=given.approval_s,
        seed=given.seed,
        parameters=dict(given.parameters),
        recipe=dict(given.recipe),
        **limits,
    )
