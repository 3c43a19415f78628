"""What a trainer says, to Weights & Biases as well (`pip install hardcase[wandb]`).

    with TrainingRun.open(sys.argv) as run, WandbLogger(run, project="digits"):
        run.metric("val_accuracy", 0.93, step=3)        # goes to both

With `WANDB_MODE=offline` nothing leaves the machine: the run lies in the output folder, and `wandb sync` sends it
later. A W&B that cannot be reached costs the training nothing: what it does not take is dropped there, never here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from export.contracts.errors import PackageError

if TYPE_CHECKING:
    from export.training.run import TrainingRun

_log = logging.getLogger("hardcase.training")


class WandbLogger(AbstractContextManager["WandbLogger"]):
    """A run at W&B beside the trainer's own.

    Its id is the training's, so a training that is started again goes on in the same run.

    Args:
        run: Of the trainer.
        project: At W&B; default: the model's name.
        entity: Team or user; default: W&B's own setting.
        tags: For the run.
    """

    def __init__(
        self, run: TrainingRun, *, project: str = "", entity: str | None = None, tags: tuple[str, ...] = ()
    ) -> None:
        try:
            import wandb
        except ImportError:
            raise PackageError("wandb is not installed: pip install 'hardcase[wandb]'") from None
        asked = run.request
        config: dict[str, Any] = {
            **asked.parameters,
            "seed": asked.seed,
            "model": asked.model,
            "version": asked.version,
            "snapshot": asked.snapshot_digest,
            "parent_version": asked.parent_version,
            "training": asked.id,
        }
        self._wandb: Any = wandb
        self._run: Any = wandb.init(
            project=project or asked.model,
            entity=entity,
            id=asked.id,
            name=f"{asked.model} {asked.version}",
            notes=asked.reason,
            tags=tags,
            resume="allow",
            dir=str(run.output),
            config=config,
        )
        self._run.define_metric("*", step_metric="step")
        self._forget = run.listen(self._take)

    def _take(self, name: str, value: float, step: int | None) -> None:
        """A metric, as the trainer said it."""
        if not math.isfinite(value):
            return
        try:
            self._run.log({name: value} | ({} if step is None else {"step": step}))
        except self._wandb.Error as error:
            _log.warning("W&B did not take '%s': %s", name, type(error).__name__)

    def summary(self, figures: Mapping[str, float]) -> None:
        """Figures of the end."""
        self._run.summary.update(dict(figures))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the run: as finished, or as failed."""
        self._forget()
        self._run.finish(exit_code=0 if kind is None else 1)
