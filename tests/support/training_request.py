"""A request and a snapshot for tests of what a trainer says, without anything to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export.contracts.training import TrainingRequest
from export.training.run import TrainingRun

DIGEST = "sha256:" + "a" * 64


def said_run(folder: Path, **given: Any) -> tuple[TrainingRun, list[bytes]]:
    """A run whose events end in a list."""
    lines: list[bytes] = []
    (folder / "output").mkdir(parents=True, exist_ok=True)
    request = TrainingRequest(
        **{
            "id": "0123456789ab", "model": "digits", "version": "2", "snapshot": str(folder / "snapshot"),
            "snapshot_digest": DIGEST, "output": str(folder / "output"), "seed": 7, "budget_s": 100.0,
            "parent_version": "1", "reason": "40 failures", **given,
        }
    )  # fmt: skip
    return TrainingRun(request, lines.append), lines
