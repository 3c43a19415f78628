"""A change of a traffic plan as a person states it, checked and turned into the plan that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deploy.errors import UsageError
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to be different; None and () leave things as they are. Versions may be aliases."""

    champion: str | None = None
    challenger: str | None = None
    mode: str | None = None
    percent: float | None = None
    pin: tuple[str, ...] = ()
    unpin: tuple[str, ...] = ()


def changed(registry: Registry, model: str, before: TrafficPlan | None, change: Change) -> TrafficPlan:
    """The plan after a change, not written yet; equal to `before` when nothing changes.

    A challenger that becomes champion stops being one, unless another is named.

    Raises:
        UsageError: the change contradicts itself, or lacks something.
        HardcaseError: the registry has no such model or version.
    """
    plan = before or TrafficPlan(model=model, revision=0, champion=None)
    champion = registry.resolve(model, change.champion) if change.champion else plan.champion
    challenger = registry.resolve(model, change.challenger) if change.challenger else plan.challenger
    mode = _mode(change.mode) if change.mode is not None else plan.mode
    percent = plan.canary_percent if change.percent is None else change.percent
    if challenger == champion and change.challenger is None:
        challenger, mode = None, ChallengerMode.NONE if change.mode is None else mode
    if change.challenger and mode is ChallengerMode.NONE:
        raise UsageError(f"what is version {challenger} to do?", "add --mode shadow, or --mode canary --percent 5")
    if mode is not ChallengerMode.NONE and challenger is None:
        raise UsageError(f"mode {mode} needs a version", "add --challenger VERSION")
    if challenger is not None and challenger == champion:
        raise UsageError(f"version {champion} cannot be champion and challenger at once")
    if mode is ChallengerMode.CANARY and change.percent is None and plan.mode is not ChallengerMode.CANARY:
        raise UsageError("a canary needs its share", "add --percent 5")
    if mode is ChallengerMode.NONE:
        challenger, percent = None, 0.0
    elif mode is ChallengerMode.SHADOW and change.percent is None and plan.mode is not ChallengerMode.SHADOW:
        percent = 0.0  # all of the requests
    unpinned = {registry.resolve(model, v) for v in change.unpin}
    pins = [v for v in (*plan.pinned, *(registry.resolve(model, v) for v in change.pin)) if v not in unpinned]
    return replace(
        plan,
        champion=champion,
        challenger=challenger,
        mode=mode,
        canary_percent=percent,
        pinned=tuple(dict.fromkeys(pins)),
    )


def _mode(text: str) -> ChallengerMode:
    try:
        return ChallengerMode(text)
    except ValueError:
        raise UsageError(f"there is no mode '{text}'", "shadow, canary, or none") from None
