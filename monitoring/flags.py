"""Reasons as bits, so that a set of reasons is one integer column."""

from __future__ import annotations

from export.contracts.cases import FlagReason

# The order is part of the database: append, never reorder.
FLAG_BITS: dict[FlagReason, int] = {
    FlagReason.LOW_CONFIDENCE: 1,
    FlagReason.NOVELTY: 2,
    FlagReason.RULE_ERROR: 4,
    FlagReason.RULE_NOT_FINITE: 8,
    FlagReason.RULE_DEADLINE: 16,
    FlagReason.NEGATIVE_FEEDBACK: 32,
    FlagReason.AUDIT: 64,
    FlagReason.DISAGREEMENT: 128,
    FlagReason.PROBE: 256,
}


def to_reasons(flags: int) -> tuple[FlagReason, ...]:
    """The reasons in `flags`.

    Example:
        >>> [r.value for r in to_reasons(65)]
        ['low_confidence', 'audit']
    """
    return tuple(reason for reason, bit in FLAG_BITS.items() if flags & bit)


def to_flags(reasons: tuple[FlagReason, ...]) -> int:
    """The bits of `reasons`."""
    return sum({FLAG_BITS[reason] for reason in reasons})
