"""Regression: values, how far they scatter, and P(|error| > tolerance) from that, without residuals in production.

The scatter is an ensemble's spread, the width between predicted quantiles, the model's own standard deviation, or the
distance of the embedding from the reference. On the reference it is turned into an expected error, and errors divided
by their expectation (normalised nonconformity) into a distribution: that gives P(wrong) for any tolerance, and an
interval with the coverage of split conformal prediction.

References:
    Papadopoulos et al., "Inductive Confidence Machines for Regression", ECML 2002.
    Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 2018, section 5.2 (locally weighted).
    Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation", NeurIPS 2017 (ensembles).
    Romano, Patterson & Candes, "Conformalized Quantile Regression", NeurIPS 2019 (quantiles).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.answers.outputs import by_role, one_by_role
from export.contracts.answers.reference import AnswerReference
from export.contracts.signature import OutputRole, Signature
from export.contracts.task import Task

LEVELS = np.linspace(0.0, 1.0, 1001)
INTERVAL = 0.9  # coverage of the interval that a case shows
Array: TypeAlias = npt.NDArray[Any]
Float64s: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Values:
    """Answers of a regression: `value` (rows, values); `spread` likewise, or None where the outputs say nothing."""

    value: Float64s
    spread: Float64s | None


def read_values(signature: Signature, task: Task, outputs: Mapping[str, Array]) -> Values | None:
    """The values and their scatter; None when no value was recorded.

    The value is the VALUE output, else the mean of the ensemble, else the quantile nearest to the median. The scatter
    is the first that there is of: members, quantiles, the model's own spread.

    Raises:
        ValueError: shapes that do not fit together.
    """
    given = one_by_role(signature, outputs, OutputRole.VALUE)
    value = None if given is None else _flat(given)
    spread: Float64s | None = None
    members = by_role(signature, outputs, OutputRole.VALUE_MEMBERS)
    quantiles = one_by_role(signature, outputs, OutputRole.VALUE_QUANTILES)
    own = one_by_role(signature, outputs, OutputRole.VALUE_SPREAD)
    if members:
        stack = _members(members)  # (rows, member, value)
        spread = stack.std(axis=1)
        value = stack.mean(axis=1) if value is None else value
    elif quantiles is not None and task.quantiles is not None:
        levels = np.array(task.quantiles)
        if quantiles.shape[-1] != len(levels):
            raise ValueError(f"{quantiles.shape[-1]} quantiles for {len(levels)} levels")
        grid = quantiles.reshape(len(quantiles), -1, len(levels))  # (rows, value, level)
        spread = np.abs(grid[:, :, -1] - grid[:, :, 0])
        value = grid[:, :, int(np.argmin(np.abs(levels - 0.5)))] if value is None else value
    elif own is not None:
        spread = np.abs(_flat(own))
    if value is not None and spread is not None and spread.shape != value.shape:
        if spread.shape[1] != 1:
            raise ValueError(f"a spread of shape {list(spread.shape)} for values of {list(value.shape)}")
        spread = np.broadcast_to(spread, value.shape)
    return None if value is None else Values(value=value, spread=spread)


def scatter(values: Values, unit: Float64s, distance: Float64s | None) -> Float64s:
    """One number a row, (rows,): the largest spread in units of its value, else the embedding's distance, else 0."""
    if values.spread is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray((values.spread / unit).max(axis=1), dtype=np.float64)
    return np.zeros(len(values.value)) if distance is None else np.asarray(distance, dtype=np.float64)


def expected_error(reference: AnswerReference, scattered: Float64s) -> Float64s:
    """Expected size of the largest error in units, (rows,)."""
    assert reference.scale is not None
    return np.asarray(reference.scale[0] + reference.scale[1] * scattered, dtype=np.float64)


def p_wrong(reference: AnswerReference, expected: Float64s, tolerance: float) -> Float64s:
    """P(largest |error| > tolerance), both in units, (rows,); NaN where the expectation is not finite.

    Between the reference's ratios by its quantiles; beyond the largest and below the smallest the last share, which
    is 1 / (rows + 1), falls off in proportion, so that the order of rows is kept.
    """
    assert reference.ratios is not None
    grid, least = np.asarray(reference.ratios, dtype=np.float64), 1.0 / (reference.rows + 1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x = tolerance / expected
        above = np.clip(1.0 - np.interp(x, grid, LEVELS), least, 1.0 - least)
        above = np.where(x > grid[-1], least * grid[-1] / x, above)
        above = np.where(x < grid[0], 1.0 - least * x / max(grid[0], 1e-300), above)
    return np.where(np.isfinite(expected), above, np.nan)


def half_width(reference: AnswerReference, expected: Float64s) -> Float64s | None:
    """Half the `INTERVAL` interval of each value, (rows, values)."""
    if reference.ratios is None or reference.unit is None:
        return None
    level = min(1.0, INTERVAL * (reference.rows + 1) / max(reference.rows, 1))
    width = float(np.interp(level, LEVELS, reference.ratios))
    return np.asarray(width * expected[:, None] * reference.unit[None, :], dtype=np.float64)


def _members(members: list[Float64s]) -> Float64s:
    """(rows, member, value) from one output with a member axis, or from one output a member."""
    if len(members) > 1:
        flat = [_flat(m) for m in members]
        if len({m.shape for m in flat}) != 1:
            raise ValueError("the ensemble's outputs differ in shape")
        return np.stack(flat, axis=1)
    (only,) = members
    if only.ndim < 2:
        raise ValueError("an ensemble's output needs a member axis")
    return only.reshape(len(only), only.shape[1], -1)


def _flat(array: Float64s) -> Float64s:
    return array.reshape(len(array), int(np.prod(array.shape[1:], dtype=np.int64)))
