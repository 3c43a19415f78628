"""What the console calls things: names, meanings and short forms, in one place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from export.contracts.cases import CaseState, FlagReason

REASONS = {
    FlagReason.LOW_CONFIDENCE: ("low confidence", "The scores say that the answer is probably wrong."),
    FlagReason.NOVELTY: ("novel input", "The input is unlike everything in the reference."),
    FlagReason.RULE_ERROR: ("error", "The model raised, or the request failed in the server."),
    FlagReason.RULE_NOT_FINITE: ("not finite", "An output holds NaN or infinity."),
    FlagReason.RULE_DEADLINE: ("too late", "The deadline passed before the answer was ready."),
    FlagReason.NEGATIVE_FEEDBACK: ("feedback", "The ground truth differs from the answer, or somebody complained."),
    FlagReason.DISAGREEMENT: ("disagreement", "A version in the shadow gave another answer to the same request."),
    FlagReason.AUDIT: ("audit", "Drawn uniformly at random, so that estimates stay honest."),
    FlagReason.PROBE: ("probe", "Drawn for the alarms, with a known chance that follows P(wrong)."),
}
STATES = {
    CaseState.OPEN: "waiting",
    CaseState.LEASED: "being reviewed",
    CaseState.LABELLED: "labelled",
    CaseState.DISMISSED: "dismissed",
    CaseState.SECOND_OPINION: "second opinion",
}
SCORES = {
    "p_wrong": ("P(wrong)", "Probability that the answer is wrong, calibrated on the reference. Ranks the queue."),
    "msp": ("Confidence", "Largest class probability after temperature scaling. High is sure."),
    "margin": ("Margin", "Gap between the two most probable classes. Near 0: a coin toss between them."),
    "entropy": ("Entropy", "Spread of the probabilities, in nats. 0 is certain; high is undecided."),
    "gen": ("GEN", "Generalised entropy (Liu et al. 2023): sensitive to small probabilities. High is unusual."),
    "rmds": ("RMDS++", "Relative Mahalanobis distance of the embedding (Ren et al. 2021). High is unlike any class."),
}
ESTIMATES = {
    "audit": ("Audits", "Labels of a random sample, sharpened by P(wrong). The only one with a guarantee."),
    "audit_error": ("Audits, mean error", "Mean absolute error of a random sample."),
    "rehearsal": ("Rehearsal", "Read off windows of changed inputs that were rehearsed at export."),
    "transport": ("Transport", "Cost of moving the probabilities to the reference's class shares (Lu et al. 2023)."),
    "atc": ("Thresholded confidence", "Share above the threshold of the reference (Garg et al. 2022)."),
    "p_wrong": ("Mean P(wrong)", "What the fused failure score expects."),
    "confidence": ("Mean confidence", "What the calibrated probabilities expect."),
}
SCORES |= {
    "spread": ("Expected error", "How far the answer is expected to miss, in tolerances. High is unsure."),
    "doubt": ("Expected mistakes", "Labels or boxes that are expected to be wrong. High is unsure."),
    "distance": ("Distance", "Mahalanobis distance of the embedding from the reference. High is unlike it."),
    "labels": ("Labels", "How many labels were given."),
    "boxes": ("Boxes", "How many boxes were given."),
    "box_confidence": ("Box confidence", "Mean score of the boxes that were given."),
    "box_size": ("Box size", "Mean side of the boxes that were given, in the units of the boxes."),
    "value": ("Value", "The first value of the answer."),
}
METHODS = {
    "psi": "PSI",
    "wasserstein": "Wasserstein",
    "jensen_shannon": "Jensen-Shannon",
    "jensenshannon": "Jensen-Shannon",
    "ks": "Kolmogorov-Smirnov",
    "mmd": "MMD",
    "share": "difference of shares",
}
SIGNAL_STATES = {
    "ok": "",
    "not_enough_data": "not enough data",
    "no_reference": "no reference",
}
INPUT_STATES = {
    "too_large": "too large to keep",
    "not_recorded": "not recorded",
    "gone": "gone from the log before the case was made",
    "expired": "no longer kept",
    "thumbnail": "only a small picture is kept",
}


def reason(value: str) -> str:
    """Short name of a reason."""
    return REASONS[FlagReason(value)][0]


def reason_text(value: str) -> str:
    """What a reason means."""
    return REASONS[FlagReason(value)][1]


def state(value: str) -> str:
    """Short name of a case's state."""
    return STATES[CaseState(value)]


def plain(value: str) -> str:
    """A stable name as words."""
    return SIGNAL_STATES.get(value) or INPUT_STATES.get(value) or METHODS.get(value) or value.replace("_", " ")


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent."""
    return "–" if value is None else f"{value * 100:.{digits}f} %"  # noqa: RUF001  # a dash as wide as a digit


def figure(value: float | None) -> str:
    """A measure with four significant digits."""
    return "–" if value is None else f"{value:.4g}"  # noqa: RUF001  # a dash as wide as a digit


def duration(us: float) -> str:
    """Microseconds in the unit that people would use."""
    if us < 1000:
        return f"{us:.0f} µs"
    return f"{us / 1000:.3g} ms" if us < 1_000_000 else f"{us / 1_000_000:.3g} s"


def size(value: int) -> str:
    """Bytes in the unit that people would use."""
    amount, unit = float(value), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"


def clock(text: str | None) -> str:
    """An RFC 3339 time for a person: 2026-01-31 12:00:05."""
    if text is None:
        return "never"
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def short(text: str) -> str:
    """An RFC 3339 time where there is little room: Jan 31, 12:00."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%b %d, %H:%M")


def label(value: Any, class_names: tuple[str, ...] | list[str] = ()) -> str | None:
    """A ground truth for a person: a class name, where the label is a class's index."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(class_names):
        return class_names[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict) and isinstance(value.get("rows"), list):
        return "; ".join(_entry(row, class_names) for row in value["rows"][:3]) + ("; …" * (len(value["rows"]) > 3))
    if isinstance(value, list):
        return _entry(value, class_names)
    return value if isinstance(value, str) else str(value)


def _entry(value: Any, class_names: tuple[str, ...] | list[str]) -> str:
    """The truth of one row: labels or numbers with commas, boxes counted by class."""
    if not isinstance(value, list):
        return label(value, class_names) or "nothing"
    if value and all(isinstance(x, dict) for x in value):
        classes = [label(x.get("class", 0), class_names) or "" for x in value]
        return ", ".join(f"{name} ({classes.count(name)})" for name in sorted(set(classes)))
    return ", ".join(label(x, class_names) or "nothing" for x in value) or "nothing"


def pretty(text: str | None) -> str | None:
    """JSON text with indents; any other text as it is."""
    if not text:
        return None
    try:
        plain: Any = json.loads(text)
    except ValueError:
        return text
    return json.dumps(plain, indent=2, ensure_ascii=False)


def points(share: float | None) -> str:
    """A difference of two shares in percentage points, with its sign.

    Example:
        >>> points(0.0312), points(0.0)
        ('+3.1 points', '+0.0 points')
    """
    if share is None:
        return "–"  # noqa: RUF001  # a dash as wide as a digit
    return f"{'−' if share < 0 else '+'}{abs(100 * share):.1f} points"  # noqa: RUF001  # a minus as wide as the plus
