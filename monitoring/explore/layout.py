r"""Points as bytes: a browser reads the columns in place, without parsing.

```
offset  bytes  what
0       4      "HCM1"
4       4      H, length of the header, uint32
8       H      the header: JSON, UTF-8, filled up with spaces so that the columns begin at a multiple of 8
8 + H   ...    the columns, one after the other, little-endian; each begins at a multiple of 8
```

The header names the columns with their offset from the file's beginning: `{"count": N, "columns": [{"name", "type",
"offset"}], ...}`. Types are those of JavaScript's typed arrays: `uint64`, `float64`, `float32`, `int16`, `uint8`.

| column | type | what |
|---|---|---|
| `id` | uint64 | a case's id (as 16 hex digits), a record's number, or the row of the reference |
| `time` | float64 | seconds since the epoch; 0 for the reference |
| `x`, `y` | float32 | place on the map |
| `p_wrong` | float32 | NaN where not known |
| `predicted` | int16 | class index, -1 where there is none |
| `slice` | int16 | index into the header's `slices`, -1 |
| `cluster` | int16 | index into the header's `clusters` |
| `kind` | uint8 | 0 record, 1 case, 2 reference |
| `truth` | uint8 | 0 not known, 1 right, 2 wrong |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from monitoring.explore.points import Kind, MapPoints, Truth

MAGIC = b"HCM1"
TYPES = {"<u8": "uint64", "<f8": "float64", "<f4": "float32", "<i2": "int16", "|u1": "uint8"}


def encode_points(points: MapPoints, more: Mapping[str, Any]) -> bytes:
    """The file of a map; `more` goes into its header."""
    columns: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    at = 0
    for name, array in points.columns.items():
        data = array.tobytes()
        columns.append({"name": name, "type": TYPES[array.dtype.str], "offset": at})
        blocks.append(data + bytes(-len(data) % 8))
        at += len(blocks[-1])
    plane = points.projection
    header = {
        "count": len(points),
        "columns": columns,
        "projection": None
        if plane is None
        else {"fitted_on": plane.fitted_on, "rows": plane.rows, "explained": list(plane.explained)},
        "slices": [{"id": identity, "words": words} for identity, words in points.slices],
        "clusters": cluster_lines(points),
        "totals": dict(points.totals),
        **more,
    }
    room = 0
    while True:  # offsets are part of the header, whose length moves them
        for column, place in zip(columns, _starts(blocks), strict=True):
            column["offset"] = 8 + room + place
        text = json.dumps(header, ensure_ascii=False).encode()
        if len(text) <= room:
            break
        room = len(text) + -len(text) % 8
    return MAGIC + room.to_bytes(4, "little") + text.ljust(room) + b"".join(blocks)


def cluster_lines(points: MapPoints) -> list[dict[str, Any]]:
    """What each group of points is like: for a list that is read instead of looked at."""
    c = points.columns
    made = []
    for number in range(int(c["cluster"].max(initial=-1)) + 1):
        here = c["cluster"] == number
        live = here & (c["kind"] != Kind.REFERENCE)
        p = c["p_wrong"][live]
        known = c["truth"][live] != Truth.UNKNOWN
        classes = c["predicted"][live & (c["predicted"] >= 0)]
        top = int(np.bincount(classes).argmax()) if len(classes) else None
        cases = np.flatnonzero(here & (c["kind"] == Kind.CASE))
        made.append(
            {
                "points": int(here.sum()),
                "live": int(live.sum()),
                "cases": len(cases),
                "p_wrong": float(np.nanmean(p)) if np.isfinite(p).any() else None,
                "labelled": int(known.sum()),
                "wrong": int((c["truth"][live] == Truth.WRONG).sum()),
                "predicted": top,
                "predicted_share": float((classes == top).mean()) if len(classes) else None,
                "x": float(c["x"][here].mean()),
                "y": float(c["y"][here].mean()),
                "example": f"{int(c['id'][cases[-1]]):016x}" if len(cases) else None,
            }
        )
    return made


def _starts(blocks: list[bytes]) -> list[int]:
    starts, at = [], 0
    for block in blocks:
        starts.append(at)
        at += len(block)
    return starts
