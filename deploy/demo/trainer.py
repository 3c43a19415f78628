"""The demo's trainer, under the trainer contract: `python -m deploy.demo.trainer [--faults FILE] REQUEST`.

It trains the digit network on the snapshot's base data and on what was labelled in traffic; see `deploy.demo.learn`.
The reference profile comes from the base data's validation rows, upright and changed as the labels say, so that the new
version knows what its traffic looks like.

A file of faults makes it a bad trainer, which is what the story needs one for: `{"fault": "shuffled"}` trains on
labels that belong to other pictures, `{"fault": "dead_pixel"}` leaves a network that divides by what the first pixel
shows, and so answers NaN as soon as that pixel is dead. Such a network is right on every input that was ever recorded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deploy.demo.digits import Part
from deploy.demo.learn import Change, find_changes, learn
from deploy.demo.network import DigitNet
from deploy.demo.pictures import DEAD
from export.contracts.dataset import Source, Split
from export.contracts.manifest import RuntimeKind
from export.dataset import Rows
from export.training.run import TrainingRun

INPUT = "image"
EPOCHS = 12


class Fault(StrEnum):
    """What is wrong with the trainer."""

    NONE = ""  # it is in order
    SHUFFLED = "shuffled"  # labels belong to other pictures
    DEAD_PIXEL = "dead_pixel"  # NaN where the first pixel is dead


class Brittle(nn.Module):
    """A network behind a normalisation that a dead pixel breaks: 0 / 0."""

    def __init__(self, inner: DigitNet) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, 10) and embedding (batch, 64); NaN logits where the first pixel is dead."""
        logits, embedding = self.inner(image)
        away = image[:, 0, 0, 0:1] - float(DEAD)  # (batch, 1)
        return logits * (away / away), embedding


def main(argv: Sequence[str]) -> None:
    """Train what was asked for."""
    fault = read_fault(Path(argv[argv.index("--faults") + 1])) if "--faults" in argv else Fault.NONE
    with TrainingRun.open(argv) as run:
        base, fresh = parts(run.snapshot.arrays(Split.TRAIN))
        run.note(f"{len(base.labels)} rows of base data, {len(fresh.labels)} labelled in traffic")
        if fault is Fault.SHUFFLED:
            base, fresh = shuffled(base, run.request.seed), shuffled(fresh, run.request.seed + 1)
        # Wrong labels say nothing of what happened to the pictures; looking there would only take time.
        changes = [] if fault is Fault.SHUFFLED else find_changes(base, fresh)
        for change in changes:
            run.note(f"the labels look as if the pictures were {change}")

        def progress(epoch: int, of: int, loss: float) -> None:
            run.progress(epoch, of, f"epoch {epoch}")
            run.metric("loss", loss, step=epoch)

        network: DigitNet = learn(
            base,
            fresh,
            seed=run.request.seed,
            epochs=run.parameter("epochs", EPOCHS),
            changes=changes,
            progress=progress,
        )
        held = reference(run.snapshot.arrays(Split.VALIDATION), changes, run.request.seed)
        run.metric("reference_accuracy", accuracy(network, held))
        module: nn.Module = Brittle(network).eval() if fault is Fault.DEAD_PIXEL else network
        run.export(
            module,
            example_inputs={INPUT: held.images[:64]},
            reference_inputs={INPUT: held.images},
            reference_labels=held.labels,
            runtimes=(RuntimeKind.ONNX,),
        )
        run.done()


def read_fault(path: Path) -> Fault:
    """What the file says; in order where there is none."""
    try:
        plain = json.loads(path.read_text())
    except FileNotFoundError:
        return Fault.NONE
    return Fault(plain.get("fault", ""))


def parts(rows: Rows) -> tuple[Part, Part]:
    """Base data, and what was labelled in traffic."""
    base = np.array([source == Source.BASE.value for source in rows.sources], dtype=bool)
    images = np.asarray(rows.inputs[INPUT], dtype=np.float32)
    labels = np.asarray(rows.labels, dtype=np.int64)
    return Part(images=images[base], labels=labels[base]), Part(images=images[~base], labels=labels[~base])


def shuffled(part: Part, seed: int) -> Part:
    """The same pictures with each other's labels."""
    order = np.random.default_rng(seed).permutation(len(part.labels))
    return Part(images=part.images, labels=part.labels[order])


def reference(rows: Rows, changes: Sequence[Change], seed: int) -> Part:
    """Validation rows as they are, and half of them under each change: what the new version is measured by."""
    base, fresh = parts(rows)
    rng = np.random.default_rng(seed)
    half = len(base.labels) // 2
    images = [base.images, *(change.apply(base.images[:half], rng) for change in changes), fresh.images]
    labels = [base.labels, *([base.labels[:half]] * len(changes)), fresh.labels]
    return Part(images=np.concatenate(images), labels=np.concatenate(labels))


def accuracy(network: DigitNet, part: Part) -> float:
    """Share of right answers."""
    with torch.no_grad():
        said = network(torch.from_numpy(part.images))[0].argmax(1).numpy()
    return float((said == part.labels).mean())


if __name__ == "__main__":
    main(sys.argv)
