"""The wire datatypes of the Open Inference Protocol and their numpy counterparts."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Datatype(StrEnum):
    """A tensor's element type as the protocol spells it."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def itemsize(self) -> int:
        """Bytes per element; 0 for BYTES, whose elements vary."""
        return _ITEMSIZE[self]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The little-endian numpy dtype that carries this type: BF16 travels as uint16, BYTES as object."""
        return _numpy_types()[self]

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return self in (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[np.generic]) -> Datatype:
        """The protocol's name for a numpy dtype.

        Raises:
            ValueError: for a dtype that the protocol cannot carry (complex, datetime).
        """
        if dtype.kind in "OSU":
            return cls.BYTES
        for datatype, candidate in _numpy_types().items():
            if candidate == dtype and datatype is not cls.BF16:
                return datatype
        raise ValueError(f"dtype {dtype} has no Open Inference Protocol datatype")


_ITEMSIZE: dict[Datatype, int] = {
    Datatype.BOOL: 1,
    Datatype.UINT8: 1,
    Datatype.UINT16: 2,
    Datatype.UINT32: 4,
    Datatype.UINT64: 8,
    Datatype.INT8: 1,
    Datatype.INT16: 2,
    Datatype.INT32: 4,
    Datatype.INT64: 8,
    Datatype.FP16: 2,
    Datatype.BF16: 2,
    Datatype.FP32: 4,
    Datatype.FP64: 8,
    Datatype.BYTES: 0,
}


@cache
def _numpy_types() -> dict[Datatype, np.dtype[np.generic]]:
    """Made when first needed: commands that only read manifests must not wait for numpy."""
    import numpy as np

    return {
        Datatype.BOOL: np.dtype(np.bool_),
        Datatype.UINT8: np.dtype("<u1"),
        Datatype.UINT16: np.dtype("<u2"),
        Datatype.UINT32: np.dtype("<u4"),
        Datatype.UINT64: np.dtype("<u8"),
        Datatype.INT8: np.dtype("<i1"),
        Datatype.INT16: np.dtype("<i2"),
        Datatype.INT32: np.dtype("<i4"),
        Datatype.INT64: np.dtype("<i8"),
        Datatype.FP16: np.dtype("<f2"),
        Datatype.BF16: np.dtype("<u2"),
        Datatype.FP32: np.dtype("<f4"),
        Datatype.FP64: np.dtype("<f8"),
        Datatype.BYTES: np.dtype(object),
    }
