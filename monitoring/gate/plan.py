"""Before anybody labels: what a gate could tell with the labels there are, and how many would be enough."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.gate import paired
from monitoring.gate.contracts import GatePolicy
from monitoring.gate.decide import USUAL_CHANGE

EFFECTS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """How well a gain is seen.

    Attributes:
        effect: The gain, of accuracy.
        power: Chance to see it with the labels there are.
        needed: Labels with which the chance is the policy's; None: more than anybody has.
    """

    effect: float
    power: float
    needed: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class GatePlan:
    """What the labels there are can tell.

    Attributes:
        labels: Audited inputs with a truth.
        changed: Share of inputs on which exactly one of two versions is right, as assumed.
        sights: For some gains, smallest first.
        words: In a sentence.
    """

    labels: int
    changed: float
    policy: GatePolicy
    sights: tuple[Sight, ...]
    words: str


def plan_gate(labels: int, policy: GatePolicy, changed: float = USUAL_CHANGE) -> GatePlan:
    """What so many labels can tell.

    Args:
        labels: Audited inputs with a truth that a gate would use.
        policy: Of the gate.
        changed: Share of inputs on which exactly one of the two will be right. A gain of more changes more.

    Example:
        >>> plan_gate(2000, GatePolicy()).words
        'with 2,000 labels a gain of 2 points is seen with 95%: enough'
    """
    effects = sorted({*EFFECTS, policy.effect})
    sights = tuple(_sight(labels, policy, changed, effect) for effect in effects)
    asked = next(s for s in sights if s.effect == policy.effect)
    told = f"with {labels:,} labels a gain of {100 * policy.effect:g} points is seen with {asked.power:.0%}"
    if asked.power >= policy.power:
        words = f"{told}: enough"
    else:
        visible = next((s for s in sights if s.power >= policy.power), None)
        least = f"; what it would see with {policy.power:.0%} is a gain of {100 * visible.effect:g}" if visible else ""
        enough = f"{asked.needed:,} labels" if asked.needed else "no number of labels"
        words = f"{told}; {enough} would do{least}"
    return GatePlan(labels=labels, changed=changed, policy=policy, sights=sights, words=words)


def _sight(labels: int, policy: GatePolicy, changed: float, effect: float) -> Sight:
    changes = max(changed, effect)
    return Sight(
        effect=effect,
        power=round(paired.power(labels, changes, effect, policy.alpha), 4),
        needed=paired.labels_needed(changes, effect, policy.alpha, policy.power),
    )
