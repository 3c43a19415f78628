"""The body of `POST /v2/models/{model}/feedback`, checked strictly and turned into `Feedback` records.

One object or a list of them: `{"id": …, "label" | "labels" | "truth" | "score": …, "comment"?: …, "source"?: …}`.
Feedback decides which cases are failures, so nothing is guessed: an unknown field, a boolean where a number belongs, or
two kinds of truth in one item are refused with the field's path.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from export.contracts.errors import InvalidRequest
from export.contracts.privacy import REDACTED, PrivacyPolicy
from monitoring.records.feedback_items import read_item
from monitoring.records.record import Feedback

MAX_BODY_BYTES = 1 << 20
MAX_ITEMS = 1000


def read_feedback(body: bytes, model: str, time_ns: int) -> list[Feedback]:
    """Check a feedback body.

    Args:
        body: The request's body, inflated.
        model: Model that the path names.
        time_ns: Wall-clock nanoseconds since the epoch at which the feedback came in.

    Returns:
        At least one record.

    Raises:
        InvalidRequest: names the field.

    Example:
        >>> read_feedback(b'{"id": "a1", "label": "seven"}', "digits", 0)[0].label
        'seven'
    """
    try:
        plain = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("the feedback is not valid JSON") from None
    if not isinstance(plain, list):
        return [read_item(plain, "", model, time_ns)]
    if not 1 <= len(plain) <= MAX_ITEMS:
        raise InvalidRequest(f"a list of feedback holds 1 to {MAX_ITEMS} items, this one {len(plain)}")
    return [read_item(item, f"[{i}].", model, time_ns) for i, item in enumerate(plain)]


def without_redacted(item: Feedback, policy: PrivacyPolicy) -> Feedback:
    """The item as it may be written down."""
    comment = item.comment if item.comment is None or policy.keeps_feedback("comment") else REDACTED
    source = item.source if item.source is None or policy.keeps_feedback("source") else REDACTED
    return replace(item, comment=comment, source=source)
