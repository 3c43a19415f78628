"""The model that every server of the benchmark serves: the demo's digits network, exported once a run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MODEL_NAME = "digits"
MAX_BATCH_ROWS = 64  # for every server, ours too
SEED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchModel:
    """The model and what a right answer is.

    Attributes:
        onnx: The ONNX file: input `x` (batch, 1, 8, 8), outputs `logits` (batch, 10) and `embedding` (batch, 64).
        image: One real digit, (1, 1, 8, 8), values 0..1.
        logits: What onnxruntime answers for `image` when it is called directly, (10,).
    """

    onnx: Path
    image: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]


def make_registry(folder: Path) -> tuple[Path, BenchModel]:
    """Train the demo's network on real digits (seconds), export it, make it champion in a new registry.

    Returns:
        The registry's folder, and the model whose ONNX file is the one in that registry.
    """
    from deploy.demo.digits import CLASS_NAMES, load_digits
    from deploy.demo.network import train_network
    from export.contracts.manifest import RuntimeKind, Task, TaskKind
    from export.contracts.signature import OutputRole
    from export.from_torch import export_module
    from export.registry import Registry

    digits = load_digits()
    network = train_network(digits.train, seed=SEED, epochs=10)
    package = export_module(
        network,
        digits.train.images[:32],
        name=MODEL_NAME,
        version="1",
        task=Task(kind=TaskKind.CLASSIFICATION, class_names=CLASS_NAMES),
        out_dir=folder / "package",
        input_names=("x",),
        output_names=("logits", "embedding"),
        output_roles={"logits": OutputRole.LOGITS, "embedding": OutputRole.EMBEDDING},
        reference_inputs=digits.reference.images,
        reference_labels=digits.reference.labels,
        runtimes=(RuntimeKind.ONNX,),
        max_batch_rows=MAX_BATCH_ROWS,
    )
    registry = Registry(folder / "registry")
    stored = registry.add(package.dir)
    registry.promote(MODEL_NAME, "1", author="benchmark")
    path = stored.runtime_file(RuntimeKind.ONNX)
    if path is None:
        raise RuntimeError("the package holds no ONNX file")
    return registry.root, load_model(path, digits.live.images[:1])


def load_model(path: Path, image: npt.NDArray[np.float32]) -> BenchModel:
    """The right answer for `image` (1, 1, 8, 8), from onnxruntime called directly."""
    session = onnx_session(path)
    return BenchModel(onnx=path, image=image, logits=session.run(["logits"], {"x": image})[0][0])


def onnx_session(path: Path) -> Any:
    """A session with the settings that every measured server uses: CPU, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def engine_alone(model: BenchModel, *, rows: int, seconds: float) -> float:
    """Rows a second of onnxruntime with no server around it: what one core can do at most.

    Args:
        model: What to run.
        rows: Rows of a batch.
        seconds: How long to measure.
    """
    session = onnx_session(model.onnx)
    batch = np.repeat(model.image, rows, axis=0)
    names = ["logits"]
    for _ in range(50):
        session.run(names, {"x": batch})
    runs, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        session.run(names, {"x": batch})
        runs += 1
    return runs * rows / spent
