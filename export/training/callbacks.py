"""Callbacks of other training libraries: they tell the run how it goes, and export a package at the end.

    trainer = lightning.Trainer(callbacks=[lightning_callback(run, lambda module: module.net)])
    trainer = transformers.Trainer(..., callbacks=[hugging_face_callback(run, only_logits)])
    learner.fit_one_cycle(5, cbs=[fastai_callback(run)])
    runner.train(..., callbacks=[CatalystCallback(run)])

Each takes the run and, where the trained object is not the module to be exported, a function that makes one of it. They
call `run.done()`, so the program has nothing left to do. Libraries are imported when their callback is made.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

from export.training.run import TrainingRun

Pick: TypeAlias = Callable[[Any], Any]


class Reporter:
    """What all callbacks do: say figures under names that events may have, and finish.

    Args:
        run: Of the trainer.
        pick: Trained object to the module that is exported.
        export: Other arguments of `TrainingRun.export`.
    """

    def __init__(self, run: TrainingRun, pick: Pick | None = None, export: Mapping[str, Any] | None = None) -> None:
        self.run = run
        self._pick = pick or (lambda trained: trained)
        self._export = dict(export or {})

    def figures(self, found: Mapping[str, Any], step: int | None) -> None:
        """Say every number among these."""
        for name, value in scalars(found):
            self.run.metric(name, value, step)

    def finish(self, trained: Any) -> None:
        """Export, and say that it is done."""
        self.run.export(self._pick(trained), **self._export)
        self.run.done()


def scalars(found: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Names fit for events, and numbers: of Python, numpy or zero-dimensional tensors.

    Example:
        >>> list(scalars({"eval/loss": 0.5, "lr-AdamW": 1, "best": True, "model": object(), "%": 2}))
        [('eval/loss', 0.5), ('lr-AdamW', 1.0), ('_', 2.0)]
    """
    for name, value in found.items():
        number = value.item() if callable(getattr(value, "item", None)) and getattr(value, "ndim", 1) == 0 else value
        if str(number) not in ("True", "False") and isinstance(number, numbers.Real):
            kept = "".join(c if c.isascii() and (c.isalnum() or c in "_./ -") else "_" for c in name)[:64]
            yield kept if kept[:1].isalnum() else f"_{kept[1:]}", float(number)


def lightning_callback(run: TrainingRun, pick: Pick | None = None, **export: Any) -> Any:
    """For `lightning.pytorch.Trainer` (Lightning 2): `trainer.callback_metrics` after every epoch.

    Args:
        run: Of the trainer.
        pick: LightningModule to the module that is exported; default: the LightningModule.
        export: Other arguments of `TrainingRun.export`.
    """
    name = "lightning.pytorch" if find_spec("lightning") else "pytorch_lightning"
    base: Any = import_module(name).Callback

    class HardcaseCallback(base):  # type: ignore[misc]  # the library may not be installed where types are checked
        """Tells a `TrainingRun` how it goes."""

        def __init__(self) -> None:
            super().__init__()
            self._to = Reporter(run, pick, export)

        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            """Say what the validation found."""
            if not trainer.sanity_checking:
                self._to.figures(trainer.callback_metrics, trainer.current_epoch + 1)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            """Say what the epoch found; a run that shall stop stops here."""
            self._to.figures(trainer.callback_metrics, trainer.current_epoch + 1)
            most = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
            run.progress(trainer.current_epoch + 1, most)

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            """Export; one process of several does."""
            if trainer.is_global_zero:
                self._to.finish(pl_module)

    return HardcaseCallback()


def hugging_face_callback(run: TrainingRun, pick: Pick | None = None, **export: Any) -> Any:
    """For `transformers.Trainer`: what it logs, and its model at the end.

    Args:
        run: Of the trainer.
        pick: The model to the module that is exported; needed where it returns a `ModelOutput` of many fields.
        export: Other arguments of `TrainingRun.export`.
    """
    base: Any = import_module("transformers").TrainerCallback

    class HardcaseCallback(base):  # type: ignore[misc]  # as above
        """Tells a `TrainingRun` how it goes."""

        def __init__(self) -> None:
            self._to = Reporter(run, pick, export)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            """Say what is logged."""
            if state.is_world_process_zero:
                self._to.figures(logs or {}, state.global_step)
                run.progress(state.global_step, state.max_steps if state.max_steps > 0 else None)

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
            """Stop where somebody wants it to end."""
            if run.stopping:
                control.should_training_stop = True
            return control

        def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            """Export; one process of several does."""
            if state.is_world_process_zero:
                self._to.finish(model)

    return HardcaseCallback()


def fastai_callback(run: TrainingRun, pick: Pick | None = None, **export: Any) -> Any:
    """For `fastai.learner.Learner`: the recorder's figures after every epoch.

    Args:
        run: Of the trainer.
        pick: `learn.model` to the module that is exported; default: as it is.
        export: Other arguments of `TrainingRun.export`.
    """
    base: Any = import_module("fastai.callback.core").Callback
    recorder: Any = import_module("fastai.learner").Recorder

    class HardcaseCallback(base):  # type: ignore[misc]  # as above
        """Tells a `TrainingRun` how it goes."""

        order = recorder.order + 1  # its figures are there then
        run_valid = True

        def __init__(self) -> None:
            super().__init__()
            self._to = Reporter(run, pick, export)

        def after_epoch(self) -> None:
            """Say what the epoch found."""
            names = self.learn.recorder.metric_names[1:-1]  # without epoch and time
            self._to.figures(dict(zip(names, self.learn.recorder.log[1:], strict=False)), self.learn.epoch + 1)
            run.progress(self.learn.epoch + 1, self.learn.n_epoch)

        def after_fit(self) -> None:
            """Export; not after `lr_find` or a prediction, which fit and predict in the same way."""
            if not hasattr(self.learn, "lr_finder") and not hasattr(self.learn, "gather_preds"):
                self._to.finish(self.learn.model)

    return HardcaseCallback()


class CatalystCallback:
    """For runners in the way of Catalyst: an object with `epoch_metrics`, `epoch_step`, `num_epochs` and `model`.

    Catalyst calls `on_..._start(runner)` and `on_..._end(runner)` by name, and orders callbacks by `order`; so do many
    loops of people's own. Nothing is imported.

    Args:
        run: Of the trainer.
        pick: `runner.model` to the module that is exported; default: as it is.
        export: Other arguments of `TrainingRun.export`.
    """

    order = 120  # CallbackOrder.External: after metrics and checkpoints

    def __init__(self, run: TrainingRun, pick: Pick | None = None, **export: Any) -> None:
        self._to = Reporter(run, pick, export)

    def on_epoch_end(self, runner: Any) -> None:
        """Say what the epoch found: `{loader: {metric: value}}`, or one level of it."""
        flat: dict[str, Any] = {}
        for loader, found in runner.epoch_metrics.items():
            if isinstance(found, Mapping):
                flat |= {f"{loader.strip('_')}/{name}": value for name, value in found.items()}
            else:
                flat[loader] = found
        self._to.figures(flat, runner.epoch_step)
        self._to.run.progress(runner.epoch_step, getattr(runner, "num_epochs", None))

    def on_experiment_end(self, runner: Any) -> None:
        """Export."""
        self._to.finish(runner.model)

    def __getattr__(self, name: str) -> Any:
        """Every other moment that a runner may tell of: nothing is done."""
        if name.startswith("on_"):
            return lambda runner: None
        raise AttributeError(name)
