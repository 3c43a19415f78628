"""The record log for people and tools: dictionaries, JSON lines, Parquet. Behind `hardcase records tail|export`."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from export.contracts.datatypes import Datatype
from monitoring.records.decode import DecodedRecords, TensorColumnView
from monitoring.records.reader import Frame, Position, RecordLogReader

_READ_BYTES = 8 << 20


def frames(root: Path, source: str | None = None) -> Iterator[Frame]:
    """Every readable frame of one source, or of all, oldest source first."""
    reader = RecordLogReader(root)
    for name in reader.sources():
        if source in (None, name):
            yield from reader.read(name, None, 1 << 62)
    reader.close()


def tail(
    root: Path,
    follow: bool = False,
    *,
    last: int | None = None,
    tensors: bool = False,
    poll_s: float = 0.2,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Any]]:
    """Records, feedback and events as JSON-compatible dictionaries.

    Args:
        root: Folder of all logs.
        follow: Go on with what is written later, also by writers that start later, until `stop` says so.
        last: Begin with the last so many entries of what is there; None begins at the beginning.
        tensors: Include the values of the tensors, not only datatype and shape.
        poll_s: How often to look for more, with `follow`.
        stop: Asked between two looks.
    """
    reader = RecordLogReader(root)
    places: dict[str, Position | None] = {}
    kept: list[dict[str, Any]] = []
    for entry in _pass(reader, places, tensors):
        if last is None:
            yield entry
        else:
            kept.append(entry)
            if len(kept) > 2 * last + 1000:
                del kept[: len(kept) - last]
    yield from kept[len(kept) - min(last or 0, len(kept)) :]
    while follow and not stop():
        new = False
        for entry in _pass(reader, places, tensors):
            new = True
            yield entry
        if not new:
            time.sleep(poll_s)
    reader.close()


def _pass(reader: RecordLogReader, places: dict[str, Position | None], tensors: bool) -> Iterator[dict[str, Any]]:
    for source in reader.sources():
        while True:
            before = places.get(source)
            for frame in reader.read(source, before, _READ_BYTES):
                places[source] = frame.position
                yield from as_dicts(frame, tensors=tensors)
            if places.get(source) == before:
                break


def as_dicts(frame: Frame, *, tensors: bool = True) -> Iterator[dict[str, Any]]:
    """The entries of a frame as JSON-compatible dictionaries."""
    if frame.kind == "feedback":
        for item in frame.feedback():
            yield {"kind": "feedback", "log": frame.source, "time": _rfc3339(item.time_ns), **asdict(item)}
    elif frame.kind == "event":
        event = frame.event()
        fields = {"event": event.kind, **{k: v for k, v in asdict(event).items() if k != "kind"}}
        yield {"kind": "event", "log": frame.source, "time": _rfc3339(event.time_ns), **fields}
    else:
        yield from _records(frame.source, frame.records(), tensors)


def _records(source: str, records: DecodedRecords, tensors: bool) -> Iterator[dict[str, Any]]:
    inputs = {name: records.input(name) for name in records.input_names}
    outputs = {name: records.output(name) for name in records.output_names}
    columns = (records.time_ns, records.rows, records.queue_us, records.compute_us, records.total_us)
    numbers = [column.tolist() for column in columns]
    probability = records.probability.tolist()
    for i, record_id in enumerate(records.ids):
        time_ns, rows, queue_us, compute_us, total_us = (column[i] for column in numbers)
        yield {
            "kind": "record",
            "log": source,
            "time": _rfc3339(time_ns),
            "time_ns": time_ns,
            "id": record_id,
            "model": records.model,
            "version": records.version,
            "digest": records.digest,
            "variant": records.variant,
            "outcome": records.outcome.value,
            "rows": rows,
            "queue_us": queue_us,
            "compute_us": compute_us,
            "total_us": total_us,
            "probability": probability[i],
            "error": records.error[i],
            "parameters": _text(records.params[i]),
            "trace_id": _text(records.trace_ids[i]),
            "tags": _text(records.tags[i]),
            "inputs": {name: _tensor(view, i, tensors) for name, view in inputs.items()},
            "outputs": {name: _tensor(view, i, tensors) for name, view in outputs.items()},
        }


def _tensor(view: TensorColumnView, index: int, values: bool) -> dict[str, Any]:
    described = {"datatype": view.datatype.value, "shape": list(view.shape(index))}
    if values:
        array = view.get(index)
        data: list[Any] = (_widen(array) if view.datatype is Datatype.BF16 else array).ravel().tolist()
        if view.datatype is Datatype.BYTES:
            data = [_text(value) for value in data]
        elif view.datatype.is_float:
            data = [value if math.isfinite(value) else str(value) for value in data]
        described["data"] = data
    return described


def _text(value: bytes | None) -> str | dict[str, str] | None:
    """Bytes as text; those that are no text as {"base64": ...}."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _widen(bf16: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """BF16 is the upper half of a float32."""
    return (bf16.astype(np.uint32) << 16).view(np.float32)


def _rfc3339(time_ns: int) -> str:
    seconds, ns = divmod(time_ns, 10**9)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns // 1000:06d}Z"
    except (OverflowError, ValueError, OSError):
        return ""


def export_jsonl(root: Path, out: Path, *, source: str | None = None, tensors: bool = True) -> int:
    """Write one JSON object a line; NaN and infinities stand as strings, bytes that are no text as base64.

    Returns:
        Lines written. The file appears under its name only when it is complete.
    """
    lines = 0
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for frame in frames(root, source):
                for entry in as_dicts(frame, tensors=tensors):
                    file.write(json.dumps(entry, allow_nan=False) + "\n")
                    lines += 1
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return lines


def export_parquet(root: Path, out: Path, *, source: str | None = None) -> dict[str, int]:
    """Write `model=<m>/version=<v>/records-N.parquet` (zstd) under `out`, one file for each set of recorded tensors.

    A tensor `x` becomes the columns `in.x` (flat list of its elements) and `in.x.shape`; BF16 comes as float32.
    DuckDB: `select * from read_parquet('out/**/*.parquet', union_by_name = true, hive_partitioning = true)`.

    Returns:
        Rows by file, relative to `out`.
    """
    rows: dict[str, int] = {}
    with ExitStack() as stack:
        writers: dict[tuple[Any, ...], tuple[str, pq.ParquetWriter]] = {}
        for frame in frames(root, source):
            if frame.kind != "records":
                continue
            table = to_table(frame.records())
            records = frame.records()
            key = (records.model, records.version, *table.schema.names, *map(str, table.schema.types))
            if key not in writers:
                folder = f"model={_segment(records.model)}/version={_segment(records.version)}"
                number = sum(1 for name in rows if name.startswith(f"{folder}/")) + 1
                name = f"{folder}/records-{number}.parquet"
                (out / folder).mkdir(parents=True, exist_ok=True)
                writer = stack.enter_context(pq.ParquetWriter(out / name, table.schema, compression="zstd"))
                writers[key] = (name, writer)
                rows[name] = 0
            name, writer = writers[key]
            writer.write_table(table)
            rows[name] += len(records)
    return rows


def _segment(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "_unknown"


def to_table(records: DecodedRecords) -> pa.Table:
    """The records of a frame as an Arrow table with typed list columns."""
    n = len(records)
    columns: dict[str, pa.Array] = {
        "id": pa.array([i.encode("utf-8", "replace").decode() for i in records.ids], pa.string()),
        "time": pa.array(records.time_ns, pa.timestamp("ns", "UTC")),
        "digest": pa.array([records.digest] * n, pa.string()),
        "variant": pa.array([records.variant] * n, pa.string()),
        "outcome": pa.array([records.outcome.value] * n, pa.string()),
        "rows": pa.array(records.rows),
        "queue_us": pa.array(records.queue_us),
        "compute_us": pa.array(records.compute_us),
        "total_us": pa.array(records.total_us),
        "probability": pa.array(records.probability),
        "error": pa.array(records.error, pa.string()),
        "parameters": pa.array(records.params, pa.binary()),
        "trace_id": pa.array(records.trace_ids, pa.binary()),
        "tags": pa.array(records.tags, pa.binary()),
    }
    views = [(f"in.{name}", records.input(name)) for name in records.input_names]
    views += [(f"out.{name}", records.output(name)) for name in records.output_names]
    for name, view in views:
        columns[name] = _list_column(view, n)
        columns[f"{name}.shape"] = pa.array([view.shape(i) for i in range(n)], pa.list_(pa.int64()))
    return pa.table(columns)


def _list_column(view: TensorColumnView, n: int) -> pa.Array:
    if view.datatype is Datatype.BYTES:
        return pa.array([view.get(i).ravel().tolist() for i in range(n)], pa.large_list(pa.binary()))
    raw = [view.get(i).ravel() for i in range(n)] if view.uniform is None else None
    flat = np.concatenate(raw) if raw is not None else view.uniform.reshape(-1)  # type: ignore[union-attr]
    lengths = [len(r) for r in raw] if raw is not None else [len(flat) // n] * n
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    values = pa.array(_widen(flat) if view.datatype is Datatype.BF16 else flat)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values)
