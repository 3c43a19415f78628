"""Are two packages the same? If not, which files differ, and by how much the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from export.contracts import codec
from export.contracts.manifest import FileRole
from export.package import Package, read_package
from export.training.compare_weights import WeightDifference, compare_weights


@dataclass(frozen=True, kw_only=True)
class PackageDifference:
    """What differs between two packages.

    Attributes:
        same: Their digests are equal: every byte is.
        weights_same: The files that compute are equal, whatever else differs.
        files: Paths whose digests differ, or that only one has.
        fields: Fields of the manifests, and of their provenance, that differ.
        golden: Largest difference of an output of the golden cases, where both answer the same rows; else None.
        environment: {library: (before, after)} where the versions differ that they were made with.
        weights: Of the ONNX files, where both have one and the files differ; else None.
    """

    same: bool
    weights_same: bool
    files: tuple[str, ...]
    fields: tuple[str, ...]
    golden: float | None
    environment: dict[str, tuple[str, str]] = field(default_factory=dict)
    weights: WeightDifference | None = None

    def text(self) -> str:
        """For people, one line."""
        if self.same:
            return "the same bytes"
        parts = ["the weights are the same" if self.weights_same else "the weights differ"]
        if self.weights is not None:
            parts.append(self.weights.text())
        if self.golden is not None:
            parts.append(f"answers of the golden cases differ by {self.golden:g} at most")
        parts += [
            f"{name} was {before or 'not there'}, is {after or 'not there'}"
            for name, (before, after) in self.environment.items()
        ]
        parts += [f"differing: {', '.join((*self.files, *self.fields))}"]
        return "; ".join(parts)


def compare_packages(one: Path | str, other: Path | str) -> PackageDifference:
    """Compare two package folders.

    Raises:
        PackageError: one of them cannot be read.
    """
    a, b = read_package(Path(one)), read_package(Path(other))
    left = {file.path: file for file in a.manifest.files}
    right = {file.path: file for file in b.manifest.files}
    digests = {path: (left.get(path), right.get(path)) for path in {*left, *right}}
    differ = {path for path, (x, y) in digests.items() if x is None or y is None or x.sha256 != y.sha256}
    weights = {path for path in {*left, *right} if FileRole.WEIGHTS in {f.role for f in digests[path] if f}}
    return PackageDifference(
        same=a.digest == b.digest,
        weights_same=not weights & differ,
        files=tuple(sorted(differ)),
        fields=tuple(_fields(a, b)),
        golden=_golden(a, b),
        environment=_environment(a, b),
        weights=_weights(a, b, differ),
    )


def _fields(a: Package, b: Package) -> list[str]:
    left, right = codec.to_plain(a.manifest), codec.to_plain(b.manifest)
    found = [name for name in left if name not in ("files", "provenance") and left[name] != right.get(name)]
    before, after = left["provenance"], right["provenance"]
    found += [f"provenance.{name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return found


def _environment(a: Package, b: Package) -> dict[str, tuple[str, str]]:
    before, after = a.manifest.provenance.environment, b.manifest.provenance.environment
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return {name: (before.get(name, ""), after.get(name, "")) for name in names}


def _weights(a: Package, b: Package, differ: set[str]) -> WeightDifference | None:
    """Of the first ONNX file that both have; its numbers may lie in a file beside it."""
    weights = [{file.path for file in one.manifest.files if file.role is FileRole.WEIGHTS} for one in (a, b)]
    shared = sorted(path for path in weights[0] & weights[1] if path.endswith(".onnx"))
    if not shared or not differ & (weights[0] | weights[1]):
        return None
    return compare_weights(a.dir / shared[0], b.dir / shared[0])


def _golden(a: Package, b: Package) -> float | None:
    first, second = a.golden(), b.golden()
    if first is None or second is None or set(first.inputs) != set(second.inputs):
        return None
    if any(not np.array_equal(first.inputs[name], second.inputs[name]) for name in first.inputs):
        return None
    largest = 0.0
    for name in set(first.outputs) & set(second.outputs):
        x, y = np.asarray(first.outputs[name]), np.asarray(second.outputs[name])
        if x.shape != y.shape or not np.issubdtype(x.dtype, np.number):
            return None
        if x.size:
            largest = max(largest, float(np.max(np.abs(x.astype(np.float64) - y.astype(np.float64)))))
    return largest
