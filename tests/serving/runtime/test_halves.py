"""A batch that runs out of memory is split once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.contracts.errors import ModelFailed
from serving.runtime.base import OutOfMemory
from serving.runtime.halves import run_or_halve


class Limited:
    """Doubles its input; more than `fits` rows do not fit."""

    def __init__(self, fits: int, error: Exception | None = None) -> None:
        self.fits, self.error, self.rows = fits, error or OutOfMemory(), []

    def run(self, inputs: Any, outputs: Any) -> Any:
        self.rows.append(len(inputs[0]))
        if len(inputs[0]) > self.fits:
            raise self.error
        return [np.ascontiguousarray(inputs[i] * 2) for i in outputs]


def test_halves_are_joined_in_order() -> None:
    x, y = np.arange(14.0).reshape(7, 2), np.arange(7)
    limited = Limited(4)
    answers = run_or_halve(limited, [x, y], (1, 0))  # type: ignore[arg-type]
    assert limited.rows == [7, 4, 3]
    np.testing.assert_array_equal(answers[0], y * 2)
    np.testing.assert_array_equal(answers[1], x * 2)


def test_a_half_that_does_not_fit_is_the_end() -> None:
    limited = Limited(2)
    with pytest.raises(OutOfMemory):
        run_or_halve(limited, [np.zeros((8, 1))], (0,))  # type: ignore[arg-type]
    assert limited.rows == [8, 4]


def test_one_row_and_other_errors_are_not_tried_again() -> None:
    for limited, rows in ((Limited(0), 1), (Limited(2, ModelFailed("no")), 8)):
        with pytest.raises((OutOfMemory, ModelFailed)):
            run_or_halve(limited, [np.zeros((rows, 1))], (0,))  # type: ignore[arg-type]
        assert limited.rows == [rows]
