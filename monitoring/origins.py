"""What is traffic, and what is not: requests that the monitor itself caused, or that nobody was waiting for."""

from __future__ import annotations

import json

from export.contracts.traffic import Variant

ASIDE = "aside"
"""Variant of requests that are no traffic: somebody tried something, or asked a version about stored cases. They are
indexed and found again; no window, estimate, audit, slice or queue knows of them."""
ASIDE_ORIGINS = frozenset({"try", "compare"})  # of the request parameter `origin`
NOT_TRAFFIC = (Variant.SHADOW.value, ASIDE)  # variants of answers that no client was waiting for


def is_aside(params: bytes | None) -> bool:
    """Whether a request's parameters, as JSON, say that it is no traffic.

    Example:
        >>> is_aside(b'{"origin":"try"}'), is_aside(b'{"origin":"north"}'), is_aside(None)
        (True, False, False)
    """
    if params is None or b'"origin"' not in params:
        return False
    try:
        plain = json.loads(params)
    except ValueError:
        return False
    origin = plain.get("origin") if isinstance(plain, dict) else None
    return isinstance(origin, str) and origin in ASIDE_ORIGINS
