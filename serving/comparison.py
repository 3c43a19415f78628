"""Two versions' answers to the same rows, held against each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from export.contracts.bf16 import widen
from export.contracts.datatypes import Datatype
from export.contracts.signature import OutputRole, OutputSpec, Signature
from serving.evidence import Difference
from serving.runtime.base import Array

if TYPE_CHECKING:
    from serving.answer import BatchOutputs

_SCORES = (OutputRole.LOGITS, OutputRole.PROBABILITIES)


@dataclass(slots=True, kw_only=True)
class Comparison:
    """How the challenger's answers to `rows` rows differ from the champion's.

    Attributes:
        different: Rows that differ, by how; a row counts once for each way.
        max_abs_difference: Largest absolute difference of float outputs, where both are finite.
    """

    rows: int
    different: dict[Difference, int] = field(default_factory=dict)
    max_abs_difference: float = 0.0


class InputMap:
    """Finds the challenger's inputs among the champion's, by name.

    Args:
        champion, challenger: Their signatures.
    """

    def __init__(self, champion: Signature, challenger: Signature) -> None:
        index = {spec.name: (i, spec) for i, spec in enumerate(champion.inputs)}
        found = [index.get(spec.name) for spec in challenger.inputs]
        fits = champion.batched == challenger.batched and all(
            f is not None and f[1].datatype is s.datatype and len(f[1].shape) == len(s.shape)
            for f, s in zip(found, challenger.inputs, strict=True)
        )
        self.indices = [f[0] for f in found if f is not None] if fits else []
        self._shapes = [spec.shape[challenger.batched :] for spec in challenger.inputs]
        self._from = int(challenger.batched)
        # when the champion's shapes are as strict, nothing has to be looked at per batch
        self._open = [
            (at, i)
            for at, i in enumerate(self.indices)
            if any(mine not in (-1, his) for mine, his in zip(
                self._shapes[at], champion.inputs[i].shape[self._from :], strict=True))
        ]  # fmt: skip

    def fits(self, inputs: Sequence[Array]) -> bool:
        """Whether the challenger takes these arrays of the champion's."""
        if not self.indices:
            return False
        return all(
            mine in (-1, size)
            for at, i in self._open
            for mine, size in zip(self._shapes[at], inputs[i].shape[self._from :], strict=True)
        )

    def pick(self, inputs: Sequence[Array]) -> list[Array]:
        """The challenger's inputs, in its order; not copied."""
        return [inputs[i] for i in self.indices]


class Comparator:
    """Compares the outputs that are answered by default.

    Args:
        champion, challenger: Their signatures.
    """

    def __init__(self, champion: Signature, challenger: Signature) -> None:
        index = {spec.name: (i, spec) for i, spec in enumerate(challenger.outputs)}
        self._batched = champion.batched
        self._pairs: list[tuple[OutputSpec, int, int | None]] = []
        scores = next((s.name for s in champion.outputs if s.role in _SCORES), None)
        for i, spec in enumerate(champion.outputs):
            if not spec.role.answered_by_default:
                continue
            other = index.get(spec.name)
            same = other is not None and other[1].datatype is spec.datatype
            self._pairs.append((spec, i, other[0] if same and other is not None else None))
        self._scores = scores

    def compare(
        self, champion: Sequence[tuple[BatchOutputs, Array | None]], challenger: BatchOutputs, rows: int
    ) -> Comparison:
        """Compare one pass.

        Args:
            champion: The champion's batches in the order of the challenger's rows, each with the index of the rows that
                were mirrored (None: all).
            challenger: Its outputs for all those rows.
            rows: How many rows; an unbatched answer is one.

        Returns:
            Counts of rows.
        """
        result = Comparison(rows=rows)
        different: dict[Difference, Array] = {}
        for spec, i, j in self._pairs:
            theirs = [_part(outputs.arrays[i], chosen) for outputs, chosen in champion]
            ours = challenger.arrays[j] if j is not None else None
            arrays = [array for array in theirs if array is not None]
            if len(arrays) != len(theirs):
                continue  # the champion did not run this output
            expected = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            if not self._batched:
                expected, ours = expected[None], None if ours is None else ours[None]
            if ours is None or ours.shape != expected.shape:
                _mark(different, Difference.SHAPE, np.ones(rows, np.bool_))
                continue
            largest = self._hold(spec, expected, ours, different)
            result.max_abs_difference = max(result.max_abs_difference, largest)
        result.different = {kind: int(found.sum()) for kind, found in different.items()}
        return result

    def _hold(self, spec: OutputSpec, expected: Array, got: Array, different: dict[Difference, Array]) -> float:
        """Mark the rows of one output that differ; the largest difference."""
        flat_a, flat_b = (a.reshape(len(a), -1) for a in (expected, got))  # (row, element)
        if not spec.datatype.is_float:
            _mark(different, Difference.VALUE, (flat_a != flat_b).any(axis=1))
            return 0.0
        if spec.datatype is Datatype.BF16:  # bits: the high half of an FP32
            flat_a, flat_b = widen(flat_a), widen(flat_b)
        finite_a, finite_b = np.isfinite(flat_a), np.isfinite(flat_b)
        _mark(different, Difference.NON_FINITE, (finite_a & ~finite_b).any(axis=1))
        if spec.name == self._scores and expected.ndim > 1 and flat_a.shape[1]:
            _mark(different, Difference.ARGMAX, _classes(flat_a) != _classes(flat_b))
        both = finite_a & finite_b
        if not both.any():
            return 0.0
        gap = np.subtract(flat_a, flat_b, out=np.zeros(both.shape), where=both, dtype=np.float64)  # (row, element)
        return float(np.abs(gap).max())


def _classes(scores: Array) -> Array:
    """(row, element) to the index of the largest element of each row; NaN is never the largest."""
    result: Array = np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=1)
    return result


def _part(array: Array | None, rows: Array | None) -> Array | None:
    return array if array is None or rows is None else array[rows]


def _mark(different: dict[Difference, Array], kind: Difference, found: object) -> None:
    known, rows = different.get(kind), np.asarray(found)
    different[kind] = rows if known is None else known | rows
