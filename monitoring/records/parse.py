"""Payloads of record frames → records."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

from monitoring.records.decode import DecodedRecords
from monitoring.records.frames import REFERENCE, Rewritten
from monitoring.records.layout import StreamLayout


def parse_records(payload: memoryview, schema_message: bytes, flags: int) -> DecodedRecords:
    """The records in a frame's payload."""
    layout, schema = parse_schema(schema_message, flags)
    return DecodedRecords(layout, pa.ipc.read_record_batch(pa.py_buffer(payload[REFERENCE.size :]), schema))


@lru_cache(maxsize=1024)
def parse_schema(message: bytes, flags: int = 0) -> tuple[StreamLayout, pa.Schema]:
    """Layout and Arrow schema of a schema frame, as far as a rewritten frame still has the columns."""
    schema = pa.ipc.read_schema(pa.py_buffer(message))
    layout = StreamLayout.from_arrow(schema)
    if not flags & (Rewritten.NO_INPUTS | Rewritten.NO_OUTPUTS):
        return layout, schema
    layout = layout.without(inputs=bool(flags & Rewritten.NO_INPUTS), outputs=bool(flags & Rewritten.NO_OUTPUTS))
    return layout, layout.arrow_schema()
