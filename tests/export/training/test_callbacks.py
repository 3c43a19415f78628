"""Callbacks of other libraries, held against the real ones where they are installed, and against a runner of our own.

`python -m pip install lightning transformers accelerate fastai` in an environment of its own makes all of them run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.contracts.dataset import Split
from export.contracts.manifest import RuntimeKind
from export.package import read_package
from export.training.callbacks import CatalystCallback, fastai_callback, hugging_face_callback, lightning_callback
from export.training.run import TrainingRun
from tests.support.training import Linear, make_request, make_snapshot

SMALL: dict[str, Any] = {"runtimes": (RuntimeKind.ONNX,), "batch_sizes": (1, 8)}


def open_run(root: Path) -> TrainingRun:
    """Opened by the test itself: pytest's capture of a fixture's output is another than that of the test's."""
    path = make_request(root, make_snapshot(root / "data", rows=60))
    return TrainingRun.open(["trainer", str(path)], seeds=("random", "numpy"))


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def said(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith('{"event"')]


def check(run: TrainingRun, events: list[dict[str, Any]], metric: str) -> None:
    """The package lies there, it says where it comes from, and the figures were said before."""
    manifest = read_package(run.package_folder).manifest
    assert manifest.provenance.dataset_snapshot == run.request.snapshot_digest
    assert manifest.provenance.metrics[metric] == events[-1]["metrics"][metric]
    assert events[-1]["event"] == "done"
    assert any(e["event"] == "progress" for e in events)
    assert any(e["event"] == "metric" and e["name"] == metric for e in events)


def loader(run: TrainingRun, split: Split) -> torch.utils.data.DataLoader[Any]:
    rows = run.snapshot.arrays(split)
    pairs = [(torch.from_numpy(x.copy()), int(y)) for x, y in zip(rows.inputs["x"], rows.labels, strict=True)]
    return torch.utils.data.DataLoader(pairs, batch_size=16)  # type: ignore[arg-type]


def test_a_loop_in_the_way_of_catalyst(opened, capfd, tmp_path):
    run = opened.enter_context(closing(open_run(tmp_path)))
    runner = SimpleNamespace(epoch_metrics={}, epoch_step=0, num_epochs=2, model=Linear())
    callback = CatalystCallback(run, **SMALL)
    callback.on_experiment_start(runner)
    for epoch in (1, 2):
        runner.epoch_step = epoch
        callback.on_epoch_start(runner)
        callback.on_batch_end(runner)
        runner.epoch_metrics = {"valid": {"accuracy": np.float32(0.25 * epoch), "name": "x"}, "_epoch_": {"lr": 0.1}}
        callback.on_epoch_end(runner)
    callback.on_experiment_end(runner)
    check(run, said(capfd), "valid/accuracy")
    with pytest.raises(AttributeError):
        callback.nothing  # noqa: B018  # only the moments of a runner are answered


@pytest.mark.filterwarnings("default")
def test_lightning(opened, capfd, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    run = opened.enter_context(closing(open_run(tmp_path)))

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]  # not installed everywhere
        def __init__(self) -> None:
            super().__init__()
            self.net = Linear()

        def training_step(self, batch: Any, index: int) -> Any:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.02)

    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[lightning_callback(run, lambda module: module.net, **SMALL)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
    )
    trainer.fit(Module(), loader(run, Split.TRAIN), loader(run, Split.VALIDATION))
    check(run, said(capfd), "val_accuracy")


@pytest.mark.filterwarnings("default")
def test_hugging_face_trainer(opened, capfd, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    run = opened.enter_context(closing(open_run(tmp_path)))

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Linear()

        def forward(self, x: Any, labels: Any = None) -> Any:
            logits = self.net(x)
            loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits} if loss is not None else {"logits": logits}

    def rows(split: Split) -> list[dict[str, Any]]:
        found = run.snapshot.arrays(split)
        return [{"x": x, "labels": int(y)} for x, y in zip(found.inputs["x"], found.labels, strict=True)]

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "hf"), max_steps=6, logging_steps=2, report_to=[], use_cpu=True, save_strategy="no",
        eval_strategy="steps", eval_steps=3, disable_tqdm=True,
    )  # fmt: skip
    callback = hugging_face_callback(run, lambda model: model.net, **SMALL)
    trainer = transformers.Trainer(
        model=Wrapped(),
        args=arguments,
        train_dataset=rows(Split.TRAIN),
        eval_dataset=rows(Split.VALIDATION),
        callbacks=[callback],
    )
    trainer.train()
    check(run, said(capfd), "eval_loss")


@pytest.mark.filterwarnings("default")
def test_fastai(opened, capfd, tmp_path):
    pytest.importorskip("fastai")
    run = opened.enter_context(closing(open_run(tmp_path)))
    from fastai.callback.progress import ProgressCallback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.metrics import accuracy

    loaders = DataLoaders(loader(run, Split.TRAIN), loader(run, Split.VALIDATION), device=torch.device("cpu"))
    learner = Learner(loaders, Linear(), loss_func=nn.CrossEntropyLoss(), metrics=accuracy)
    learner.remove_cb(ProgressCallback)
    with learner.no_logging():
        learner.fit(2, cbs=[fastai_callback(run, **SMALL)])
    check(run, said(capfd), "accuracy")
