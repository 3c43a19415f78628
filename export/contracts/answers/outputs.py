"""Outputs by role, as float64 rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.bf16 import numbers
from export.contracts.signature import OutputRole, OutputSpec, Signature

Array: TypeAlias = npt.NDArray[Any]
Float64s: TypeAlias = npt.NDArray[np.float64]


def by_role(signature: Signature, outputs: Mapping[str, Array], role: OutputRole) -> list[Float64s]:
    """Every output of a role that is there, (rows, ...) float64 each."""
    found = [spec for spec in signature.outputs if spec.role is role]
    return [_numbers(spec, outputs[spec.name]) for spec in found if _usable(outputs.get(spec.name))]


def one_by_role(signature: Signature, outputs: Mapping[str, Array], role: OutputRole) -> Float64s | None:
    """The first output of a role, or None."""
    found = by_role(signature, outputs, role)
    return found[0] if found else None


def _usable(array: Array | None) -> bool:
    return array is not None and array.dtype != object


def _numbers(spec: OutputSpec, array: Array) -> Float64s:
    return np.asarray(numbers(spec.datatype, array), dtype=np.float64)
