"""Guess what outputs mean. Conservatively: monitoring reads outputs by role, so a wrong guess is worse than none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.contracts.errors import PackageError
from export.contracts.manifest import Task, TaskKind
from export.contracts.signature import InputDisplay, OutputRole, Signature

_BOX_NAMES = {
    "boxes": OutputRole.BOXES,
    "scores": OutputRole.BOX_SCORES,
    "labels": OutputRole.BOX_CLASSES,
    "classes": OutputRole.BOX_CLASSES,
    "count": OutputRole.BOX_COUNT,
    "num_detections": OutputRole.BOX_COUNT,
}
_VALUE_ROLES = {OutputRole.VALUE, OutputRole.VALUE_MEMBERS, OutputRole.VALUE_QUANTILES}
_EMBEDDING_NAMES = ("embedding", "embeddings", "features", "penultimate")


def guess_roles(outputs: Mapping[str, npt.NDArray[Any]], task: Task) -> dict[str, OutputRole]:
    """A role for each output, from real values.

    - Classification: the first float output of shape (rows, classes) is PROBABILITIES if its rows lie in 0..1 and sum
      to one, else LOGITS.
    - Multi-label: the first such output is PROBABILITIES if it lies in 0..1, else LOGITS.
    - Regression: the first float output is the VALUE, unless a role is given to another one.
    - Detection: outputs called "boxes", "scores", "labels" or "classes", and "count" or "num_detections".
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
        if task.kind is TaskKind.DETECTION and name.lower() in _BOX_NAMES:
            roles[name] = _BOX_NAMES[name.lower()]
        if array.dtype.kind != "f":
            continue
        if array.ndim == 2 and name.lower() in _EMBEDDING_NAMES:
            roles[name] = OutputRole.EMBEDDING
        elif taken:
            continue
        elif task.kind is TaskKind.CLASSIFICATION and array.ndim == 2 and array.shape[1] == len(task.class_names):
            roles[name] = OutputRole.PROBABILITIES if _are_probabilities(array) else OutputRole.LOGITS
            taken = True
        elif task.kind is TaskKind.MULTI_LABEL and array.ndim == 2 and array.shape[1] == len(task.class_names):
            inside = bool(np.isfinite(array).all() and (array >= 0).all() and (array <= 1).all())
            roles[name] = OutputRole.PROBABILITIES if inside else OutputRole.LOGITS
            taken = True
        elif task.kind is TaskKind.REGRESSION:
            roles[name] = OutputRole.VALUE
            taken = True
    return roles


def with_roles(
    signature: Signature,
    shown: Mapping[str, npt.NDArray[Any]] | None,
    task: Task,
    roles: Mapping[str, OutputRole],
    displays: Mapping[str, InputDisplay],
) -> Signature:
    """A signature with roles (given, or guessed from the outputs `shown`) and displays.

    Raises:
        PackageError: a role or display for a tensor that is not there.
    """
    for label, given, specs in (
        ("output_roles", roles, signature.outputs),
        ("displays", displays, signature.inputs),
    ):
        names = [s.name for s in specs]
        for name in given:
            if name not in names:
                raise PackageError(f"{label}: there is no '{name}' (there are: {', '.join(names)})")
    guessed = guess_roles(shown, task) if shown is not None else {}
    if set(roles.values()) & _VALUE_ROLES:  # the value follows from what is declared; another output is not guessed
        guessed = {n: OutputRole.OTHER if r is OutputRole.VALUE else r for n, r in guessed.items()}
    return replace(
        signature,
        inputs=tuple(replace(i, display=displays.get(i.name, i.display)) for i in signature.inputs),
        outputs=tuple(
            replace(o, role=roles.get(o.name, guessed.get(o.name, OutputRole.OTHER))) for o in signature.outputs
        ),
    )


def complete_task(task: Task, signature: Signature) -> Task:
    """The task with class names counted out (0, 1, ...) when it has none and a class output says how many there are."""
    if task.kind not in (TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL) or task.class_names:
        return task
    spec = signature.output_with_role(OutputRole.LOGITS, OutputRole.PROBABILITIES)
    if spec is None or len(spec.shape) != 2 or spec.shape[1] < 1:
        return task
    return replace(task, class_names=tuple(str(i) for i in range(spec.shape[1])))


def _are_probabilities(array: npt.NDArray[Any]) -> bool:
    finite = np.isfinite(array).all()
    return bool(finite and (array >= 0).all() and np.allclose(array.sum(axis=1, dtype=np.float64), 1.0, atol=1e-3))
