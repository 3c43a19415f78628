"""How records become columns: the part that the encoder and the decoder must agree on.

Records that share schema, variant, outcome, present columns and tensor layouts form a *stream*. Everything that is
equal for a whole stream stands once, in the metadata of the stream's Arrow schema; the rest is columns.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import IntFlag

import pyarrow as pa

from export.contracts.datatypes import Datatype
from monitoring.records.record import Outcome

METADATA_KEY = b"hardcase"
MICROSECONDS_MAX = 2**31 - 1  # durations are int32 µs and saturate at 36 minutes


class Extra(IntFlag):
    """Columns that a stream has only when one of its records needs them."""

    ROWS = 1
    ERROR = 2
    PARAMS = 4
    TRACE = 8
    TAGS = 16
    PROBABILITY = 32


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """How one tensor's column is stored.

    Attributes:
        name: Column name: `in.<name>` or `out.<name>`.
        row_shape: Shape of a row when it is the same in the whole stream; None when each record has its own shape, in
            the column `shape:<name>` (little-endian int64 dimensions, batch axis included).
        row_bytes: Bytes of a row, with `row_shape`.
    """

    name: str
    datatype: Datatype
    row_shape: tuple[int, ...] | None
    row_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StreamLayout:
    """Everything that is equal for all records of a stream."""

    model: str
    version: str
    digest: str
    variant: str
    outcome: Outcome
    extras: Extra
    tensors: tuple[TensorLayout, ...]

    def without(self, *, inputs: bool, outputs: bool) -> StreamLayout:
        """The layout without the tensors of a side."""
        gone = tuple(side for side, away in (("in.", inputs), ("out.", outputs)) if away)
        return replace(self, tensors=tuple(t for t in self.tensors if not t.name.startswith(gone)))

    def arrow_schema(self) -> pa.Schema:
        """The columns, in the order in which the encoder makes them."""
        extras = self.extras
        fields = [
            pa.field("id", pa.binary()),
            pa.field("time_ns", pa.int64()),
            pa.field("queue_us", pa.int32()),
            pa.field("compute_us", pa.int32()),
            pa.field("total_us", pa.int32()),
        ]
        if Extra.ROWS in extras:
            fields.append(pa.field("rows", pa.int32()))
        if Extra.ERROR in extras:
            fields.append(pa.field("error", pa.string()))
        for flag, name in ((Extra.PARAMS, "params"), (Extra.TRACE, "trace_id"), (Extra.TAGS, "tags")):
            if flag in extras:
                fields.append(pa.field(name, pa.binary()))
        if Extra.PROBABILITY in extras:
            fields.append(pa.field("probability", pa.float64()))
        for tensor in self.tensors:
            if tensor.row_shape is None:
                fields.append(pa.field(tensor.name, pa.large_binary()))
                fields.append(pa.field(f"shape:{tensor.name}", pa.binary()))
            elif Extra.ROWS in extras:
                fields.append(pa.field(tensor.name, pa.large_binary()))
            else:
                fields.append(pa.field(tensor.name, pa.binary(tensor.row_bytes)))
        return pa.schema(fields, metadata={METADATA_KEY: json.dumps(asdict(self), separators=(",", ":")).encode()})

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> StreamLayout:
        """Read the layout back from a schema's metadata."""
        plain = json.loads(schema.metadata[METADATA_KEY])
        tensors = tuple(
            TensorLayout(
                name=t["name"],
                datatype=Datatype(t["datatype"]),
                row_shape=None if t["row_shape"] is None else tuple(t["row_shape"]),
                row_bytes=t["row_bytes"],
            )
            for t in plain["tensors"]
        )
        fixed = {"outcome": Outcome(plain["outcome"]), "extras": Extra(plain["extras"]), "tensors": tensors}
        return cls(**{**plain, **fixed})
