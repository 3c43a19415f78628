"""Small real models of every kind of task, trained on data that scikit-learn ships, as ONNX packages.

Each is trained once a session on rows that are not the reference and not the stream. `World.answer` is the model in
numpy, for logs that are written without a server; the packages hold the same weights as ONNX.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from export.contracts.datatypes import Datatype
from export.contracts.manifest import Manifest, Task, TaskKind
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.contracts.task import BoxRules, BoxUnits
from export.reference import compile_reference
from tests.support import packages

Array = np.ndarray[Any, Any]
NAMES = tuple(str(i) for i in range(10))
FP32, ROLE = Datatype.FP32, OutputRole


@dataclass(frozen=True)
class World:
    """A model with what its stream holds.

    Attributes:
        kind: Name of the model.
        x: Rows of the stream, unseen by training and reference.
        truth: What is right for each, as feedback says it.
        harder: The same rows, shifted so that the model fails more often.
        wrong: Of (answer of a row, truth): whether it is wrong; None where nobody can tell.
        onnx: Nodes and weights.
    """

    kind: str
    signature: Signature
    task: Task
    answer: Callable[[Array], dict[str, Array]]
    profile: ReferenceProfile
    x: Array
    truth: list[Any]
    harder: Callable[[Array], Array]
    onnx: tuple[list[Any], dict[str, Array]]

    @property
    def manifest(self) -> Manifest:
        return packages.manifest_for(self.signature, name=self.kind, task=self.task)

    def package(self, folder: Path) -> None:
        """Write it to `folder / name / version`."""
        nodes, weights = self.onnx
        model = packages.make_model(self.signature, nodes, weights)
        golden = packages.golden_from_onnx(model, {"x": self.x[:3]}, self.signature)
        packages.package_model(
            folder, model, self.signature, name=self.kind, task=self.task, golden=golden, reference=self.profile
        )


def _signature(
    shape: tuple[int, ...], outputs: list[tuple[str, tuple[int, ...], OutputRole]], image: bool
) -> Signature:
    display = InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0)) if image else InputDisplay()
    return Signature(
        inputs=(InputSpec(name="x", datatype=FP32, shape=(-1, *shape), display=display),),
        outputs=tuple(OutputSpec(name=n, datatype=FP32, shape=(-1, *s), role=r) for n, s, r in outputs),
    )


@functools.cache
def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(7).permutation(len(data.target))
    return (data.images[order] / 16.0).astype(np.float32), data.target[order]


def _mlp(x: Array, y: Array, hidden: int = 48) -> list[Array]:
    from sklearn.neural_network import MLPClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = MLPClassifier((hidden,), random_state=1, max_iter=30, alpha=1e-2).fit(x.reshape(len(x), -1), y)
    return [a.astype(np.float32) for pair in zip(made.coefs_, made.intercepts_, strict=True) for a in pair]


def _hidden(x: Array, w: list[Array]) -> Array:
    return np.maximum(x.reshape(len(x), -1) @ w[0] + w[1], 0.0).astype(np.float32)


def _perceptron(output: str) -> list[Any]:
    return [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w2", "b2"], [output]),
    ]


def _named(w: list[Array]) -> dict[str, Array]:
    return dict(zip(("w1", "b1", "w2", "b2"), w, strict=True))


def _noisy(x: Array) -> Array:
    return np.clip(x + np.random.default_rng(3).normal(0, 0.45, x.shape), 0, 1).astype(np.float32)


@functools.cache
def classification() -> World:
    """One digit."""
    images, labels = _digits()
    x = images[:, None]
    w = _mlp(x[:700], labels[:700])
    signature = _signature((1, 8, 8), [("logits", (10,), ROLE.LOGITS), ("embedding", (48,), ROLE.EMBEDDING)], True)
    task = Task(kind=TaskKind.CLASSIFICATION, class_names=NAMES)

    def answer(rows: Array) -> dict[str, Array]:
        h = _hidden(rows, w)
        return {"logits": h @ w[2] + w[3], "embedding": h}

    profile = compile_reference(signature, task, {"x": x[700:1100]}, answer(x[700:1100]), labels[700:1100])
    truth = [NAMES[i] for i in labels[1100:]]
    return World("one", signature, task, answer, profile, x[1100:], truth, _noisy, (_perceptron("logits"), _named(w)))


@functools.cache
def multi_label() -> World:
    """Which of the ten digits are in a picture of two."""
    images, labels = _digits()
    rng = np.random.default_rng(5)

    def pairs(low: int, high: int, n: int) -> tuple[Array, Array]:
        chosen = rng.integers(low, high, (n, 2))
        x = np.concatenate([images[chosen[:, 0]], images[chosen[:, 1]]], axis=2)[:, None]
        y = np.zeros((n, 10), dtype=int)
        y[np.arange(n)[:, None], labels[chosen]] = 1
        return x.astype(np.float32), y

    (fit_x, fit_y), (ref_x, ref_y), (x, y) = pairs(0, 900, 2000), pairs(900, 1300, 400), pairs(1300, 1797, 500)
    w = _mlp(fit_x, fit_y, hidden=64)
    outputs = [("logits", (10,), ROLE.LOGITS), ("embedding", (64,), ROLE.EMBEDDING)]
    signature = _signature((1, 8, 16), outputs, True)
    task = Task(kind=TaskKind.MULTI_LABEL, class_names=NAMES, thresholds=(0.5,))

    def answer(rows: Array) -> dict[str, Array]:
        h = _hidden(rows, w)
        return {"logits": h @ w[2] + w[3], "embedding": h}

    profile = compile_reference(signature, task, {"x": ref_x}, answer(ref_x), ref_y)
    truth = [[NAMES[i] for i in np.flatnonzero(row)] for row in y]
    return World("many", signature, task, answer, profile, x, truth, _noisy, (_perceptron("logits"), _named(w)))


@functools.cache
def _diabetes() -> tuple[Array, Array]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(2).permutation(len(y))
    return x[order].astype(np.float32) * 20, y[order].astype(np.float32)


def _shifted_table(x: Array) -> Array:
    return (x * 3.0).astype(np.float32)


@functools.cache
def ensemble() -> World:
    """Progression of diabetes, by five small networks."""
    from sklearn.neural_network import MLPRegressor

    x, y = _diabetes()
    rng = np.random.default_rng(4)
    members = []
    for seed in range(5):
        chosen = rng.integers(0, 200, 200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = MLPRegressor(hidden_layer_sizes=(16,), random_state=seed, max_iter=300, alpha=0.1).fit(
                x[chosen], y[chosen] / 100
            )
        members.append((made.coefs_, made.intercepts_))
    w1 = np.concatenate([c[0] for c, _ in members], axis=1).astype(np.float32)  # (10, 80)
    b1 = np.concatenate([b[0] for _, b in members]).astype(np.float32)
    w2 = np.zeros((80, 5), np.float32)
    for i, (c, _) in enumerate(members):
        w2[16 * i : 16 * i + 16, i] = c[1][:, 0] * 100
    b2 = np.array([b[1][0] * 100 for _, b in members], np.float32)
    signature = _signature((10,), [("members", (5,), ROLE.VALUE_MEMBERS)], False)
    task = Task(kind=TaskKind.REGRESSION, tolerance=(60.0,))

    def answer(rows: Array) -> dict[str, Array]:
        return {"members": (np.maximum(rows @ w1 + b1, 0.0) @ w2 + b2).astype(np.float32)}

    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["members"]),
    ]
    profile = compile_reference(signature, task, {"x": x[200:320]}, answer(x[200:320]), y[200:320])
    weights = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    return World(
        "spread", signature, task, answer, profile, x[320:], y[320:].tolist(), _shifted_table, (nodes, weights)
    )


@functools.cache
def quantiles() -> World:
    """Progression of diabetes, by three linear quantile regressions."""
    from sklearn.linear_model import QuantileRegressor

    x, y = _diabetes()
    levels = (0.1, 0.5, 0.9)
    fits = [QuantileRegressor(quantile=q, alpha=0.001, solver="highs").fit(x[:200], y[:200]) for q in levels]
    w = np.stack([f.coef_ for f in fits], axis=1).astype(np.float32)
    b = np.array([f.intercept_ for f in fits], np.float32)
    signature = _signature((10,), [("quantiles", (3,), ROLE.VALUE_QUANTILES)], False)
    task = Task(kind=TaskKind.REGRESSION, quantiles=levels)

    def answer(rows: Array) -> dict[str, Array]:
        return {"quantiles": (rows @ w + b).astype(np.float32)}

    profile = compile_reference(signature, task, {"x": x[200:320]}, answer(x[200:320]), y[200:320])
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["quantiles"])]
    truth = y[320:].tolist()
    return World("width", signature, task, answer, profile, x[320:], truth, _shifted_table, (nodes, {"w": w, "b": b}))


def _scenes(low: int, high: int, n: int, seed: int) -> tuple[Array, list[list[dict[str, Any]]]]:
    """Pictures (n, 1, 24, 24) with 0 to 4 digits in the cells of a 3 by 3 grid, each up to a pixel off its place."""
    images, labels = _digits()
    rng = np.random.default_rng(seed)
    x, truth = np.zeros((n, 1, 26, 26), np.float32), []
    for i in range(n):
        boxes = []
        for cell in rng.permutation(9)[: rng.integers(0, 5)].tolist():
            which = int(rng.integers(low, high))
            top, left = (8 * np.array(divmod(cell, 3)) + 1 + rng.integers(-1, 2, 2)).tolist()
            x[i, 0, top : top + 8, left : left + 8] = np.maximum(x[i, 0, top : top + 8, left : left + 8], images[which])
            corners = [float(v) for v in (left - 1, top - 1, left + 7, top + 7)]
            boxes.append({"box": corners, "class": NAMES[labels[which]]})
        truth.append(boxes)
    return np.ascontiguousarray(x[:, :, 1:25, 1:25]), truth


def _cells(x: Array) -> Array:
    """(n, 1, 24, 24) → (n, 9, 64)."""
    grid = x.reshape(len(x), 3, 8, 3, 8).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(grid.reshape(len(x), 9, 64))


@functools.cache
def detection() -> World:
    """Digits in scenes, by one network over the cells of a grid: boxes padded to nine."""
    fit_x, fit_truth = _scenes(0, 900, 900, 1)
    target = np.full((len(fit_x), 9), 10)
    for i, boxes in enumerate(fit_truth):
        for box in boxes:
            left, top = (round(v / 8) for v in box["box"][:2])
            target[i, 3 * top + left] = int(box["class"])
    w = _mlp(_cells(fit_x).reshape(-1, 64), target.ravel(), hidden=48)
    grid = np.array([[8 * c, 8 * r, 8 * c + 8, 8 * r + 8] for r in range(3) for c in range(3)], np.float32)
    outputs = [
        ("boxes", (9, 4), ROLE.BOXES),
        ("scores", (9,), ROLE.BOX_SCORES),
        ("classes", (9,), ROLE.BOX_CLASSES),
        ("embedding", (48,), ROLE.EMBEDDING),
    ]
    signature = _signature((1, 24, 24), outputs, True)
    task = Task(kind=TaskKind.DETECTION, class_names=NAMES, boxes=BoxRules(units=BoxUnits.PIXELS, iou=0.5))

    def answer(rows: Array) -> dict[str, Array]:
        h = np.maximum(_cells(rows) @ w[0] + w[1], 0.0)
        logits = h @ w[2] + w[3]
        e = np.exp(logits - logits.max(axis=2, keepdims=True))
        p = (e / e.sum(axis=2, keepdims=True))[:, :, :10]
        return {
            "boxes": np.broadcast_to(grid, (len(rows), 9, 4)).astype(np.float32),
            "scores": p.max(axis=2).astype(np.float32),
            "classes": p.argmax(axis=2).astype(np.float32),
            "embedding": h.mean(axis=1).astype(np.float32),
        }

    n = helper.make_node
    nodes = [
        n("Reshape", ["x", "six"], ["grid6"]),
        n("Transpose", ["grid6"], ["turned"], perm=[0, 1, 3, 2, 4]),
        n("Reshape", ["turned", "three"], ["cells"]),
        n("MatMul", ["cells", "w1"], ["m1"]),
        n("Add", ["m1", "b1"], ["a1"]),
        n("Relu", ["a1"], ["h"]),
        n("MatMul", ["h", "w2"], ["m2"]),
        n("Add", ["m2", "b2"], ["logits"]),
        n("Softmax", ["logits"], ["p11"], axis=2),
        n("Slice", ["p11", "from", "to", "axis"], ["p"]),
        n("ReduceMax", ["p", "axis"], ["scores"], keepdims=0),
        n("ArgMax", ["p"], ["best"], axis=2, keepdims=0),
        n("Cast", ["best"], ["classes"], to=1),
        n("ReduceMean", ["h", "one"], ["embedding"], keepdims=0),
        n("ReduceSum", ["x", "rest"], ["sums"], keepdims=1),
        n("Mul", ["sums", "zero"], ["none"]),
        n("Squeeze", ["none", "one"], ["none3"]),
        n("Add", ["none3", "grid"], ["boxes"]),
    ]
    weights = _named(w) | {
        "six": np.array([0, 3, 8, 3, 8]),
        "three": np.array([0, 9, 64]),
        "from": np.array([0]),
        "to": np.array([10]),
        "axis": np.array([2]),
        "one": np.array([1]),
        "rest": np.array([1, 2, 3]),
        "zero": np.zeros(1, np.float32),
        "grid": grid[None],
    }
    ref_x, ref_truth = _scenes(900, 1300, 300, 2)
    profile = compile_reference(signature, task, {"x": ref_x}, answer(ref_x), ref_truth)
    x, truth = _scenes(1300, 1797, 300, 3)
    return World("boxes", signature, task, answer, profile, x, truth, _noisy, (nodes, weights))


@functools.cache
def segmentation() -> World:
    """A kind that the service does not know: a mask a picture, and an embedding."""
    images, _ = _digits()
    x = images[:, None]
    w = np.random.default_rng(0).normal(0, 0.3, (64, 24)).astype(np.float32)
    signature = _signature((1, 8, 8), [("mask", (1, 8, 8), ROLE.OTHER), ("embedding", (24,), ROLE.EMBEDDING)], True)
    task = Task(kind=TaskKind.OTHER)

    def answer(rows: Array) -> dict[str, Array]:
        return {"mask": (rows - 0.5).astype(np.float32), "embedding": np.tanh(rows.reshape(len(rows), -1) @ w)}

    nodes = [
        helper.make_node("Sub", ["x", "half"], ["mask"]),
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["m"]),
        helper.make_node("Tanh", ["m"], ["embedding"]),
    ]
    profile = compile_reference(signature, task, {"x": x[:400]}, answer(x[:400]), None)
    weights = {"half": np.array(0.5, np.float32), "w": w}
    return World("mask", signature, task, answer, profile, x[400:900], [None] * 500, _noisy, (nodes, weights))


WORLDS: dict[str, Callable[[], World]] = {
    "classification": classification,
    "multi_label": multi_label,
    "ensemble": ensemble,
    "quantiles": quantiles,
    "detection": detection,
    "segmentation": segmentation,
}
