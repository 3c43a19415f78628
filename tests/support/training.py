"""A small data set, a request for it, and a module that can learn it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

from export.contracts import codec
from export.contracts.dataset import Source, Split
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Task, TaskKind
from export.contracts.signature import InputSpec, OutputRole, OutputSpec, Signature
from export.contracts.training import TrainingRequest
from export.dataset import DatasetRow, ManifestParts, Snapshot, write_snapshot

CLASSES = ("ant", "bee", "cat")
SIGNATURE = Signature(
    inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 4)),),
    outputs=(OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, 3), role=OutputRole.LOGITS),),
)


class Linear(nn.Module):
    """(batch, 4) to logits (batch, 3)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.layers(x)


def make_snapshot(root: Path, *, rows: int = 120, seed: int = 1, validation: bool = True) -> Snapshot:
    """Three clouds of points; a third of the training rows are reviewed cases."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(rows):
        label = int(rng.integers(3))
        point = rng.normal(0, 0.6, 4).astype(np.float32)
        point[label] += 2.0
        held = validation and i % 4 == 0
        made.append(
            DatasetRow(
                row_id=f"r{i:04}",
                inputs={"x": point},
                label=CLASSES[label],
                split=Split.VALIDATION if held else Split.TRAIN,
                source=Source.CASE if i % 3 == 0 else Source.BASE,
                content=hashlib.sha256(point.tobytes()).hexdigest()[:16],
            )
        )
    task = Task(kind=TaskKind.CLASSIFICATION, class_names=CLASSES)
    return write_snapshot(root, ManifestParts(name="clouds", model="clouds", task=task, signature=SIGNATURE), made)


def make_request(root: Path, snapshot: Snapshot, name: str = "one", **more: object) -> Path:
    """A request file; its output folder is `root/name`."""
    output = root / name
    output.mkdir(parents=True, exist_ok=True)
    given = {
        "id": "one",
        "model": "clouds",
        "version": "2",
        "snapshot": str(snapshot.folder),
        "snapshot_digest": snapshot.digest,
        "output": str(output),
        "seed": 3,
        "budget_s": 60.0,
        "asked_at": "2026-01-02T03:04:05Z",
        **more,
    }
    path = root / f"{name}.json"
    path.write_bytes(codec.dumps(TrainingRequest(**given)))
    return path
