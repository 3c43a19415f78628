"""A training loop for PyTorch modules: row and class weights, early stopping, the best weights, cosine schedule, EMA.

    with TrainingRun.open(sys.argv) as run:
        module = Net()
        fitted = fit(run, module, options=LoopOptions(epochs=20))
        run.export(module, metrics=fitted.metrics)
        run.done()

Everything random comes from the request's seed. On one machine, with one number of threads, the same request gives the
same weights.

References:
    Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5 (cosine schedule); Polyak and Juditsky, 1992 (averaged weights);
    King and Zeng, Political Analysis 2001 (weights inverse to class frequency).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from export.contracts.dataset import Split
from export.contracts.task import Task
from export.dataset import Rows
from export.training.run import TrainingRun
from export.training.sampling import order_of, rate_of, row_weights
from export.training.torch_losses import Loss, figures, inputs_of, loss_for

Batch: TypeAlias = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How to train.

    Attributes:
        epochs: Passes over the rows, at most.
        batch_rows: Rows of a step.
        learning_rate: Highest of the schedule.
        weight_decay: Of AdamW.
        warmup: Share of the steps in which the rate climbs; then it falls as half a cosine, to `last_rate`.
        last_rate: Share of `learning_rate` that is left at the end.
        clip_norm: Largest norm of a step's gradient; 0 does not look.
        patience: Epochs without a better validation figure until it stops; 0: never.
        watch: Figure that decides which weights are the best: `val_loss` or `val_accuracy`.
        balanced: Weigh rows inversely to how often their class occurs.
        new_share: Share of the rows of each epoch that are not base rows, drawn again and again where they are few;
            None takes all rows as they are.
        ema: Decay of the averaged weights, such as 0.99, which then are the result; 0: none.
        threads: Of torch while it trains; 0 leaves them.
    """

    epochs: int = 30
    batch_rows: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    last_rate: float = 0.01
    clip_norm: float = 1.0
    patience: int = 8
    watch: str = "val_loss"
    balanced: bool = False
    new_share: float | None = None
    ema: float = 0.0
    threads: int = 1


@dataclass(kw_only=True)
class Epoch:
    """What callbacks see after an epoch, and may change: `stop` ends the training.

    Attributes:
        best: Whether these are the best weights so far.
    """

    number: int
    module: nn.Module
    figures: Mapping[str, float]
    best: bool
    stop: bool = False


class Callback(Protocol):
    """Called after every epoch."""

    def __call__(self, epoch: Epoch) -> None:
        """Look, and stop it perhaps."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """How it went.

    Attributes:
        metrics: Of the best weights, which the module has now.
        epochs: How many there were.
    """

    metrics: dict[str, float]
    epochs: int


def fit(
    run: TrainingRun,
    module: nn.Module,
    *,
    train: Rows | None = None,
    validation: Rows | None = None,
    options: LoopOptions | None = None,
    loss: Loss | None = None,
    callbacks: Sequence[Callback] = (),
    device: str = "cpu",
) -> Fitted:
    """Train a module, and leave the best weights in it.

    Args:
        run: Whose seed, snapshot and events are used.
        module: Takes the signature's inputs by position; its first output is what the loss is taken of.
        train: Default: split `train` of the snapshot.
        validation: Default: split `validation`, or else `test`.
        options: How.
        loss: Outputs (rows, ...) and labels to one loss a row; default: that of the task.
        callbacks: After each epoch, in order.
        device: Where it is trained.

    Raises:
        ValueError: there are no rows, or the watched figure is none of the validation's.
        TrainingStopped: somebody wants it to end.
    """
    asked, snapshot = options or LoopOptions(), run.snapshot
    rows = train if train is not None else snapshot.arrays(Split.TRAIN)
    held_out = validation if validation is not None else _held_out(run)
    if not len(rows):
        raise ValueError("there are no rows to train on")
    names = [spec.name for spec in snapshot.manifest.signature.inputs]
    made = _Fit(run, module.to(device), rows, held_out, names, asked, snapshot.manifest.task, loss, device)
    threads = torch.get_num_threads()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    try:
        return made.run(callbacks)
    finally:
        torch.set_num_threads(threads)


def _held_out(run: TrainingRun) -> Rows | None:
    for split in (Split.VALIDATION, Split.TEST):
        if run.snapshot.manifest.splits.get(split.value):
            return run.snapshot.arrays(split)
    run.note("there is no validation split: the last weights are taken, and nothing stops the training early")
    return None


@dataclass
class _Fit:
    """The loop's state."""

    _run: TrainingRun
    module: nn.Module
    rows: Rows
    held_out: Rows | None
    names: Sequence[str]
    options: LoopOptions
    task: Task
    loss: Loss | None
    device: str
    _best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._generator = np.random.default_rng(self._run.request.seed)
        self._loss = self.loss or loss_for(self.task)
        self._inputs, self._labels = inputs_of(self.rows, self.names, self.task, self.device)
        self._weights = torch.from_numpy(row_weights(self.rows, balanced=self.options.balanced)).to(self.device)
        self._averaged = copy.deepcopy(self.module) if self.options.ema else None

    def run(self, callbacks: Sequence[Callback]) -> Fitted:
        asked = self.options
        per_epoch = math.ceil(len(self.rows) / asked.batch_rows)
        optimiser = torch.optim.AdamW(
            self.module.parameters(), lr=asked.learning_rate, weight_decay=asked.weight_decay, foreach=False
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, rate_of(per_epoch * asked.epochs, asked.warmup, asked.last_rate)
        )
        best, since, metrics, number = math.inf, 0, dict[str, float](), 0
        for number in range(1, asked.epochs + 1):
            metrics_now = {"train_loss": self._epoch(optimiser, schedule)}
            judged = self._averaged or self.module
            if self.held_out is not None:
                metrics_now |= figures(judged, self.held_out, self.names, self.task, self._loss, self.device)
            for name, value in metrics_now.items():
                self._run.metric(name, value, number)
            score = self._score(metrics_now, number)
            better = score < best or not self._best
            if better:
                best, since, metrics = score, 0, metrics_now
                self._best = {name: value.detach().clone() for name, value in judged.state_dict().items()}
            else:
                since += 1
            self._run.progress(number, asked.epochs, f"epoch {number}")
            said = Epoch(number=number, module=judged, figures=metrics_now, best=better)
            for callback in callbacks:
                callback(said)
            if asked.patience and since >= asked.patience:
                self._run.note(f"stopped after epoch {number}: {since} epochs without a better {asked.watch}")
                break
            if said.stop:
                self._run.note(f"stopped after epoch {number}: a callback asked for it")
                break
        self.module.load_state_dict(self._best)
        self.module.eval()
        return Fitted(metrics=metrics, epochs=number)

    def _epoch(self, optimiser: torch.optim.Optimizer, schedule: Any) -> float:
        self.module.train()
        total = weight = 0.0
        for chosen in self._batches():
            index = torch.as_tensor(np.asarray(chosen), device=self.device)
            optimiser.zero_grad()
            answered = self.module(*(tensor[index] for tensor in self._inputs))
            losses = self._loss(answered, self._labels[index])  # (rows,)
            weights = self._weights[index].to(losses.dtype)
            step = (losses * weights).sum() / weights.sum().clamp_min(1e-12)
            if not torch.isfinite(step):
                raise ValueError("the loss is no longer a number: the training has diverged")
            step.backward()  # type: ignore[no-untyped-call]  # torch declares no types here
            if self.options.clip_norm:
                nn.utils.clip_grad_norm_(self.module.parameters(), self.options.clip_norm, foreach=False)
            optimiser.step()
            schedule.step()
            self._average()
            total += float(step.detach()) * len(chosen)
            weight += len(chosen)
        return total / weight

    def _batches(self) -> Iterator[Batch]:
        order = order_of(self.rows.sources, self.options.new_share, self._generator)
        for start in range(0, len(order), self.options.batch_rows):
            yield order[start : start + self.options.batch_rows]

    def _average(self) -> None:
        if self._averaged is None:
            return
        with torch.no_grad():
            for kept, now in zip(self._averaged.state_dict().values(), self.module.state_dict().values(), strict=True):
                if kept.dtype.is_floating_point:
                    kept.lerp_(now, 1.0 - self.options.ema)
                else:
                    kept.copy_(now)

    def _score(self, found: Mapping[str, float], number: int) -> float:
        """Smaller is better; without a validation split every epoch is better than the one before."""
        if self.held_out is None:
            return -float(number)
        if self.options.watch not in found:
            raise ValueError(f"'{self.options.watch}' is none of {', '.join(sorted(found))}")
        value = found[self.options.watch]
        return value if self.options.watch.endswith("loss") else -value
