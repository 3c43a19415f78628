"""Parts of a batch come together in the runtime's own memory, whatever they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from serving.execution import _fill
from tests.support.packages import random_tensor


@pytest.mark.parametrize("datatype", [d for d in Datatype if d is not Datatype.BYTES])
def test_views_and_arrays_small_and_large_are_joined(datatype: Datatype) -> None:
    width = 300_000 // datatype.itemsize
    arrays = [random_tensor(datatype, (rows, width), rows) for rows in (1, 5, 2)]
    parts: list[Any] = [memoryview(arrays[0].tobytes()), memoryview(bytearray(arrays[1].tobytes())), arrays[2]]
    staging = np.zeros((8, width), datatype.numpy)
    _fill(staging, parts)
    assert staging.tobytes() == b"".join(a.tobytes() for a in arrays)


def test_parts_that_do_not_fit_are_an_error() -> None:
    for size in (12, 2 << 20):
        with pytest.raises(ValueError, match=r"."):
            _fill(np.zeros(8, np.uint8), [memoryview(bytes(size))])
