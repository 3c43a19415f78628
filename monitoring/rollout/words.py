"""How roll-outs are spoken of."""

from __future__ import annotations

from monitoring.rollout.policy import Metric, Step, StepKind

METRIC_WORDS = {
    Metric.ERRORS: "errors",
    Metric.INVALID: "answers that are not finite",
    Metric.LATENCY: "slow answers",
    Metric.FLAGGED: "flagged answers",
    Metric.DISAGREEMENT: "disagreement with the champion",
    Metric.WRONG: "wrong answers by audited labels",
}


def percent(share: float) -> str:
    """A share for people.

    Example:
        >>> percent(0.0125), percent(0.5), percent(0.0)
        ('1.25 %', '50 %', '0 %')
    """
    return f"{share * 100:.3g} %"


def seconds(value: float) -> str:
    """A time for people.

    Example:
        >>> seconds(4.21), seconds(75), seconds(7300)
        ('4.2 s', '75 s', '2 h 2 min')
    """
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes = int(value // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def step_words(step: Step) -> str:
    """A step for people.

    Example:
        >>> step_words(Step(kind=StepKind.CANARY, percent=0.5))
        'canary 0.5 %'
    """
    if step.kind is StepKind.SHADOW:
        return "shadow" if step.percent in (0, 100) else f"shadow {step.percent:g} %"
    return f"canary {step.percent:g} %" if step.kind is StepKind.CANARY else "champion"
