"""Rows for a model of which nobody gave real ones: enough to see that it runs, and that it runs alike tomorrow."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.bf16 import narrow
from export.contracts.datatypes import Datatype
from export.contracts.signature import InputSpec, Signature
from export.images import ONE_PIXEL

Array: TypeAlias = npt.NDArray[Any]
VARIABLE = 8  # elements of a dimension that varies


def made_up_rows(signature: Signature, rows: int, seed: int = 0) -> dict[str, Array]:
    """Random rows within what the signature says: floats in the input's value range, else 0 to 1; integers 0 or 1.

    Integers stay that small because they mostly are indices, of words or classes, and the signature does not say how
    many there are. A dimension that varies gets 8 elements. Texts are "0"; encoded images are one grey pixel.

    Args:
        signature: Of what clients send.
        rows: Rows of a batched model; another gets its one sample.
        seed: The same gives the same rows.

    Example:
        >>> from export.contracts.signature import InputSpec, OutputSpec
        >>> x, y = InputSpec(name="x", datatype=Datatype.INT64, shape=(-1, -1)), OutputSpec(
        ...     name="y", datatype=Datatype.FP32, shape=(-1,)
        ... )
        >>> made_up_rows(Signature(inputs=(x,), outputs=(y,)), 3)["x"].shape
        (3, 8)
    """
    rng = np.random.default_rng(seed)
    return {spec.name: _random(spec, _shape(spec, signature.batched, rows), rng) for spec in signature.inputs}


def _shape(spec: InputSpec, batched: bool, rows: int) -> tuple[int, ...]:
    inner = tuple(VARIABLE if n < 0 else n for n in (spec.shape[1:] if batched else spec.shape))
    return (rows, *inner) if batched else inner


def _random(spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if spec.datatype is Datatype.BYTES:
        return np.full(shape, b"0" if spec.preprocess is None else ONE_PIXEL, dtype=object)
    if not spec.datatype.is_float:
        return rng.integers(0, 2, shape).astype(spec.datatype.numpy)
    low, high = spec.display.value_range or (0.0, 1.0)
    values = rng.uniform(low, high, shape).astype(np.float32)
    if spec.datatype is Datatype.BF16:
        return narrow(values)
    return values.astype(spec.datatype.numpy)
