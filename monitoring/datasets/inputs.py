"""Inputs of labelled records: from their cases, else from the record log or the archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import sqlalchemy as sa

from export.contracts.arrays import decode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.signature import Signature
from export.dataset.content import content_hash
from export.dataset.rows import Array, DatasetRow
from monitoring import schema as t
from monitoring.batches import Place, Records
from monitoring.datasets.gather import CHUNK, Labelled
from monitoring.keys import printable

Refetcher = Callable[[Place], Records | None]


def with_inputs(
    connection: sa.Connection,
    rows: Sequence[Labelled],
    signature: Signature,
    refetch: Refetcher | None,
    left_out: Counter[str],
) -> Iterator[tuple[Labelled, DatasetRow]]:
    """The rows with their inputs and the hash of them; those whose inputs are gone or do not fit are counted."""
    wanted = {spec.name: spec for spec in signature.inputs}
    for labelled, tensors in (*_of_cases(connection, rows), *_of_log(rows, refetch)):
        made: dict[str, Array] = {}
        for name, spec in wanted.items():
            whole = tensors.get(name)
            if whole is None or whole.dtype != spec.datatype.numpy or len(whole) != labelled.rows:
                break
            one = whole[labelled.index]
            shape = spec.shape[1:] if signature.batched else spec.shape
            if len(shape) != one.ndim or any(a not in (-1, b) for a, b in zip(shape, one.shape, strict=True)):
                break
            made[name] = one
        if len(made) != len(wanted):
            left_out["inputs gone, or of another signature"] += 1
            continue
        yield labelled, replace(labelled.row, inputs=made, content=content_hash(signature, made))


def _of_cases(connection: sa.Connection, rows: Sequence[Labelled]) -> Iterator[tuple[Labelled, dict[str, Array]]]:
    c = t.case_tensors.c
    kept = [x for x in rows if x.place is None]
    for start in range(0, len(kept), CHUNK):
        chunk = kept[start : start + CHUNK]
        query = sa.select(c.case_id, c.name, c.datatype, c.shape, c.data).where(
            c.case_id.in_(sorted({x.row.case_id for x in chunk})), c.direction == "in"
        )
        tensors: dict[str, dict[str, Array]] = {}
        for case, name, kind, shape, data in connection.execute(query):
            datatype = Datatype(kind)
            try:
                if datatype is Datatype.BYTES:
                    array = decode_bytes(data, tuple(shape))
                else:
                    array = np.frombuffer(data, dtype=datatype.numpy).reshape(shape)
            except ValueError:
                continue  # only its shape was kept
            tensors.setdefault(case, {})[name] = array
        for x in chunk:
            yield x, tensors.get(x.row.case_id, {})


def _of_log(rows: Sequence[Labelled], refetch: Refetcher | None) -> Iterator[tuple[Labelled, dict[str, Array]]]:
    """In the order of the log, so that every segment is read once."""
    logged = [(x.place, x) for x in rows if x.place is not None]
    logged.sort(key=lambda at: (at[0].source, at[0].segment, at[0].sequence, at[1].row.row_id))
    last: tuple[Place, Records | None, dict[tuple[str, int], int]] | None = None
    for place, x in logged:
        if last is None or last[0] != place:
            records = None if refetch is None else refetch(place)
            last = (place, records, _index(records))
        _, records, index = last
        at = index.get((x.row.record_id, x.row.time_ns))
        if records is None or at is None:
            yield x, {}
            continue
        tensors = {}
        for name in records.input_names:
            try:
                array = records.input(name).get(at)
            except (ValueError, IndexError):
                continue
            tensors[name] = array if array.ndim and len(array) == x.rows else array[None]
        yield x, tensors


def _index(records: Records | None) -> dict[tuple[str, int], int]:
    if records is None:
        return {}
    times = records.time_ns.tolist()
    return {(printable(name), time_ns): i for i, (name, time_ns) in enumerate(zip(records.ids, times, strict=True))}
