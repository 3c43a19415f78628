"""What alarms say to people, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.alarms.watch import AlarmState, Change, Promise
from monitoring.options import AlarmOptions


def promise_text(promise: Promise, options: AlarmOptions) -> str:
    """What an alarm of this promise promises about being false.

    Example:
        >>> promise_text(Promise.LIFETIME, AlarmOptions())
        'false with a chance of at most 1% over the whole life of the model'
    """
    if promise is Promise.LIFETIME:
        chance = f"{options.lifetime_alpha:.2%}".replace(".00%", "%")
        return f"false with a chance of at most {chance} over the whole life of the model"
    return f"false at most once in {options.run_length:,.0f} labels, on average"


def change_text(change: Change, alarm: Mapping[str, Any], options: AlarmOptions) -> str:
    """One line of an alarm's history.

    Args:
        change: What happened.
        alarm: The row of `alarms`.
        options: Of the alarms.
    """
    limit, needed = alarm["limit"], options.recovery_run_length
    if change.state is AlarmState.FIRING and change.evidence >= alarm["threshold"]:
        return (
            f"the error rate is above {limit:.1%}: {alarm['errors']:.4g} of the last {alarm['labels']} labels wrong, "
            f"evidence {change.evidence:.3g} of {alarm['threshold']:,.0f} needed"
        )
    if change.state is AlarmState.FIRING:
        return "the newest labels speak for a high error rate again"
    if change.state is AlarmState.RECOVERING:
        return (
            f"the newest labels speak for an error rate below {alarm['tolerance']:.1%}: "
            f"evidence {change.evidence:.3g} of {needed:,.0f} needed"
        )
    return f"the error rate is below {alarm['tolerance']:.1%} again: evidence {change.evidence:.3g} of {needed:,.0f}"
