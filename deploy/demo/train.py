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
from export.contracts.manifest import Task, TaskKind
from export.contracts.signature import InputDisplay, InputKind, OutputRole

MODEL, VERSION = "digits", "1"
SEED = 4


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
        "task": Task(kind=TaskKind.CLASSIFICATION, class_names=CLASS_NAMES),
        "input_names": ("image",),
        "input_axes": {"image": ("batch", "channel", "row", "column")},
        "displays": {"image": InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0))},
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


def train_and_register(registry_root: Path, out: Path) -> str:
    """Make the demo model the champion of a registry that has no such model; returns a line that says what was done."""
    import tempfile

    from export.from_torch import export_module
    from export.registry import Registry

    started = time.monotonic()
    digits = load_digits()
    # The example first: it is there however short the wait for the rest.
    write_example_request(digits, out)
    arguments = package(digits)
    trained = time.monotonic()
    registry = Registry(registry_root)
    with tempfile.TemporaryDirectory(prefix="hardcase-") as folder:
        made = export_module(**arguments, out_dir=Path(folder) / MODEL)
        registry.add(made.dir)
    registry.promote(MODEL, VERSION, author="hardcase up", reason="the demo model, trained on the first start")
    ended = time.monotonic()
    return f"{MODEL} {VERSION}: trained in {trained - started:.1f} s, exported and checked in {ended - trained:.1f} s"


def main() -> None:
    """Command line of `python -m deploy.demo.train`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", type=Path, required=True, help="registry folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for request.json")
    arguments = parser.parse_args()
    print(train_and_register(arguments.registry, arguments.out), flush=True)


if __name__ == "__main__":
    main()
