"""The data file's columns: rows to Arrow tables and back."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from export.contracts.arrays import decode_bytes, encode_bytes
from export.contracts.dataset import Source, Split
from export.contracts.datatypes import Datatype
from export.contracts.errors import SnapshotError
from export.contracts.signature import Signature
from export.dataset.rows import Array, DatasetRow

TEXTS = ("row_id", "split", "source", "group", "author", "case_id", "record_id", "version", "content")
INPUT, SHAPE = "input:", "shape:"


def schema_of(signature: Signature) -> pa.Schema:
    """Columns in their order."""
    fields = [pa.field(name, pa.string(), nullable=False) for name in TEXTS]
    fields += [
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("time_ns", pa.int64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("predicted", pa.string()),
        pa.field("slices", pa.list_(pa.string()), nullable=False),
    ]
    for spec in signature.inputs:
        fields += [
            pa.field(INPUT + spec.name, pa.binary(), nullable=False),
            pa.field(SHAPE + spec.name, pa.list_(pa.int32()), nullable=False),
        ]
    return pa.schema(fields)


def to_table(rows: Sequence[DatasetRow], signature: Signature) -> pa.Table:
    """Some rows as a table.

    Raises:
        SnapshotError: a row lacks an input, or one is of another type or shape than the signature's.
    """
    columns: dict[str, Any] = {name: [str(getattr(row, name)) for row in rows] for name in TEXTS}
    columns["weight"] = [row.weight for row in rows]
    columns["time_ns"] = [row.time_ns for row in rows]
    columns["label"] = [to_json(row.label) for row in rows]
    columns["predicted"] = [None if row.predicted is None else to_json(row.predicted) for row in rows]
    columns["slices"] = [list(row.slices) for row in rows]
    for spec in signature.inputs:
        dtype, wanted = spec.datatype.numpy, spec.shape[1:] if signature.batched else spec.shape
        data, shapes = [], []
        for row in rows:
            array = row.inputs.get(spec.name)
            if array is None or array.dtype != dtype or not _fits(wanted, array.shape):
                found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
                raise SnapshotError(
                    f"row {row.row_id}: input '{spec.name}' is {found}, the signature has "
                    f"{spec.datatype} {list(wanted)}"
                )
            data.append(encode_bytes(array) if spec.datatype is Datatype.BYTES else array.tobytes())
            shapes.append(list(array.shape))
        columns[INPUT + spec.name], columns[SHAPE + spec.name] = data, shapes
    return pa.table(columns, schema=schema_of(signature))


def to_rows(table: pa.Table, signature: Signature) -> list[DatasetRow]:
    """The inverse of `to_table`."""
    tensors = {spec.name: tensors_of(table, spec.name, spec.datatype) for spec in signature.inputs}
    texts = {name: table[name].to_pylist() for name in TEXTS}
    weights, times = table["weight"].to_pylist(), table["time_ns"].to_pylist()
    labels, said = _decoded(table["label"]), _decoded(table["predicted"])
    slices = table["slices"].to_pylist()
    splits = {s.value: s for s in Split}
    sources = {s.value: s for s in Source}
    return [
        DatasetRow(
            row_id=texts["row_id"][i],
            inputs={name: parts[i] for name, parts in tensors.items()},
            label=labels[i],
            split=splits[texts["split"][i]],
            source=sources[texts["source"][i]],
            group=texts["group"][i],
            weight=weights[i],
            author=texts["author"][i],
            time_ns=times[i],
            case_id=texts["case_id"][i],
            record_id=texts["record_id"][i],
            version=texts["version"][i],
            predicted=said[i],
            content=texts["content"][i],
            slices=tuple(slices[i]),
        )
        for i in range(len(table))
    ]


def tensors_of(table: pa.Table, name: str, datatype: Datatype) -> Array | list[Array]:
    """One input of all rows: an array (rows, ...) where all have one shape, else a list of arrays."""
    shapes = table[SHAPE + name].combine_chunks()
    if not len(table):
        return []
    counts = np.diff(shapes.offsets.to_numpy())
    flat = shapes.flatten().to_numpy()
    same = bool((counts == counts[0]).all()) and bool(
        (flat.reshape(len(table), -1) == flat[: counts[0]]).all() if counts[0] else True
    )
    if same and datatype is not Datatype.BYTES:
        shape = tuple(int(n) for n in flat[: counts[0]])
        size = math.prod(shape) * datatype.itemsize
        buffer = b"".join(_buffers(table[INPUT + name]))
        if len(buffer) != size * len(table):
            raise SnapshotError(f"input '{name}': {len(buffer)} bytes for {len(table)} rows of {size}")
        array: Array = np.frombuffer(buffer, dtype=datatype.numpy).reshape(len(table), *shape)
        return array
    made = []
    for data, dims in zip(table[INPUT + name].to_pylist(), shapes.to_pylist(), strict=True):
        if datatype is Datatype.BYTES:
            made.append(decode_bytes(data, tuple(dims)))
        else:
            made.append(np.frombuffer(data, dtype=datatype.numpy).reshape(dims))
    return made


def to_json(value: Any) -> str:
    """Canonical JSON of a label."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _decoded(column: pa.ChunkedArray) -> list[Any]:
    """JSON texts decoded, each different one once: there are few of them in a classification."""
    known: dict[str | None, Any] = {None: None}
    found = []
    for text in column.to_pylist():
        if text not in known:
            value = json.loads(text)
            if isinstance(value, list | dict):
                found.append(value)
                continue
            known[text] = value
        found.append(known[text])
    return found


def _buffers(column: pa.ChunkedArray) -> list[bytes]:
    """The bytes of every chunk of a binary column, one value after another."""
    found = []
    for chunk in column.chunks:
        if len(chunk):
            _, offsets, data = chunk.buffers()
            ends = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
            found.append(memoryview(data)[int(ends[0]) : int(ends[-1])].tobytes())
    return found


def _fits(wanted: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(wanted) == len(shape) and all(a in (-1, b) for a, b in zip(wanted, shape, strict=True))
