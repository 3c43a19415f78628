"""Callables that run a module or a model file on named arrays, for parity, golden cases and references.

These are for export on the CPU, one call at a time. Serving has its own runtimes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.bf16 import as_bits
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.signature import Signature
from export.images import encoded_rows, in_order

Array: TypeAlias = npt.NDArray[Any]
Runner: TypeAlias = Callable[[Mapping[str, Array]], dict[str, Array]]


def in_batches(runner: Runner, inputs: Mapping[str, Array], rows_each: int = 256) -> dict[str, Array]:
    """Run all rows of `inputs` in batches of at most `rows_each` and join the outputs along axis 0."""
    rows = len(next(iter(inputs.values())))
    parts = [runner({k: v[i : i + rows_each] for k, v in inputs.items()}) for i in range(0, rows, rows_each)]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def named_arrays(given: Any, signature: Signature, label: str) -> dict[str, Array]:
    """Arrays by input name, in the signature's datatypes and shapes, from a mapping, a sequence or one array.

    Raises:
        PackageError: something does not fit the signature; the text names the input.
    """
    names = [i.name for i in signature.inputs]
    given = in_order(given, encoded=signature.preprocesses)
    if isinstance(given, Mapping):
        found = dict(given)
    else:
        values = list(given) if isinstance(given, tuple | list) else [given]
        found = dict(zip(names, values, strict=False)) if len(values) == len(names) else {}
    if sorted(found) != sorted(names):
        raise PackageError(f"{label}: expected the inputs {', '.join(names)}")
    out: dict[str, Array] = {}
    for spec in signature.inputs:
        given_rows = found[spec.name]
        bits = as_bits(given_rows) if spec.datatype is Datatype.BF16 else None
        if bits is not None:
            array = bits
        else:
            array = encoded_rows(given_rows) if spec.preprocess is not None else np.ascontiguousarray(given_rows)
        fits = array.ndim == len(spec.shape) and all(
            s in (-1, n) for s, n in zip(spec.shape, array.shape, strict=False)
        )
        if array.dtype != spec.datatype.numpy or not fits:
            raise PackageError(
                f"{label}: input '{spec.name}' is {array.dtype} {list(array.shape)}, "
                f"the signature says {spec.datatype} {list(spec.shape)}"
            )
        out[spec.name] = array
    if signature.batched and (len({len(a) for a in out.values()}) != 1 or not len(next(iter(out.values())))):
        raise PackageError(f"{label}: inputs have no rows, or differ in their number")
    return out


def first_line(error: BaseException) -> str:
    """The first line of an error's text without file names, at most 200 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(word for word in lines[0].split() if "/" not in word)[:200]
