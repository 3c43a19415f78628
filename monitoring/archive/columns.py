"""Records as Parquet columns and back, losing nothing: what is read from the archive equals what the log held.

A tensor `x` is the columns `in.x` (flat list of its elements) and `in.x.shape`, as people and DuckDB want it. What only
we need to put the frames together again is small: the frame's place in the log and the number of its layout, whose text
stands in the file's metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from export.contracts.datatypes import Datatype
from monitoring.batches import Place
from monitoring.records.decode import DecodedRecords
from monitoring.records.folders import Position
from monitoring.records.layout import Extra, StreamLayout, TensorLayout
from monitoring.records.record import Outcome

Array: TypeAlias = npt.NDArray[Any]
Known: TypeAlias = tuple[float | None, int] | None
PLACE = ("place_segment", "place_offset", "sequence", "segment", "end", "frame")


def table_of(
    records: DecodedRecords, place: Place, position: Position, layout_number: int, known: Sequence[Known]
) -> pa.Table:
    """The records of one frame.

    Args:
        records: Of the frame.
        place: Where the frame begins, as rows of `records` name it.
        position: Where it ends.
        layout_number: Index of its layout in the file's metadata.
        known: What the monitor said of each record when it came: P(wrong) and flags.
    """
    batch, n, layout = records.batch, len(records), records.layout
    columns: dict[str, pa.Array] = {
        **_ids(batch.column("id")),
        "time": batch.column("time_ns").cast(pa.timestamp("ns", "UTC")),
        "model": _same(records.model, n),
        "version": _same(records.version, n),
        "digest": _same(records.digest, n),
        "variant": _same(records.variant, n),
        "outcome": _same(records.outcome.value, n),
        "rows": pa.array(records.rows),
        "queue_us": batch.column("queue_us"),
        "compute_us": batch.column("compute_us"),
        "total_us": batch.column("total_us"),
        "probability": pa.array(records.probability),
        "error": _given(batch, layout, Extra.ERROR, "error", pa.string()),
        "parameters": _given(batch, layout, Extra.PARAMS, "params", pa.binary()),
        "trace_id": _given(batch, layout, Extra.TRACE, "trace_id", pa.binary()),
        "tags": _given(batch, layout, Extra.TAGS, "tags", pa.binary()),
        "log": _same(place.source, n),
        "p_wrong": pa.array([None if k is None else k[0] for k in known], pa.float64()),
        "flags": pa.array([None if k is None else k[1] for k in known], pa.int64()),
        **{name: _number(value, n) for name, value in place_columns(place, position).items()},
        "layout": pa.array(np.full(n, layout_number, np.int16)),
    }
    for tensor in layout.tensors:
        columns |= _tensor_columns(records, tensor)
    return pa.table(columns)


def place_columns(place: Place, position: Position) -> dict[str, int]:
    """Begin and end of a frame, by column."""
    ends = (position.segment, position.offset, position.sequence)
    return dict(zip(PLACE, (place.segment, place.offset, place.sequence, *ends), strict=True))


def layout_json(layout: StreamLayout) -> dict[str, Any]:
    """A layout for the file's metadata."""
    return asdict(layout)


def layout_of(plain: dict[str, Any]) -> StreamLayout:
    """The inverse of `layout_json`."""
    tensors = tuple(
        TensorLayout(
            t["name"],
            Datatype(t["datatype"]),
            None if t["row_shape"] is None else tuple(t["row_shape"]),
            t["row_bytes"],
        )
        for t in plain["tensors"]
    )
    fixed = {"outcome": Outcome(plain["outcome"]), "extras": Extra(plain["extras"]), "tensors": tensors}
    return StreamLayout(**{**plain, **fixed})


def records_of(
    table: pa.Table, layouts: list[StreamLayout], *, by_frame: bool
) -> Iterator[tuple[pa.Table, DecodedRecords]]:
    """Records of a table with the part of the table that they are: frame by frame, or as few groups as possible."""
    table = table.combine_chunks()
    numbers = np.asarray(table["layout"])
    if by_frame:
        sequence = np.asarray(table["sequence"])
        edges = np.flatnonzero(np.diff(sequence)) + 1
        bounds = [0, *edges.tolist(), len(sequence)] if len(sequence) else []
        for start, stop in pairwise(bounds):
            part = table.slice(start, stop - start)
            yield part, _decode(part, layouts[int(numbers[start])])
        return
    for number in np.unique(numbers).tolist():
        mine = numbers == number
        part = table if mine.all() else table.filter(pa.array(mine))
        yield part, _decode(part, layouts[number])


def _decode(table: pa.Table, layout: StreamLayout) -> DecodedRecords:
    """The record batch that the log held, or would have held for these records."""
    batch = table.combine_chunks().to_batches(max_chunksize=None)[0]
    arrays: list[pa.Array] = []
    schema = layout.arrow_schema()
    for field in schema:
        arrays.append(_column(batch, layout, field.name))
    return DecodedRecords(layout, pa.RecordBatch.from_arrays(arrays, schema=schema))


def _column(batch: pa.RecordBatch, layout: StreamLayout, name: str) -> pa.Array:
    renamed = {"params": "parameters"}
    if name == "id":
        return _raw_ids(batch)
    if name == "time_ns":
        return batch.column("time").cast(pa.int64())
    for tensor in layout.tensors:
        if name == tensor.name:
            return _tensor_bytes(batch, layout, tensor)
        if name == f"shape:{tensor.name}":
            return _shapes(batch.column(f"{tensor.name}.shape"))
    return batch.column(renamed.get(name, name))


# ---- ids -------------------------------------------------------------------------------------------------------------


def _ids(column: pa.Array) -> dict[str, pa.Array]:
    """`id` as text; `id_raw` holds the bytes where they are no text."""
    n = len(column)
    try:
        return {"id": column.cast(pa.string()), "id_raw": pa.nulls(n, pa.binary())}
    except pa.ArrowInvalid:
        raw = column.to_pylist()
        texts = [value.decode("utf-8", "backslashreplace") for value in raw]
        plain = [None if t.encode() == value else value for t, value in zip(texts, raw, strict=True)]
        return {"id": pa.array(texts, pa.string()), "id_raw": pa.array(plain, pa.binary())}


def _raw_ids(batch: pa.RecordBatch) -> pa.Array:
    ids, raw = batch.column("id").cast(pa.binary()), batch.column("id_raw")
    if raw.null_count == len(raw):
        return ids
    return pa.array([i if r is None else r for i, r in zip(ids.to_pylist(), raw.to_pylist(), strict=True)], pa.binary())


# ---- tensors ---------------------------------------------------------------------------------------------------------


def _tensor_columns(records: DecodedRecords, tensor: TensorLayout) -> dict[str, pa.Array]:
    batch, n, datatype = records.batch, len(records), tensor.datatype
    column = batch.column(tensor.name)
    if tensor.row_shape is None:
        dims = batch.column(f"shape:{tensor.name}")
        view = np.frombuffer(_data(dims), "<i8")
        shape = _lists(view, _ends(dims) // 8)
    else:
        size = 1 + len(tensor.row_shape)
        view = np.empty((n, size), np.int64)
        view[:, 0], view[:, 1:] = records.rows, tensor.row_shape
        shape = _lists(view.ravel(), np.arange(n + 1) * size)
    if datatype is Datatype.BYTES:
        elements = [records_view.ravel().tolist() for records_view in _each(records, tensor)]
        values = pa.array(elements, pa.large_list(pa.binary()))
    else:
        flat = np.frombuffer(_data(column), datatype.numpy)
        values = _lists(_widen(flat) if datatype is Datatype.BF16 else flat, _ends(column) // datatype.itemsize)
    return {tensor.name: values, f"{tensor.name}.shape": shape}


def _each(records: DecodedRecords, tensor: TensorLayout) -> Iterator[Array]:
    side, _, name = tensor.name.partition(".")
    view = records.input(name) if side == "in" else records.output(name)
    return (view.get(i) for i in range(len(records)))


def _tensor_bytes(batch: pa.RecordBatch, layout: StreamLayout, tensor: TensorLayout) -> pa.Array:
    column, n = batch.column(tensor.name), batch.num_rows
    if tensor.datatype is Datatype.BYTES:
        encoded = [b"".join(len(e).to_bytes(4, "little") + e for e in record) for record in column.to_pylist()]
        return pa.array(encoded, pa.large_binary())
    offsets = np.asarray(column.offsets)
    values = column.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    flat = values.to_numpy(zero_copy_only=False)
    if tensor.datatype is Datatype.BF16:
        flat = (np.ascontiguousarray(flat, np.float32).view(np.uint32) >> 16).astype("<u2")
    flat = np.ascontiguousarray(flat, tensor.datatype.numpy)
    data = pa.py_buffer(flat.view(np.uint8).reshape(-1) if flat.size else b"")
    if tensor.row_shape is not None and Extra.ROWS not in layout.extras:
        return pa.Array.from_buffers(pa.binary(tensor.row_bytes), n, [None, data])
    ends = (offsets - offsets[0]).astype(np.int64) * tensor.datatype.itemsize
    return pa.Array.from_buffers(pa.large_binary(), n, [None, pa.py_buffer(ends), data])


def _shapes(column: pa.Array) -> pa.Array:
    offsets = np.asarray(column.offsets)
    flat = np.asarray(column.values)[int(offsets[0]) : int(offsets[-1])].astype("<i8")
    ends = ((offsets - offsets[0]) * 8).astype(np.int32)
    data = pa.py_buffer(flat.view(np.uint8) if flat.size else b"")
    return pa.Array.from_buffers(pa.binary(), len(column), [None, pa.py_buffer(ends), data])


def _data(column: pa.Array) -> memoryview:
    """The bytes of a binary column, without what lies before or behind its values."""
    buffers, width = column.buffers(), getattr(column.type, "byte_width", None) if _is_fixed(column) else None
    if width is not None:
        return memoryview(buffers[1])[column.offset * width : (column.offset + len(column)) * width]
    ends = _absolute_ends(column)
    return memoryview(buffers[2])[int(ends[0]) : int(ends[-1])] if buffers[2] is not None else memoryview(b"")


def _ends(column: pa.Array) -> npt.NDArray[np.int64]:
    if _is_fixed(column):
        return np.asarray(np.arange(len(column) + 1) * column.type.byte_width, dtype=np.int64)
    ends = _absolute_ends(column)
    return np.asarray(ends - ends[0], dtype=np.int64)


def _absolute_ends(column: pa.Array) -> npt.NDArray[np.int64]:
    dtype = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    offsets = np.frombuffer(column.buffers()[1], dtype)[column.offset : column.offset + len(column) + 1]
    return offsets.astype(np.int64)


def _is_fixed(column: pa.Array) -> bool:
    return bool(pa.types.is_fixed_size_binary(column.type))


def _lists(flat: Array, ends: npt.NDArray[np.int64]) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(ends.astype(np.int64)), pa.array(flat))


def _widen(bf16: Array) -> npt.NDArray[np.float32]:
    """BF16 is the upper half of a float32."""
    return (bf16.astype(np.uint32) << 16).view(np.float32)


def _same(text: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), pa.array([text])).cast(pa.string())


def _number(value: int, n: int) -> pa.Array:
    return pa.array(np.full(n, value, np.int64))


def _given(batch: pa.RecordBatch, layout: StreamLayout, flag: Extra, name: str, kind: pa.DataType) -> pa.Array:
    return batch.column(name) if flag in layout.extras else pa.nulls(batch.num_rows, kind)
