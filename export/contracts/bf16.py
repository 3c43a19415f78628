"""BF16 in numpy, which has no such type: a tensor of it is the uint16 of its bits, the upper halves of float32."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.datatypes import Datatype

Array: TypeAlias = npt.NDArray[Any]


def widen(bits: Array) -> npt.NDArray[np.float32]:
    """The numbers that bits stand for, exactly.

    Example:
        >>> widen(np.array([0x3FC0, 0xC000], np.uint16)).tolist()
        [1.5, -2.0]
    """
    return (bits.astype("<u4") << 16).view("<f4")


def narrow(values: Array) -> npt.NDArray[np.uint16]:
    """The bits of the nearest BF16 numbers, ties to even, as torch rounds. NaN stays NaN.

    Example:
        >>> [hex(x) for x in narrow(np.array([1.5, 1.00390625, 1.01171875], np.float32))]
        ['0x3fc0', '0x3f80', '0x3f82']
    """
    exact = np.ascontiguousarray(values, dtype="<f4")
    with np.errstate(over="ignore"):
        bits = exact.view("<u4")
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    return np.asarray(np.where(np.isnan(exact), 0x7FC0, rounded), dtype="<u2").reshape(np.shape(values))


def numbers(datatype: Datatype, array: Array) -> Array:
    """What can be computed with: BF16 as float32, everything else as it is."""
    return widen(array) if datatype is Datatype.BF16 else array


def as_bits(value: Any) -> Array | None:
    """The bits of a BF16 array of another library (torch, ml_dtypes, jax), or None of anything else.

    Raises:
        TypeError, ValueError: it calls itself bfloat16 and cannot be read.
    """
    kind = str(getattr(value, "dtype", ""))
    if kind == "torch.bfloat16":
        return narrow(value.detach().cpu().float().numpy())  # exact both ways
    return np.ascontiguousarray(value).view("<u2") if kind == "bfloat16" else None
