"""Which error rate is all right for a version, and where that number comes from."""

from __future__ import annotations

import math

from monitoring.alarms.watch import Limits
from monitoring.baseline import Baseline
from monitoring.options import AlarmOptions

LARGEST = 0.9  # a tolerance above says nothing worth watching
_SMALLEST = 0.005
_Z = 1.645  # one-sided 95 %


def reference_error(baseline: Baseline) -> tuple[float, int] | None:
    """The version's error rate on its reference and the rows behind it, or None without labelled reference data."""
    profile = baseline.profile
    if profile is None or profile.classes is None:
        return None
    return 1.0 - profile.classes.accuracy, int(profile.classes.label_counts.sum())


def limits_of(model: str, baseline: Baseline, options: AlarmOptions) -> Limits | None:
    """The boundaries for a version; None when no tolerance is set and there is no reference to derive it from.

    The tolerance is what is set for the model; otherwise the reference's error rate plus the margin, and at least the
    upper 95 % bound of the reference's error rate, so that a small, lucky reference is no reason to be woken up.
    What is *expected* lies half-way between the reference's error rate and the tolerance.
    """
    known = reference_error(baseline)
    given = next((t.tolerance for t in options.tolerances if t.model == model), None)
    if given is not None:
        tolerance, source = given, "set for this model (monitor.alarms.tolerances)"
    elif known is None:
        return None
    else:
        upper = upper_bound(*known)
        tolerance = max(known[0] + options.margin, upper)
        source = f"error rate on the reference, {known[0]:.1%} of {known[1]:,}, + {options.margin:.1%}"
        if upper > known[0] + options.margin:
            source = f"upper 95 % bound of the error rate on the reference, {known[0]:.1%} of {known[1]:,}"
    tolerance = min(max(tolerance, _SMALLEST), LARGEST)
    base = min(known[0], tolerance) if known is not None else tolerance / 2.0
    expected = (base + tolerance) / 2.0
    return Limits(tolerance=tolerance, expected=expected, source=source)


def upper_bound(rate: float, labels: int, z: float = _Z) -> float:
    """Upper end of Wilson's score interval (JASA 1927); 1 without labels.

    Example:
        >>> round(upper_bound(0.02, 300), 3)
        0.038
    """
    return 1.0 if labels <= 0 else interval(rate, labels, z)[1]


def interval(rate: float, labels: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval for a share of `labels`."""
    q = z * z
    centre = (rate + q / (2.0 * labels)) / (1.0 + q / labels)
    half = z * math.sqrt(rate * (1.0 - rate) / labels + q / (4.0 * labels * labels)) / (1.0 + q / labels)
    return max(0.0, centre - half), min(1.0, centre + half)
