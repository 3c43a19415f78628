"""Record batches → Arrow record batch messages: whole columns at a time, no work per record where it can be avoided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from export.contracts.datatypes import Datatype
from monitoring.records.layout import MICROSECONDS_MAX, Extra, StreamLayout, TensorLayout
from monitoring.records.record import Ragged, RecordBatch, RecordSchema, Rows, TensorData

StreamKey: TypeAlias = tuple[Any, ...]

_RECORD_OVERHEAD_BYTES = 160  # id, times and object headers of one waiting record, for the buffer's bound
_NOTHING = (None,) * 5
_SHAPES_PER_SCHEMA = 64  # row shapes stored as streams of their own; further ones carry their shape in each record


def payload_bytes(batch: RecordBatch) -> int:
    """Bytes that a waiting batch holds, about."""
    n = len(batch.ids)
    total = batch.nbytes
    if not total:
        for tensor in chain(batch.inputs, batch.outputs):
            if isinstance(tensor, Rows):
                total += tensor.row_bytes * (n if batch.rows is None else int(sum(batch.rows)))
            else:
                total += sum(map(len, tensor.data))
        for column in (batch.error, batch.params, batch.trace_ids, batch.tags):
            if column is not None:
                total += sum(len(value) for value in column if value is not None)
    return total + n * _RECORD_OVERHEAD_BYTES


def select(batch: RecordBatch, kept: Sequence[int]) -> RecordBatch:
    """The records at the given places, in that order."""
    rows = None if batch.rows is None else [int(r) for r in batch.rows]

    def pick(column: Sequence[Any] | None) -> list[Any] | None:
        return None if column is None else [column[i] for i in kept]

    def tensor(data: TensorData) -> TensorData:
        if isinstance(data, Ragged):
            return Ragged([data.data[i] for i in kept], [data.shapes[i] for i in kept])
        view = _raw(data.data)
        ends = np.cumsum(np.ones(len(batch.ids), np.int64) if rows is None else np.asarray(rows)) * data.row_bytes
        starts = np.concatenate(([0], ends[:-1]))
        return Rows(b"".join(view[starts[i] : ends[i]] for i in kept), data.row_shape, data.row_bytes)

    return replace(
        batch,
        ids=[batch.ids[i] for i in kept],
        time_ns=[batch.time_ns[i] for i in kept],
        queue_ns=[batch.queue_ns[i] for i in kept],
        total_ns=[batch.total_ns[i] for i in kept],
        compute_ns=batch.compute_ns if isinstance(batch.compute_ns, int) else pick(batch.compute_ns) or 0,
        rows=pick(rows),
        inputs=tuple(map(tensor, batch.inputs)),
        outputs=tuple(map(tensor, batch.outputs)),
        error=pick(batch.error),
        params=pick(batch.params),
        trace_ids=pick(batch.trace_ids),
        tags=pick(batch.tags),
        keep=pick(batch.keep),
        nbytes=0,
    )


class Encoder:
    """Finds the stream of a batch and encodes batches of one stream. Used by the writer thread alone."""

    def __init__(self) -> None:
        self._layouts: dict[StreamKey, StreamLayout] = {}
        self._shapes: dict[int, set[tuple[Any, ...]]] = {}
        self._schemas: dict[int, RecordSchema] = {}  # keeps each schema alive, so that its id() stays its own

    def stream(self, batch: RecordBatch) -> StreamLayout:
        """The layout under which a batch is stored; batches with the same object may be encoded together.

        Raises:
            ValueError: the batch contradicts itself or its schema.
        """
        schema, inputs, outputs = batch.schema, batch.inputs, batch.outputs
        if not len(batch.ids) == len(batch.time_ns) == len(batch.queue_ns) == len(batch.total_ns):
            raise ValueError("ids, time_ns, queue_ns and total_ns differ in length")
        if not isinstance(batch.compute_ns, int) and len(batch.compute_ns) != len(batch.ids):
            raise ValueError(f"compute_ns has {len(batch.compute_ns)} entries for {len(batch.ids)} records")
        if (inputs and len(inputs) != len(schema.inputs)) or (outputs and len(outputs) != len(schema.outputs)):
            raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs do not fit the schema")
        extras = _extras(batch)
        shapes = tuple([t.row_shape if type(t) is Rows else None for t in (*inputs, *outputs)])
        key = (id(schema), batch.variant, batch.outcome, extras, len(inputs), len(outputs), shapes)
        return self._layouts.get(key) or self._new(batch, key[:-1], shapes)

    def _new(self, batch: RecordBatch, base: StreamKey, shapes: tuple[Any, ...]) -> StreamLayout:
        schema = batch.schema
        if len(self._layouts) > 4096:  # a caller that makes a schema per request must not make us grow
            self._layouts.clear()
            self._shapes.clear()
            self._schemas.clear()
        self._schemas[id(schema)] = schema
        known = self._shapes.setdefault(id(schema), set())
        if shapes not in known and len(known) >= _SHAPES_PER_SCHEMA:
            shapes = (None,) * len(shapes)
        known.add(shapes)
        layout = self._layouts.get((*base, shapes))
        if layout is not None:
            return layout
        columns = [("in", c) for c in schema.inputs if batch.inputs]
        columns += [("out", c) for c in schema.outputs if batch.outputs]
        layout = StreamLayout(
            model=schema.model,
            version=schema.version,
            digest=schema.digest,
            variant=batch.variant,
            outcome=batch.outcome,
            extras=Extra(base[3]),
            tensors=tuple(
                _tensor_layout(f"{side}.{column.name}", column.datatype, shape)
                for (side, column), shape in zip(columns, shapes, strict=True)
            ),
        )
        self._layouts[(*base, shapes)] = layout
        return layout


def _tensor_layout(name: str, datatype: Datatype, row_shape: tuple[int, ...] | None) -> TensorLayout:
    row_bytes = 0 if row_shape is None else math.prod(row_shape) * datatype.itemsize
    if not row_bytes:  # BYTES elements, no elements, or shapes that differ: a column with one shape a record
        return TensorLayout(name, datatype, None)
    return TensorLayout(name, datatype, row_shape, row_bytes)


def _extras(batch: RecordBatch) -> int:
    """Which optional columns a batch needs, as the bits of `Extra`."""
    extras, n = 0, len(batch.ids)
    columns = (batch.rows, batch.error, batch.params, batch.trace_ids, batch.tags)
    if columns != _NOTHING:
        for bit, column in enumerate(columns):
            if column is not None:
                extras |= 1 << bit
                if len(column) != n:
                    raise ValueError(f"an optional column has {len(column)} entries for {n} records")
    if batch.keep is not None and len(batch.keep) != n:
        raise ValueError(f"keep has {len(batch.keep)} entries for {n} records")
    if batch.probability != 1.0:
        extras |= Extra.PROBABILITY.value
    return extras


def encode(layout: StreamLayout, schema: pa.Schema, batches: Sequence[RecordBatch]) -> pa.Buffer:
    """One Arrow record batch message with the records of all `batches`, which share `layout`.

    Raises:
        ValueError: a tensor does not hold what its shape and the number of rows say.
    """
    counts = [len(b.ids) for b in batches]
    n = sum(counts)
    extras = layout.extras
    arrays: list[pa.Array] = [
        _binary(list(chain.from_iterable(b.ids for b in batches))),
        _fixed(pa.int64(), n, _concat([b.time_ns for b in batches], n)),
        _fixed(pa.int32(), n, _microseconds(_concat([b.queue_ns for b in batches], n))),
        _fixed(pa.int32(), n, _microseconds(_each([b.compute_ns for b in batches], counts, n))),
        _fixed(pa.int32(), n, _microseconds(_concat([b.total_ns for b in batches], n))),
    ]
    rows: npt.NDArray[np.int64] | None = None
    if Extra.ROWS in extras:
        rows = _concat([b.rows for b in batches if b.rows is not None], n)
        arrays.append(_fixed(pa.int32(), n, rows.astype(np.int32)))
    if Extra.ERROR in extras:
        texts = chain.from_iterable(b.error or () for b in batches)
        arrays.append(pa.array([t if t is None else t.encode("utf-8", "replace") for t in texts], pa.string()))
    if Extra.PARAMS in extras:
        arrays.append(pa.array(list(chain.from_iterable(b.params or () for b in batches)), pa.binary()))
    if Extra.TRACE in extras:
        arrays.append(pa.array(list(chain.from_iterable(b.trace_ids or () for b in batches)), pa.binary()))
    if Extra.TAGS in extras:
        arrays.append(pa.array(list(chain.from_iterable(b.tags or () for b in batches)), pa.binary()))
    if Extra.PROBABILITY in extras:
        arrays.append(_fixed(pa.float64(), n, np.repeat([b.probability for b in batches], counts)))
    columns = [list(column) for column in zip(*[b.inputs for b in batches], strict=True)]
    columns += [list(column) for column in zip(*[b.outputs for b in batches], strict=True)]
    for tensor, data in zip(layout.tensors, columns, strict=True):
        arrays.extend(_tensor(tensor, data, batches, n, rows))
    return pa.RecordBatch.from_arrays(arrays, schema=schema).serialize()


def _raw(data: npt.NDArray[Any] | bytes | memoryview) -> memoryview:
    view = memoryview(np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B") if view.nbytes else memoryview(b"")


def _concat(columns: Sequence[Sequence[int]], n: int) -> npt.NDArray[np.int64]:
    if isinstance(columns[0], list | tuple):
        return np.fromiter(chain.from_iterable(columns), np.int64, n)
    return np.concatenate([np.asarray(c, np.int64) for c in columns])


def _each(values: Sequence[int | Sequence[int]], counts: Sequence[int], n: int) -> npt.NDArray[np.int64]:
    """One number a record, of numbers that a batch has one of, or one a record."""
    columns = [[v] * k if isinstance(v, int) else v for v, k in zip(values, counts, strict=True)]
    return np.fromiter(chain.from_iterable(columns), np.int64, n)


def _microseconds(ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    us = ns // 1000
    np.minimum(us, MICROSECONDS_MAX, out=us)
    np.maximum(us, 0, out=us)
    return us.astype(np.int32)


def _fixed(kind: pa.DataType, n: int, values: npt.NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(kind, n, [None, pa.py_buffer(values)])


def _offsets(lengths: Iterable[int], n: int, dtype: Any) -> npt.NDArray[Any]:
    offsets = np.zeros(n + 1, dtype)
    np.cumsum(np.fromiter(lengths, np.int64, n), out=offsets[1:])
    return offsets


def _binary(values: Sequence[bytes | memoryview]) -> pa.Array:
    n = len(values)
    offsets = _offsets(map(len, values), n, np.int32)
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))])


def _tensor(
    layout: TensorLayout,
    data: Sequence[TensorData],
    batches: Sequence[RecordBatch],
    n: int,
    rows: npt.NDArray[np.int64] | None,
) -> list[pa.Array]:
    if layout.row_shape is None:
        pieces, shapes = _as_ragged(layout, data, batches)
        offsets = _offsets(map(len, pieces), n, np.int64)
        values = pa.py_buffer(pieces[0] if n == 1 else b"".join(pieces))
        return [
            pa.Array.from_buffers(pa.large_binary(), n, [None, pa.py_buffer(offsets), values]),
            _binary([np.asarray(shape, "<i8").tobytes() for shape in shapes]),
        ]
    raw = [d.data for d in data if isinstance(d, Rows)]
    for piece, batch in zip(raw, batches, strict=True):
        found = len(piece) if isinstance(piece, bytes) else piece.nbytes
        expected = (len(batch.ids) if batch.rows is None else int(sum(batch.rows))) * layout.row_bytes
        if found != expected:
            raise ValueError(f"{layout.name} holds {found} bytes where its rows need {expected}")
    values = pa.py_buffer(_raw(raw[0]) if len(raw) == 1 else _join(raw))
    if rows is None:
        return [pa.Array.from_buffers(pa.binary(layout.row_bytes), n, [None, values])]
    offsets = np.zeros(n + 1, np.int64)
    np.cumsum(rows * layout.row_bytes, out=offsets[1:])
    return [pa.Array.from_buffers(pa.large_binary(), n, [None, pa.py_buffer(offsets), values])]


def _join(pieces: Sequence[Any]) -> bytes:
    try:
        return b"".join(pieces)
    except TypeError:  # one of them is not contiguous
        return b"".join(map(_raw, pieces))


def _as_ragged(
    layout: TensorLayout, data: Sequence[TensorData], batches: Sequence[RecordBatch]
) -> tuple[list[memoryview], list[tuple[int, ...]]]:
    pieces: list[memoryview] = []
    shapes: list[tuple[int, ...]] = []
    for tensor, batch in zip(data, batches, strict=True):
        n = len(batch.ids)
        if isinstance(tensor, Ragged):
            if len(tensor.data) != n or len(tensor.shapes) != n:
                raise ValueError(f"{layout.name} holds {len(tensor.data)} buffers for {n} records")
            pieces.extend(map(_raw, tensor.data))
            shapes.extend(tensor.shapes)
            continue
        raw = _raw(tensor.data)
        counts = [1] * n if batch.rows is None else [int(r) for r in batch.rows]
        expected = sum(counts) * tensor.row_bytes
        if len(raw) != expected:
            raise ValueError(f"{layout.name} holds {len(raw)} bytes where its rows need {expected}")
        at = 0
        for count in counts:
            pieces.append(raw[at : at + count * tensor.row_bytes])
            shapes.append((count, *tensor.row_shape))
            at += count * tensor.row_bytes
    if layout.datatype is not Datatype.BYTES:
        for piece, shape in zip(pieces, shapes, strict=True):
            if len(piece) != layout.datatype.itemsize * int(np.prod(shape, dtype=np.int64)):
                raise ValueError(f"{layout.name} holds {len(piece)} bytes for shape {list(shape)}")
    return pieces, shapes
