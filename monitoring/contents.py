"""Hashes of what was sent: two records with the same one had the same input."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash

from export.contracts.arrays import encode_bytes
from export.contracts.datatypes import Datatype
from monitoring.batches import Batch


def content_hashes(batch: Batch, records: Iterable[int]) -> list[int | None]:
    """Signed xxh64 of all inputs of records of a batch: names, types, shapes, bytes. None without recorded inputs."""
    if not batch.inputs:
        return [None for _ in records]
    heads = {
        name: f"{name}\0{batch.datatypes[f'in.{name}'].value}\0{array.shape[1:]}".encode()
        for name, array in sorted(batch.inputs.items())
    }
    arrays = {name: np.ascontiguousarray(batch.inputs[name]) for name in heads}
    single = len(batch.row_record) == len(batch) and bool((batch.rows == 1).all())
    made: list[int | None] = []
    for record in records:
        rows = slice(record, record + 1) if single else batch.rows_of(record)
        digest = xxhash.xxh64(len(range(rows.start, rows.stop)).to_bytes(4, "little"))
        for name, head in heads.items():
            part = arrays[name][rows]
            digest.update(head)
            if batch.datatypes[f"in.{name}"] is Datatype.BYTES:
                digest.update(encode_bytes(part))
            elif part.nbytes:
                digest.update(part.view(np.uint8).data)
        value = digest.intdigest()
        made.append(value - (1 << 64) if value >= 1 << 63 else value)
    return made
