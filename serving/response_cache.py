"""The response cache of one version: outputs by the content of the inputs, bounded by bytes, least recently used out.

Right for models whose answer depends on nothing but their inputs, and for traffic that repeats itself. The key is a
salted cryptographic digest, so that nobody can make another client's request collide with a prepared one.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from serving.answer import BatchOutputs
from serving.entry import Entry
from serving.options import CacheOptions
from serving.tensors import Array, encode_bytes

_ENTRY_BYTES = 400  # what an entry costs beside its arrays: key, dict slot, list


class ResponseCache:
    """Outputs of earlier requests.

    Args:
        max_bytes: Of all arrays together.

    Attributes:
        hits, misses: Look-ups so far.
        hit_ns, miss_ns: Time spent on them, digesting included.
        nbytes: Held now.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[bytes, list[Array | None]] = OrderedDict()
        self._sizes: dict[bytes, int] = {}
        self._salt = os.urandom(32)
        self.hits = self.misses = 0
        self.hit_ns = self.miss_ns = 0
        self.nbytes = 0

    def __len__(self) -> int:
        """Entries held."""
        return len(self._held)

    def key(self, entry: Entry) -> bytes:
        """What must be equal for an answer to be the same: shapes, bytes, and outputs that are run on demand only."""
        plan = entry.plan
        digest = hashlib.sha256(self._salt + repr((plan.shapes, plan.answer.extra)).encode())
        for buffer in entry.buffers:
            if isinstance(buffer, memoryview):
                digest.update(buffer)
            elif buffer.dtype.hasobject:
                digest.update(encode_bytes(buffer))
            else:
                digest.update(buffer.reshape(-1).view(np.uint8).data)
        return digest.digest()

    def find(self, key: bytes) -> list[Array | None] | None:
        """The outputs that were put under a key, by index into the signature; None when there are none any more."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def put(self, key: bytes, arrays: Sequence[Array | None]) -> None:
        """Keep one request's outputs; copies them, and lets go of the least recently used to make room."""
        size = _ENTRY_BYTES + sum(_size(array) for array in arrays if array is not None)
        if size > self._max_bytes:
            return
        self.nbytes += size - self._sizes.pop(key, 0)
        self._held[key] = [None if array is None else array.copy() for array in arrays]
        self._held.move_to_end(key)
        self._sizes[key] = size
        while self.nbytes > self._max_bytes:
            oldest, _ = self._held.popitem(last=False)
            self.nbytes -= self._sizes.pop(oldest)


def cache_for(options: CacheOptions, model: str) -> ResponseCache | None:
    """A cache for one version of a model, None when the settings want none."""
    wanted = options.bytes > 0 and (not options.models or model in options.models)
    return ResponseCache(options.bytes) if wanted else None


def remember(cache: ResponseCache, entries: Sequence[Entry], outputs: BatchOutputs, batched: bool) -> None:
    """Keep the outputs of those requests of a batch that are to be kept.

    Args:
        cache: The version's.
        entries: The batch, in the order of its rows.
        outputs: (rows of the batch, ...), or one request's when unbatched.
        batched: Whether axis 0 is the batch axis.
    """
    start = 0
    for entry in entries:
        span = slice(start, start + entry.plan.rows)
        start += entry.plan.rows
        if entry.cache_key is not None:
            rows = [array[span] if batched and array is not None else array for array in outputs.arrays]
            cache.put(entry.cache_key, rows)


def _size(array: Array) -> int:
    if array.dtype.hasobject:
        return sum(len(element) + 64 for element in array.flat)
    return int(array.nbytes)
