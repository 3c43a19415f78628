"""Reading outputs as rows."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.datatypes import Datatype
from export.contracts.signature import OutputSpec
from monitoring.batches import Batch

Array: TypeAlias = npt.NDArray[Any]


def flat_output(batch: Batch, spec: OutputSpec | None) -> Array | None:
    """An output as (rows, features), or None when it was not recorded."""
    array = None if spec is None else batch.outputs.get(spec.name)
    if array is None or spec is None or array.dtype == object:
        return None
    flat = array.reshape(len(array), -1)
    if spec.datatype is Datatype.BF16:  # travels as the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


def first_value(batch: Batch, spec: OutputSpec | None) -> npt.NDArray[np.float64] | None:
    """The first number of each row of an output, (rows,), or None."""
    values = flat_output(batch, spec)
    return None if values is None or not values.shape[1] else np.asarray(values[:, 0], dtype=np.float64)


def unknown(rows: int) -> npt.NDArray[np.float32]:
    """What is not known, (rows,)."""
    return np.full(rows, np.nan, dtype=np.float32)


def number(value: Any) -> float | None:
    """A number for JSON, or None where it is not finite."""
    plain = float(value)
    return plain if np.isfinite(plain) else None
