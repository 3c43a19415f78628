"""A uniform sample of a window's rows, for reports: the rows with the lowest lots, so it does not depend on order.

Bottom-k sampling (Cohen & Kaplan, "Summarizing data using bottom-k sketches", PODC 2007).
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowSample:
    """At most `capacity` rows of watched values.

    Attributes:
        columns: Names of the values, in order.
        lots: (rows,) float64 in [0, 1), ascending: the lot of each row.
        predicted: (rows,) int64 class index, -1 where there is none.
        values: (rows, columns) float32.
    """

    capacity: int
    columns: tuple[str, ...]
    lots: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]

    @classmethod
    def draw(
        cls,
        capacity: int,
        columns: tuple[str, ...],
        lots: npt.NDArray[np.float64],
        predicted: npt.NDArray[np.int64],
        values: npt.NDArray[np.float32],
    ) -> WindowSample:
        """The sample of these rows."""
        chosen = _lowest(lots, predicted, values, capacity)
        return cls(
            capacity=capacity, columns=columns, lots=lots[chosen], predicted=predicted[chosen], values=values[chosen]
        )

    def merge(self, other: WindowSample) -> WindowSample:
        """The sample of the rows of both; `self` itself when `other` adds nothing. Other columns: the larger name."""
        if self.columns != other.columns:
            return max(self, other, key=lambda s: s.columns)
        full = len(self.lots) >= self.capacity
        if not len(other.lots) or (full and self.lots[-1] < other.lots[0]):
            return self
        return WindowSample.draw(
            self.capacity,
            self.columns,
            np.concatenate([self.lots, other.lots]),
            np.concatenate([self.predicted, other.predicted]),
            np.concatenate([self.values, other.values]),
        )

    def encode(self) -> bytes:
        """Bytes for the database."""
        head = {"capacity": self.capacity, "columns": list(self.columns), "rows": len(self.lots)}
        arrays: tuple[Any, ...] = (self.lots.astype("<f8"), self.predicted.astype("<i8"), self.values.astype("<f4"))
        body = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
        return json.dumps(head, separators=(",", ":")).encode() + b"\0" + zlib.compress(body, 1)

    @classmethod
    def decode(cls, data: bytes) -> WindowSample:
        """The inverse of `encode`."""
        head_bytes, _, body = data.partition(b"\0")
        head, plain = json.loads(head_bytes), zlib.decompress(body)
        rows, columns = head["rows"], tuple(head["columns"])
        return cls(
            capacity=head["capacity"],
            columns=columns,
            lots=np.frombuffer(plain, "<f8", rows),
            predicted=np.frombuffer(plain, "<i8", rows, offset=rows * 8),
            values=np.frombuffer(plain, "<f4", offset=rows * 16).reshape(rows, len(columns)),
        )


def _lowest(
    lots: npt.NDArray[np.float64], predicted: npt.NDArray[np.int64], values: npt.NDArray[np.float32], capacity: int
) -> npt.NDArray[np.int64]:
    """Indices of the rows with the lowest lots, ascending; equal lots (one record's rows) by their content."""
    if len(lots) > 4 * capacity:
        near = np.flatnonzero(lots <= np.partition(lots, capacity)[capacity])
    else:
        near = np.arange(len(lots))
    order = sorted(near.tolist(), key=lambda i: (lots[i], int(predicted[i]), values[i].tobytes()))
    return np.array(order[:capacity], dtype=np.int64)
