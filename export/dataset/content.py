"""Hashes of what goes in: two rows with the same one have the same inputs. The monitor's `contents` gives the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xxhash

from export.contracts.arrays import encode_bytes
from export.contracts.signature import Signature
from export.dataset.rows import Array


def content_hash(signature: Signature, inputs: Mapping[str, Array]) -> str:
    """xxh64 of one row's inputs: names, datatypes, shapes, bytes; 16 hex digits."""
    digest = xxhash.xxh64((1).to_bytes(4, "little"))
    kinds = {spec.name: spec.datatype for spec in signature.inputs}
    for name in sorted(inputs):
        array = inputs[name]
        digest.update(f"{name}\0{kinds[name].value}\0{array.shape}".encode())
        digest.update(encode_bytes(array) if array.dtype == object else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def signed(content: str) -> int:
    """As the monitor's tables hold it.

    Example:
        >>> signed("ffffffffffffffff"), unsigned(-1)
        (-1, 'ffffffffffffffff')
    """
    value = int(content, 16)
    return value - (1 << 64) if value >= 1 << 63 else value


def unsigned(value: int) -> str:
    """The inverse of `signed`."""
    return f"{value & ((1 << 64) - 1):016x}"
