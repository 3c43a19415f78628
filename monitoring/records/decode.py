"""Record frames → columns as numpy arrays, without a copy where the layout allows it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from export.contracts.datatypes import Datatype
from monitoring.records.layout import Extra, StreamLayout, TensorLayout
from monitoring.records.record import Outcome


@dataclass(frozen=True, slots=True)
class TensorColumnView:
    """One tensor of all records of a frame. The arrays are read-only views of the frame."""

    layout: TensorLayout
    column: pa.Array
    shapes: pa.Array | None
    one_row_each: bool

    @property
    def datatype(self) -> Datatype:
        """Element type as the protocol spells it."""
        return self.layout.datatype

    @property
    def uniform(self) -> npt.NDArray[Any] | None:
        """(records, *row_shape) when every record has one row of one shape, else None."""
        if self.layout.row_shape is None or not self.one_row_each or self.datatype is Datatype.BYTES:
            return None
        start, size = self.column.offset * self.layout.row_bytes, len(self.column) * self.layout.row_bytes
        values = np.frombuffer(memoryview(self.column.buffers()[1])[start : start + size], self.datatype.numpy)
        return values.reshape(len(self.column), *self.layout.row_shape)

    def raw(self, index: int) -> bytes:
        """The bytes of one record's tensor, as they stand in the log."""
        return bytes(self.column[index].as_buffer())

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of one record's tensor, batch axis included."""
        if self.shapes is not None:
            return tuple(int(d) for d in np.frombuffer(self.shapes[index].as_buffer(), "<i8"))
        rows = len(self.column[index].as_buffer()) // self.layout.row_bytes
        return (rows, *(self.layout.row_shape or ()))

    def get(self, index: int) -> npt.NDArray[Any]:
        """One record's tensor, batch axis included; BYTES come as an object array of bytes.

        Raises:
            ValueError: the bytes do not hold what the shape says.
        """
        shape = self.shape(index)
        buffer = self.column[index].as_buffer()
        if self.datatype is Datatype.BYTES:
            return _elements(memoryview(buffer), shape)
        return np.frombuffer(buffer, self.datatype.numpy).reshape(shape)


def _elements(data: memoryview, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    values = np.empty(int(np.prod(shape, dtype=np.int64)), object)
    at = 0
    for i in range(len(values)):
        if at + 4 > len(data):
            raise ValueError("a BYTES tensor ends before its last element")
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > len(data):
            raise ValueError("a BYTES tensor ends inside an element")
        values[i] = bytes(data[at + 4 : end])
        at = end
    if at != len(data):
        raise ValueError("a BYTES tensor holds more than its elements")
    return values.reshape(shape)


class DecodedRecords:
    """The records of one frame: they share model, version, digest, variant and outcome. Columns decode on first use."""

    def __init__(self, layout: StreamLayout, batch: pa.RecordBatch) -> None:
        self._layout = layout
        self._batch = batch
        self.model = layout.model
        self.version = layout.version
        self.digest = layout.digest
        self.variant: str = layout.variant
        self.outcome: Outcome = layout.outcome

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def take(self, items: npt.NDArray[np.int64]) -> DecodedRecords:
        """The records at these places."""
        return self if len(items) == len(self) else DecodedRecords(self._layout, self._batch.take(pa.array(items)))

    @property
    def layout(self) -> StreamLayout:
        """What is equal for all records, and how the columns are stored."""
        return self._layout

    @property
    def batch(self) -> pa.RecordBatch:
        """The columns as they stand in the log."""
        return self._batch

    @cached_property
    def ids(self) -> list[str]:
        """Record ids. Bytes that are not UTF-8 come as surrogates, so that ids that differ stay different."""
        column = self._batch.column("id")
        try:
            return list(column.cast(pa.string()).to_pylist())
        except pa.ArrowInvalid:
            return [value.decode("utf-8", "surrogateescape") for value in column.to_pylist()]

    @property
    def time_ns(self) -> npt.NDArray[np.int64]:
        """(records,) wall-clock nanoseconds since the epoch."""
        return self._numbers("time_ns")

    @property
    def queue_us(self) -> npt.NDArray[np.int32]:
        """(records,) microseconds in the queue."""
        return self._numbers("queue_us")

    @property
    def compute_us(self) -> npt.NDArray[np.int32]:
        """(records,) microseconds in the model."""
        return self._numbers("compute_us")

    @property
    def total_us(self) -> npt.NDArray[np.int32]:
        """(records,) microseconds from the last byte of the request to the answer."""
        return self._numbers("total_us")

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """(records,) rows of each record."""
        if Extra.ROWS not in self._layout.extras:
            return np.ones(len(self), np.int32)
        return self._numbers("rows")

    @property
    def probability(self) -> npt.NDArray[np.float64]:
        """(records,) inclusion probability; 1 where nothing was sampled."""
        if Extra.PROBABILITY not in self._layout.extras:
            return np.ones(len(self))
        return self._numbers("probability")

    @cached_property
    def error(self) -> list[str | None]:
        """Public error texts."""
        return self._optional(Extra.ERROR, "error")

    @cached_property
    def params(self) -> list[bytes | None]:
        """Request parameters as JSON bytes."""
        return self._optional(Extra.PARAMS, "params")

    @cached_property
    def trace_ids(self) -> list[bytes | None]:
        """Trace ids as the client sent them."""
        return self._optional(Extra.TRACE, "trace_id")

    @cached_property
    def tags(self) -> list[bytes | None]:
        """Client tags as JSON bytes."""
        return self._optional(Extra.TAGS, "tags")

    @property
    def input_names(self) -> tuple[str, ...]:
        """Recorded inputs; empty when the payload was not recorded."""
        return tuple(t.name[3:] for t in self._layout.tensors if t.name.startswith("in."))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Recorded outputs; empty when there was no answer."""
        return tuple(t.name[4:] for t in self._layout.tensors if t.name.startswith("out."))

    def input(self, name: str) -> TensorColumnView:
        """The column of an input.

        Raises:
            KeyError: these records do not hold it.
        """
        return self._tensor(f"in.{name}")

    def output(self, name: str) -> TensorColumnView:
        """The column of an output.

        Raises:
            KeyError: these records do not hold it.
        """
        return self._tensor(f"out.{name}")

    def _tensor(self, name: str) -> TensorColumnView:
        for tensor in self._layout.tensors:
            if tensor.name == name:
                shapes = self._batch.column(f"shape:{name}") if tensor.row_shape is None else None
                return TensorColumnView(tensor, self._batch.column(name), shapes, Extra.ROWS not in self._layout.extras)
        raise KeyError(name)

    def _numbers(self, name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = self._batch.column(name).to_numpy()
        return array

    def _optional(self, flag: Extra, name: str) -> list[Any]:
        if flag not in self._layout.extras:
            return [None] * len(self)
        return list(self._batch.column(name).to_pylist())
