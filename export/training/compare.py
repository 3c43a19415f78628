"""Are two packages the same? If not, which files differ, and by how much the answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.contracts import codec
from export.contracts.manifest import FileRole
from export.package import Package, read_package


@dataclass(frozen=True, kw_only=True)
class PackageDifference:
    """What differs between two packages.

    Attributes:
        same: Their digests are equal: every byte is.
        weights_same: The files that compute are equal, whatever else differs.
        files: Paths whose digests differ, or that only one has.
        fields: Fields of the manifests, and of their provenance, that differ.
        golden: Largest difference of an output of the golden cases, where both answer the same rows; else None.
    """

    same: bool
    weights_same: bool
    files: tuple[str, ...]
    fields: tuple[str, ...]
    golden: float | None

    def text(self) -> str:
        """For people, one line."""
        if self.same:
            return "the same bytes"
        parts = ["the weights are the same" if self.weights_same else "the weights differ"]
        if self.golden is not None:
            parts.append(f"answers of the golden cases differ by {self.golden:g} at most")
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
    )


def _fields(a: Package, b: Package) -> list[str]:
    left, right = codec.to_plain(a.manifest), codec.to_plain(b.manifest)
    found = [name for name in left if name not in ("files", "provenance") and left[name] != right.get(name)]
    before, after = left["provenance"], right["provenance"]
    found += [f"provenance.{name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return found


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
