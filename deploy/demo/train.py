"""Train the demo's network on real digits, export it, put it into the registry: `python -m deploy.demo.train`.

`package` is also a target for the command line: `hardcase export deploy.demo.train:package`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from deploy.demo.digits import CLASS_NAMES, Digits, load_digits
from deploy.run_state import write_atomically
from export.contracts.dataset import Split
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Task, TaskKind
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature

MODEL, VERSION = "digits", "1"
SEED = 4
_TASK = Task(kind=TaskKind.CLASSIFICATION, class_names=CLASS_NAMES)
_AXES = ("batch", "channel", "row", "column")
_DISPLAY = InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0))


def package(digits: Digits | None = None, *, version: str = VERSION, seed: int = SEED) -> dict[str, Any]:
    """Train, and say how to export: the keyword arguments of `export.from_torch.export_module`.

    Args:
        digits: The data; loaded when not given.
        version: Version of the package.
        seed: Of the training.
    """
    from deploy.demo.network import train_network

    data = digits or load_digits()
    return {
        "module": train_network(data.train, seed=seed),
        "example_inputs": data.reference.images[:8],
        "name": MODEL,
        "version": version,
        "task": _TASK,
        "input_names": ("image",),
        "input_axes": {"image": _AXES},
        "displays": {"image": _DISPLAY},
        "output_names": ("logits", "embedding"),
        "output_roles": {"logits": OutputRole.LOGITS, "embedding": OutputRole.EMBEDDING},
        "reference_inputs": data.reference.images,
        "reference_labels": data.reference.labels,
        "seed": seed,
    }


def write_example_request(digits: Digits, out: Path) -> None:
    """`request.json`: one real live digit as a protocol request, for the first `curl`."""
    image = digits.live.images[:1]
    tensor = {"name": "image", "datatype": "FP32", "shape": list(image.shape), "data": image.ravel().tolist()}
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "request.json", json.dumps({"id": "first-request", "inputs": [tensor]}))


def signature() -> Signature:
    """Of the demo's model, and so of the data that it is trained on."""
    image = InputSpec(
        name="image",
        datatype=Datatype.FP32,
        shape=(-1, 1, 8, 8),
        display=_DISPLAY,
        axes=_AXES,
    )
    logits = OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, 10), role=OutputRole.LOGITS)
    embedding = OutputSpec(name="embedding", datatype=Datatype.FP32, shape=(-1, 64), role=OutputRole.EMBEDDING)
    return Signature(inputs=(image,), outputs=(logits, embedding))


def write_base(digits: Digits, datasets: Path) -> str:
    """The base data as a snapshot: 700 digits to train on, 300 to judge by. Returns its digest.

    Args:
        digits: The data.
        datasets: Folder of snapshots.
    """
    from export.dataset import DatasetRow, ManifestParts, write_snapshot

    rows = [
        DatasetRow(
            row_id=f"{split.value}-{i:04d}",
            inputs={"image": image},
            label=CLASS_NAMES[int(label)],
            split=split,
            group=f"{split.value}-{i:04d}",
        )
        for split, part in ((Split.TRAIN, digits.train), (Split.VALIDATION, digits.reference))
        for i, (image, label) in enumerate(zip(part.images, part.labels, strict=True))
    ]
    parts = ManifestParts(name="digits", model=MODEL, task=_TASK, signature=signature())
    return write_snapshot(datasets, parts, rows).digest


def train_and_register(registry_root: Path, out: Path, datasets: Path) -> str:
    """Make the demo model the champion of a registry that has no such model; returns a line that says what was done."""
    import tempfile

    from export.from_torch import export_module
    from export.provenance import make_provenance
    from export.registry import Registry

    started = time.monotonic()
    digits = load_digits()
    # The example first: it is there however short the wait for the rest.
    write_example_request(digits, out)
    arguments = package(digits)
    provenance = make_provenance("deploy.demo.train", dataset_snapshot=write_base(digits, datasets))
    trained = time.monotonic()
    registry = Registry(registry_root)
    with tempfile.TemporaryDirectory(prefix="hardcase-") as folder:
        made = export_module(**arguments, out_dir=Path(folder) / MODEL, provenance=provenance)
        registry.add(made.dir)
    registry.promote(MODEL, VERSION, author="hardcase up", reason="the demo model, trained on the first start")
    ended = time.monotonic()
    return f"{MODEL} {VERSION}: trained in {trained - started:.1f} s, exported and checked in {ended - trained:.1f} s"


def main() -> None:
    """Command line of `python -m deploy.demo.train`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", type=Path, required=True, help="registry folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for request.json")
    parser.add_argument("--datasets", type=Path, required=True, help="folder of data set snapshots")
    arguments = parser.parse_args()
    print(train_and_register(arguments.registry, arguments.out, arguments.datasets), flush=True)


if __name__ == "__main__":
    main()
