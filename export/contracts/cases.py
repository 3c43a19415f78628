"""Failure cases: why a record was flagged, and where the case stands."""

from __future__ import annotations

from enum import StrEnum


class FlagReason(StrEnum):
    """Why a record became a case. A case keeps every reason that ever held."""

    LOW_CONFIDENCE = "low_confidence"  # the scores say that the answer is probably wrong
    NOVELTY = "novelty"  # the input is unlike the reference
    RULE_ERROR = "rule_error"  # the model raised, or the request failed in the server
    RULE_NOT_FINITE = "rule_not_finite"  # NaN or infinity in an output
    RULE_DEADLINE = "rule_deadline"  # the deadline passed
    NEGATIVE_FEEDBACK = "negative_feedback"  # the ground truth differs, or somebody complained
    DISAGREEMENT = "disagreement"  # a shadow gave another answer to the same request
    AUDIT = "audit"  # drawn uniformly at random, so that estimates stay honest
    PROBE = "probe"  # drawn for the alarms with a known chance that follows P(wrong)


class CaseState(StrEnum):
    """Where a case stands in the queue."""

    OPEN = "open"  # waits for a reviewer
    LEASED = "leased"  # a reviewer has it, until the lease ends
    LABELLED = "labelled"  # a label was given
    DISMISSED = "dismissed"  # looked at, nothing to learn
    SECOND_OPINION = "second_opinion"  # waits for another reviewer
