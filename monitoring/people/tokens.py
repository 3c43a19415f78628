"""Random values that open something, and what is kept of them."""

from __future__ import annotations

import hashlib
import secrets

KEY_PREFIX = "hck_"  # so that people, and scanners for lost secrets, know one when they see it


def new_token(prefix: str = "") -> str:
    """256 random bits as text."""
    return prefix + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What is kept of a token: it has 256 random bits, so a plain digest cannot be turned back."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
