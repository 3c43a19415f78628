"""A package that answers labelled inputs and is judged, in this process: a child of the gate, or a task of Ray."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.errors import PackageError
from export.contracts.manifest import RuntimeKind
from export.package import Package, read_package
from export.preprocess import model_tensors
from export.runners import Runner
from monitoring.gate.judge import Judge, Judged

Array: TypeAlias = npt.NDArray[Any]
NOTHING = Judged(goodness=[], finite=[], confidence=[], answers=[], facts=[])


@dataclass(frozen=True, kw_only=True)
class Answering:
    """A loaded package.

    Attributes:
        run: Arrays as clients send them → outputs by name.
        judge: By the rules of the champion.
        rows: Inputs that it answers at once.
    """

    package: Package
    run: Runner
    judge: Judge
    rows: int

    def evaluate(self, inputs: Mapping[str, Array], truths: Sequence[Any]) -> Judged:
        """Answer and judge.

        Args:
            inputs: By name, (rows, ...), as clients send them.
            truths: What is right, one a row.

        Raises:
            PackageError: it gives another number of answers than it was given inputs.
        """
        judged = NOTHING
        for start in range(0, len(truths), self.rows):
            part = slice(start, min(start + self.rows, len(truths)))
            some = {name: array[part] for name, array in inputs.items()}
            judged = judged.extended(self.judge.judge(some, self.answer(some), truths[part]))
        return judged

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, a row an input.

        Raises:
            PackageError: it gives another number of answers than it was given inputs.
        """
        rows = len(next(iter(inputs.values())))
        if self.package.manifest.signature.batched:
            outputs = self.run(inputs)
        else:
            ones = [self.run({name: array[i] for name, array in inputs.items()}) for i in range(rows)]
            outputs = {name: np.stack([one[name] for one in ones]) for name in ones[0]}
        for name, array in outputs.items():
            if len(array) != rows:
                raise PackageError(f"output '{name}' has {len(array)} rows for {rows} inputs")
        return outputs

    def time(self, inputs: Mapping[str, Array], rows: Sequence[int]) -> list[float]:
        """Milliseconds of a request of one row, for each of `rows`."""
        took = []
        for row in rows:
            one = {name: array[row : row + 1] for name, array in inputs.items()}
            begin = time.perf_counter_ns()
            self.answer(one)
            took.append((time.perf_counter_ns() - begin) / 1e6)
        return took


def load(folder: Path, rules: Path, batch_rows: int) -> Answering:
    """Load a package.

    Args:
        folder: Of the package.
        rules: Package folder of the version whose rules hold.
        batch_rows: Inputs at once, at most what the package allows.

    Raises:
        PackageError: it cannot be loaded; the text is public.
    """
    package, champion = read_package(folder), read_package(rules)
    manifest = package.manifest
    rows = max(1, min(batch_rows, manifest.max_batch_rows))
    judge = Judge(manifest, package.reference(), champion.manifest, champion.reference())
    return Answering(package=package, run=_runner(package), judge=judge, rows=rows)


def _runner(package: Package) -> Runner:
    signature = package.manifest.signature
    for runtime in package.manifest.runtimes:
        path = package.file(runtime.path)
        if runtime.kind is RuntimeKind.ONNX:
            from export.onnx_runner import onnx_runner

            inner = onnx_runner(path, signature.model)
        else:
            from export.torch_runner import signed_runner

            inner = signed_runner(path, signature.model)
        if not signature.preprocesses:
            return inner
        return lambda arrays: inner(model_tensors(signature, arrays))
    raise PackageError("the package has no file that any runtime executes")
