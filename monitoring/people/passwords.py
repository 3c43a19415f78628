"""Passwords: what is accepted, and how they are kept.

Argon2id with the parameters of OWASP's Password Storage Cheat Sheet (19 MiB, two passes, one lane). Rules as in
OWASP ASVS 2.1: twelve characters at least, no rules about their kinds, none that everybody knows.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from export.contracts.errors import InvalidRequest, Overloaded

SHORTEST, LONGEST = 12, 128
AT_ONCE = 2  # each takes 19 MiB for some 30 ms
WAIT_S = 5.0
FEWEST_CHARACTERS = 5
# What people choose who are told to use twelve characters; a list of lost passwords is no part of the product.
_COMMON = """
123456789012 1234567890123 12345678901234 123456789123 123123123123 111111111111 000000000000
987654321098 098765432109 qwertyuiop123 qwertyuiop12 qwerty123456 qwertyuiopasdf 1q2w3e4r5t6y 1qaz2wsx3edc
q1w2e3r4t5y6 zaq12wsxcde3 password1234 password12345 password123456 passwordpassword password12password
iloveyou1234 iloveyouforever abc123abc123 abcdefghijkl abcd1234abcd adminadminadmin administrator
administrator1 administrator123 admin1234567 admin12345678 letmein12345 letmeinletmein welcome12345
welcome123456 changemeplease changeme1234 changeme12345 unknownunknown hardcasehardcase hardcase1234
football1234 baseball1234 superman1234 princess1234 sunshine1234 monkey123456 dragon123456 michael12345
correcthorsebatterystaple trustno1trustno1 test12345678 testtesttest
secretsecret secret123456 qazwsxedcrfv asdfghjkl123 asdfghjklqwe zxcvbnm12345 q1q2q3q4q5q6 aaaaaaaaaaaa
"""
COMMON = frozenset(_COMMON.split())

_hashing = threading.BoundedSemaphore(AT_ONCE)


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@lru_cache(maxsize=1)
def _nobodys() -> str:
    """A hash that no password is known for: checked where there is no user, so that both take the same time."""
    return _hasher().hash("nobody has this password")


def check_password(password: str, name: str) -> None:
    """Refuse what is easily guessed.

    Raises:
        InvalidRequest: says what is wrong with it.
    """
    bare = _normal(password)
    if not SHORTEST <= len(bare) <= LONGEST:
        raise InvalidRequest(f"password: {SHORTEST} to {LONGEST} characters are needed")
    low = bare.casefold()
    if low.replace(" ", "") in COMMON or len(set(low)) < FEWEST_CHARACTERS:
        raise InvalidRequest("password: this one is known to everybody who tries passwords")
    if len(name) >= FEWEST_CHARACTERS - 1 and name.casefold() in low:
        raise InvalidRequest("password: must not contain the name")


def hash_password(password: str) -> str:
    """What is kept of a password (PHC form).

    Raises:
        Overloaded: too many are hashed just now.
    """
    with _turn():
        return _hasher().hash(_normal(password))


def password_holds(kept: str, password: str) -> bool:
    """Whether it is the password. `kept` may be empty, which takes as long and never holds.

    Raises:
        Overloaded: too many are hashed just now.
    """
    with _turn():
        try:
            _hasher().verify(kept or _nobodys(), _normal(password)[: 4 * LONGEST])
        except (VerificationError, InvalidHashError):
            return False
    return bool(kept)


@contextmanager
def _turn() -> Iterator[None]:
    """Bounds memory and processor, however many try at once."""
    if not _hashing.acquire(timeout=WAIT_S):
        raise Overloaded("too many are signing in just now")
    try:
        yield
    finally:
        _hashing.release()


def _normal(password: str) -> str:
    """The same password from every keyboard (NIST SP 800-63B, 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
