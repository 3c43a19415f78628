"""Who is in a challenger's share: a hash of what names the client, so that all replicas decide alike, without state."""

from __future__ import annotations

import hashlib

_SPACE = 1 << 64


class Assignment:
    """A share of all keys, for one challenger of one model.

    The hash of a key is a fixed point in [0, 1); a key is taken when its point lies below the share. So equal keys meet
    equal answers on every replica and after every restart, a larger share keeps everybody that a smaller one had, and a
    smaller one lets only some of them go. The salt is the pair (model, challenger): who was early for one version need
    not be early for the next.

    Args:
        model: Name of the model.
        challenger: Its version.
        percent: The share, 0..100.

    Example:
        >>> few, more = (Assignment("digits", "2", percent) for percent in (5.0, 25.0))
        >>> clients = [b"client-%d" % i for i in range(1000)]
        >>> sum(map(few.takes, clients)), sum(map(more.takes, clients))
        (47, 223)
        >>> all(more.takes(client) for client in clients if few.takes(client))
        True
    """

    __slots__ = ("_limit", "_salt", "percent")

    def __init__(self, model: str, challenger: str, percent: float) -> None:
        self.percent = percent
        self._limit = round(percent / 100.0 * _SPACE)
        self._salt = hashlib.blake2b(f"{model}\0{challenger}".encode(), digest_size=32).digest()

    def takes(self, key: bytes) -> bool:
        """Whether the share holds this key."""
        point = hashlib.blake2b(key, digest_size=8, key=self._salt).digest()
        return int.from_bytes(point) < self._limit

    @property
    def all(self) -> bool:
        """Whether the share holds every key."""
        return self._limit >= _SPACE
