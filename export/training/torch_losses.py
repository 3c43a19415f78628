"""Losses and figures of the tasks that the ready-made loop trains: classes, several labels, values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from export.contracts.task import Task, TaskKind
from export.dataset import Rows


class Loss(Protocol):
    """One loss a row."""

    def __call__(self, outputs: Any, labels: Tensor) -> Tensor:
        """Losses (rows,) of a module's outputs."""


def first(outputs: Any) -> Tensor:
    """The tensor that the loss is taken of: the first output."""
    if isinstance(outputs, Mapping):
        outputs = next(iter(outputs.values()))
    elif isinstance(outputs, tuple | list):
        outputs = outputs[0]
    if not isinstance(outputs, Tensor):
        raise ValueError(f"the module returned {type(outputs).__name__}, not a tensor")
    return outputs


def loss_for(task: Task) -> Loss:
    """The task's loss.

    Raises:
        ValueError: the task has none that is ready-made.
    """
    if task.kind is TaskKind.CLASSIFICATION:
        return lambda outputs, labels: nn.functional.cross_entropy(first(outputs), labels, reduction="none")
    if task.kind is TaskKind.MULTI_LABEL:
        return _several
    if task.kind is TaskKind.REGRESSION:
        return _values
    raise ValueError(f"there is no ready-made loss for a task of kind '{task.kind}': pass `loss`")


def _several(outputs: Any, labels: Tensor) -> Tensor:
    scores = first(outputs)  # (rows, classes)
    return nn.functional.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype), reduction="none").mean(1)


def _values(outputs: Any, labels: Tensor) -> Tensor:
    values = first(outputs)
    wanted = labels.to(values.dtype).reshape(values.shape)
    return nn.functional.mse_loss(values, wanted, reduction="none").flatten(1).mean(1)


def inputs_of(rows: Rows, names: Sequence[str], task: Task, device: str) -> tuple[list[Tensor], Tensor]:
    """Inputs in the signature's order, and labels.

    Raises:
        ValueError: a tensor's shape differs from row to row, or labels are no numbers.
    """
    made = []
    for name in names:
        array = rows.inputs[name]
        if array.dtype == object:
            raise ValueError(f"rows of input '{name}' differ in shape, or are encoded: write a loop of your own")
        made.append(torch.from_numpy(np.ascontiguousarray(array).copy()).to(device))
    if not isinstance(rows.labels, np.ndarray) or rows.labels.dtype == object:
        raise ValueError(f"labels of a task of kind '{task.kind}' are no numbers: write a loop of your own")
    return made, torch.from_numpy(rows.labels.copy()).to(device)


@torch.no_grad()
def figures(
    module: nn.Module, rows: Rows, names: Sequence[str], task: Task, loss: Loss, device: str, batch: int = 256
) -> dict[str, float]:
    """`val_loss`, and of a classification `val_accuracy`, both weighted by the rows' weights."""
    module.eval()
    inputs, labels = inputs_of(rows, names, task, device)
    weights = torch.from_numpy(np.asarray(rows.weights, dtype=np.float64)).to(device)
    losses, right = [], []
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        outputs = module(*(tensor[part] for tensor in inputs))
        losses.append(loss(outputs, labels[part]).to(torch.float64))
        if task.kind is TaskKind.CLASSIFICATION:
            right.append((first(outputs).argmax(1) == labels[part]).to(torch.float64))
    total = weights.sum()
    found = {"val_loss": float((torch.cat(losses) * weights).sum() / total)}
    if right:
        found["val_accuracy"] = float((torch.cat(right) * weights).sum() / total)
    return found
