"""A snapshot's rows as a PyTorch data set. The only file of this package that imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from export.dataset.rows import Array, Rows


class TorchRows(torch.utils.data.Dataset[tuple[dict[str, Any], Any, float]]):
    """Items are (inputs by name, label, weight); tensors where they are numbers. The default collation stacks them.

    Attributes:
        arrays: The rows behind it.
    """

    def __init__(self, arrays: Rows) -> None:
        self.arrays = arrays
        self.inputs = {name: _tensor(array) for name, array in arrays.inputs.items()}
        self.labels = _tensor(arrays.labels) if isinstance(arrays.labels, np.ndarray) else arrays.labels

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], Any, float]:
        """One row."""
        inputs = {name: _item(values, index) for name, values in self.inputs.items()}
        return inputs, self.labels[index], float(self.arrays.weights[index])


def _tensor(array: Array) -> Any:
    """A tensor where the elements are numbers that torch has; a copy, because the file's bytes are read-only."""
    return array if array.dtype == object else torch.from_numpy(array.copy())


def _item(values: Any, index: int) -> Any:
    value = values[index]
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) and value.dtype != object else value
