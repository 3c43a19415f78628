"""How a snapshot, and the package before, say what the next package looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from export.contracts.dataset import Split
from export.contracts.manifest import Manifest

if TYPE_CHECKING:
    from export.dataset import Snapshot

EXAMPLES = 64


def export_arguments(snapshot: Snapshot, like: Manifest | None = None) -> dict[str, Any]:
    """Arguments of `export.from_torch.export_module` but for what the request names.

    Args:
        snapshot: Its rows are examples and, those that were not trained on, the reference.
        like: The manifest whose signature and task hold; None takes the snapshot's.
    """
    signature = like.signature if like else snapshot.manifest.signature
    task = like.task if like else snapshot.manifest.task
    given: dict[str, Any] = {
        "task": task,
        "input_names": tuple(spec.name for spec in signature.inputs),
        "displays": {spec.name: spec.display for spec in signature.inputs},
        "input_axes": {spec.name: spec.axes for spec in signature.inputs if spec.axes},
        "output_names": tuple(spec.name for spec in signature.outputs),
        "output_roles": {spec.name: spec.role for spec in signature.outputs},
    }
    free = {spec.name: [i for i, size in enumerate(spec.shape) if i and size < 0] for spec in signature.inputs}
    if any(free.values()):
        given["dynamic_axes"] = {name: axes for name, axes in free.items() if axes}
    encoded = {spec.name: spec.preprocess for spec in signature.inputs if spec.preprocess is not None}
    if encoded:
        given["preprocess"] = encoded
    for split in (Split.TEST, Split.VALIDATION):
        if snapshot.manifest.splits.get(split.value, 0) >= 1:
            rows = snapshot.arrays(split)
            given["reference_inputs"] = dict(rows.inputs)
            given["reference_labels"] = rows.labels
            given["example_inputs"] = {name: array[:EXAMPLES] for name, array in rows.inputs.items()}
            return given
    rows = snapshot.arrays(Split.TRAIN)
    given["example_inputs"] = {name: np.asarray(array[:EXAMPLES]) for name, array in rows.inputs.items()}
    return given
