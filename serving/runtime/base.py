"""What a runtime is, and how one is chosen for a package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Runtime(Protocol):
    """One loaded version on one device. `run` is called from one thread at a time.

    Attributes:
        kind: "onnx" or "torchscript".
        device: Where it really runs, as measured after the load: "cpu", "cuda:0".
        provider: What executes it: "CPUExecutionProvider", "CUDAExecutionProvider", "libtorch".
    """

    kind: str
    device: str
    provider: str

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Execute one batch.

        Args:
            inputs: One C-contiguous array an input, in signature order: shape (rows, ...), the signature's numpy
                dtype (BYTES: object arrays of `bytes`).
            outputs: Indices into the signature's outputs.

        Returns:
            One C-contiguous array a wanted output, in that order. The caller may keep them.

        Raises:
            ModelFailed: the framework raised; the text is public.
        """
        ...

    def close(self) -> None:
        """Give the memory back. Afterwards `run` must not be called."""
        ...


def as_contiguous(array: Array, dtype: np.dtype[Any]) -> Array:
    """`array` with the given dtype and C order, copied only when it has to be."""
    return np.ascontiguousarray(array, dtype=dtype)
