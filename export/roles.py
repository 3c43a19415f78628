"""Guess what outputs mean. Conservatively: monitoring reads outputs by role, so a wrong guess is worse than none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.contracts.manifest import Task, TaskKind
from export.contracts.signature import OutputRole

_EMBEDDING_NAMES = ("embedding", "embeddings", "features", "penultimate")


def guess_roles(outputs: Mapping[str, npt.NDArray[Any]], task: Task) -> dict[str, OutputRole]:
    """A role for each output, from real values.

    - Classification: the first float output of shape (rows, classes) is PROBABILITIES if its rows lie in 0..1 and sum
      to one, else LOGITS.
    - Regression: the first float output is the VALUE.
    - A float matrix that is called "embedding" or "features" is the EMBEDDING.
    - Everything else is OTHER: answered, recorded, not interpreted.

    Example:
        >>> task = Task(kind=TaskKind.CLASSIFICATION, class_names=("a", "b"))
        >>> guess_roles({"y": np.array([[2.0, -1.0]]), "z": np.array([1])}, task)["y"].value
        'logits'
    """
    roles: dict[str, OutputRole] = dict.fromkeys(outputs, OutputRole.OTHER)
    taken = False
    for name, array in outputs.items():
        if array.dtype.kind != "f":
            continue
        if array.ndim == 2 and name.lower() in _EMBEDDING_NAMES:
            roles[name] = OutputRole.EMBEDDING
        elif taken:
            continue
        elif task.kind is TaskKind.CLASSIFICATION and array.ndim == 2 and array.shape[1] == len(task.class_names):
            roles[name] = OutputRole.PROBABILITIES if _are_probabilities(array) else OutputRole.LOGITS
            taken = True
        elif task.kind is TaskKind.REGRESSION:
            roles[name] = OutputRole.VALUE
            taken = True
    return roles


def _are_probabilities(array: npt.NDArray[Any]) -> bool:
    finite = np.isfinite(array).all()
    return bool(finite and (array >= 0).all() and np.allclose(array.sum(axis=1, dtype=np.float64), 1.0, atol=1e-3))
