"""How large a body may be, address by address: small everywhere but where files or long lists are sent."""

from __future__ import annotations

import re

MAX_BODY_BYTES = 64 << 10
LARGER: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"/api/models/[^/]+/try"), 24 << 20),  # an input as base64 or JSON
    (re.compile(r"/api/selections"), 2 << 20),  # 50,000 ids of cases
    (re.compile(r"/api/review/(?!import)[a-z/]+"), 2 << 20),  # 50,000 ids of cases
    (re.compile(r"/api/review/import"), 32 << 20),  # labels from files
    (re.compile(r"/api/loop/jobs/[^/]+/events"), 1 << 20),  # what a training elsewhere tells: up to 1,000 events
    (re.compile(r"/api/feedback"), 16 << 20),  # up to 10,000 items
)


def body_limit(path: str) -> int:
    """Bytes that a body sent to `path` may have.

    Example:
        >>> body_limit("/api/reports"), body_limit("/api/selections")
        (65536, 2097152)
    """
    return next((limit for pattern, limit in LARGER if pattern.fullmatch(path)), MAX_BODY_BYTES)
