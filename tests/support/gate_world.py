"""Real digit models of different worth, as ONNX packages, and labelled sets of real digits: what a gate is held on.

The models are logistic regressions on scikit-learn's digits, trained in well under a second. `champion` saw few rows.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from deploy.demo.digits import Part, load_digits
from export.contracts.dataset import Source, Split
from export.contracts.manifest import Task
from export.contracts.signature import Signature
from export.dataset import DatasetRow, ManifestParts, Snapshot, write_snapshot
from export.package import Package
from monitoring.gate.contracts import EvaluatedSet, GatePolicy, Measured, Outcome, SetKind
from monitoring.gate.decide import decide
from monitoring.gate.fit import contract
from monitoring.gate.job import GateBudgets, GateRequest, GateResult, GateSet, SetResult, Version
from tests.support import packages

Array = np.ndarray[Any, Any]
NO_TIMES = GateBudgets(timings=0)


@functools.cache
def digits() -> tuple[Part, Part]:
    """Rows to train on, and rows that no model saw."""
    parts = load_digits()
    return parts.train, parts.live


@functools.cache
def weights(rows: int, seed: int = 0, shuffled: bool = False) -> tuple[Array, Array]:
    """Of a softmax regression trained on so many rows: (64, 10) and (10,), float32. `shuffled`: on wrong labels."""
    train, _ = digits()
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(train.labels))[:rows]
    x, y = train.images[chosen].reshape(rows, 64).astype(np.float64), train.labels[chosen]
    if shuffled:
        y = rng.permutation(y)
    target = np.eye(10)[y]
    w, b = np.zeros((64, 10)), np.zeros(10)
    for _ in range(400):
        logits = x @ w + b
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        w -= 1.0 * (x.T @ (p - target) / rows + 1e-3 * w)
        b -= 1.0 * (p - target).mean(axis=0)
    return w.astype(np.float32), b.astype(np.float32)


def package(
    folder: Path,
    version: str,
    rows: int = 700,
    *,
    seed: int = 0,
    shuffled: bool = False,
    nan_rows: bool = False,
    slow: int = 0,
    classes: int = 10,
    extra_input: bool = False,
) -> Package:
    """A digit model as a package.

    Args:
        folder: The package lands in `folder / digits / version`.
        version: Of it.
        rows: It was trained on.
        seed: Of which rows.
        shuffled: On wrong labels.
        nan_rows: Answers NaN where the first pixels of the picture's middle row are bright.
        slow: Matrix products of 512 x 512 that are done for nothing, a row.
        classes: How many it knows.
        extra_input: It needs another input.
    """
    w, b = weights(rows, seed, shuffled)
    initial: dict[str, Array] = {"w": w[:, :classes], "b": b[:classes], "flat": np.array([-1, 64], dtype=np.int64)}
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["plain"]),
    ]
    last = "plain"
    if nan_rows:
        initial |= {"half": np.array(0.5, dtype=np.float32), "pixel": np.array([20], dtype=np.int64)}
        nodes += [  # sqrt of a negative number is NaN
            helper.make_node("Gather", ["rows", "pixel"], ["one"], axis=1),
            helper.make_node("Sub", ["half", "one"], ["below"]),
            helper.make_node("Sqrt", ["below"], ["root"]),
            helper.make_node("Sub", ["root", "root"], ["nothing"]),
            helper.make_node("Add", [last, "nothing"], ["broken"]),
        ]
        last = "broken"
    if slow:
        rng = np.random.default_rng(0)
        initial |= {"first": rng.normal(size=(64, 512)).astype(np.float32) / 8}
        initial |= {"big": np.linalg.qr(rng.normal(size=(512, 512)))[0].astype(np.float32)}
        initial |= {"zero": np.zeros((512, 10), dtype=np.float32)}
        nodes.append(helper.make_node("MatMul", ["rows", "first"], ["s0"]))
        nodes += [helper.make_node("MatMul", [f"s{i}", "big"], [f"s{i + 1}"]) for i in range(slow)]
        nodes.append(helper.make_node("MatMul", [f"s{slow}", "zero"], ["waste"]))
        nodes.append(helper.make_node("Add", [last, "waste"], ["late"]))
        last = "late"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    signature = signature_of(classes, extra_input=extra_input)
    if extra_input:
        initial |= {"none": np.zeros((1, 1), dtype=np.float32)}
        nodes = [n for n in nodes if n.op_type != "Identity"]
        nodes += [
            helper.make_node("Mul", ["hint", "none"], ["hinted"]),
            helper.make_node("Add", [last, "hinted"], ["logits"]),
        ]
    model = packages.make_model(signature, nodes, initial)
    return packages.package_model(
        folder, model, signature, name="digits", version=version, task=task_of(classes), max_batch_rows=256
    )


def signature_of(classes: int = 10, *, extra_input: bool = False) -> Signature:
    """x FP32 [-1, 1, 8, 8] → logits [-1, classes]."""
    from dataclasses import replace

    whole = packages.DIGITS_SIGNATURE
    logits = replace(whole.outputs[0], shape=(-1, classes))
    hint = replace(whole.inputs[0], name="hint", shape=(-1, 1), axes=("batch", "feature"))
    return Signature(inputs=(*whole.inputs, hint) if extra_input else whole.inputs, outputs=(logits,))


def task_of(classes: int = 10) -> Task:
    """Digits by name."""
    from dataclasses import replace

    return replace(packages.DIGITS_TASK, class_names=packages.DIGITS_TASK.class_names[:classes])


def snapshot(
    root: Path,
    images: Array,
    labels: Sequence[Any],
    *,
    name: str = "set",
    split: Split = Split.TEST,
    slices: Sequence[tuple[str, ...]] | None = None,
    prefix: str = "row",
) -> Snapshot:
    """Digits as a snapshot folder below `root`; row i has the id `{prefix}-{i}`."""
    rows = [
        DatasetRow(
            row_id=f"{prefix}-{i:06d}",
            inputs={"x": np.ascontiguousarray(images[i])},
            label=str(labels[i]),
            split=split,
            source=Source.AUDIT,
            slices=() if slices is None else slices[i],
        )
        for i in range(len(labels))
    ]
    parts = ManifestParts(name=name, model="digits", task=task_of(), signature=signature_of())
    return write_snapshot(root, parts, rows)


def live(root: Path, count: int = 797, **more: Any) -> Snapshot:
    """Digits that no model saw."""
    _, part = digits()
    return snapshot(root, part.images[:count], [str(x) for x in part.labels[:count]], **more)


def request(
    folder: Path,
    champion: Package,
    candidate: Path,
    sets: Sequence[tuple[str, SetKind, Path]],
    *,
    policy: GatePolicy | None = None,
    budgets: GateBudgets = NO_TIMES,
    **more: Any,
) -> GateRequest:
    """A gate whose output is `folder`."""
    return GateRequest(
        id="gate-1",
        model="digits",
        champion=str(champion.dir),
        candidate=str(candidate),
        output=str(folder),
        sets=tuple(GateSet(name=name, kind=kind, folder=str(path)) for name, kind, path in sets),
        policy=policy or GatePolicy(),
        budgets=budgets,
        **more,
    )


class InThisProcess:
    """A version that answers in the test's own process: what takes seconds to start is not what most tests are about.

    Implements `deploy.gate.child.VersionAtWork`; its costs are made up and equal.
    """

    def __init__(self, package: Path, rules: Path, batch_rows: int, silence_s: float) -> None:
        self._asked = (package, rules, batch_rows)
        self._loaded: Any = None

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *unused: object) -> None:
        return None

    def load(self) -> None:
        from deploy.gate.answering import load
        from deploy.gate.child import VersionFailed
        from export.contracts.errors import HardcaseError

        try:
            self._loaded = load(*self._asked)
        except HardcaseError as error:
            raise VersionFailed(error.message) from None

    def evaluate(self, folder: str, chunk: int) -> Any:
        from deploy.gate.inputs import open_set

        rows = open_set(Path(folder))
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            yield self._loaded.evaluate(part.inputs, part.truths)

    def time(self, folder: str, rows: list[int]) -> list[float]:
        return [1.0] * len(rows)

    def memory_mib(self) -> float:
        return 1.0


def failed_gate(name: str = "audited") -> GateResult:
    """A failed gate with a check of every kind and a set with an evil name."""
    rng = np.random.default_rng(0)
    champion = (rng.random(300) < 0.9).astype(float)
    candidate = np.where(rng.random(300) < 0.3, 0.0, champion)
    mask = np.arange(300) < 100
    given = {"champion": champion, "candidate": candidate, "ids": tuple(f"i{k}" for k in range(300))}
    sets = [
        EvaluatedSet(name=name, kind=SetKind.AUDITED, slices={"class <b>": mask}, **given),  # type: ignore[arg-type]
        EvaluatedSet(name="golden", kind=SetKind.GOLDEN, used=99, **given),  # type: ignore[arg-type]
    ]
    costs = [Measured(name="size_mib", champion=1.0, candidate=2.0, limit=3.0)]
    verdict = decide(sets, costs, GatePolicy(), [contract("inputs", Outcome.PASSED, "takes every request")])
    same = {"digest": "sha256:00", "unusable": 1, "trained_on": 2, "used": 0}
    return GateResult(
        id="g1",
        model="digits",
        training_id="",
        task="classification",
        champion=Version(version="1", digest="sha256:11"),
        candidate=Version(version="2"),
        outcome=verdict.outcome,
        words=verdict.words,
        checks=verdict.checks,
        sets=tuple(
            SetResult(
                name=s.name,
                kind=s.kind,
                source=s.name,
                inputs=300,
                champion={"accuracy": 0.9},
                candidate={"accuracy": 0.6},
                **same,
            )  # type: ignore[arg-type]
            for s in sets
        ),
        negative_flips=verdict.negative_flips,
        positive_flips=verdict.positive_flips,
        policy=GatePolicy(),
        budgets=GateBudgets(),
        costs={"size_mib": (1.0, 2.0)},
        started_at="2026-11-21T10:00:00Z",
        seconds={"all": 1.0},
    )
