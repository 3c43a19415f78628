"""What the ingest notes about each record so that likes can be found later: direction, input levels, tags, content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from export.contracts.signature import OutputRole
from monitoring.attributes import read_attributes
from monitoring.baseline import Baseline
from monitoring.batches import Batch
from monitoring.case_rows import plain_text, to_json
from monitoring.contents import content_hashes
from monitoring.scores import Scored
from monitoring.slices.columns import Columns
from monitoring.tasks.tensors import flat_output
from monitoring.vectors import Floats, Int8s, cosines, stack, to_cells, to_units, to_vectors

TAGS_LIMIT = 1024
_LIKENESS = (0.98, 0.9995)  # a threshold is never laxer, nor stricter, whatever the reference says
_DISTINCT = 0.99  # share of distinct reference inputs whose nearest neighbour must stay below the threshold


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """How embeddings of a version compare.

    Attributes:
        middle: Mean direction of the reference, (width,), or None.
        likeness: Cosine from which two inputs are near-duplicates; None without a reference: then nothing is.
        typical: 1 - cosine between two unlike inputs of the reference.
        columns: Which watched inputs become levels, and how.
    """

    middle: Floats | None
    likeness: float | None
    typical: float
    columns: Columns


@dataclass(frozen=True, kw_only=True, eq=False)
class Particulars:
    """Of a batch of N records.

    Attributes:
        contents: Content hash, None of a record without flags or inputs.
        vectors: (N, width), or None without an embedding.
        cells: (N,) region of the embedding; -1 without one.
        bins: (N, columns) levels of the watched inputs, or None.
        tags: JSON of what the client said of the request: tags and parameters with a single value.
    """

    contents: list[int | None]
    vectors: Int8s | None
    cells: npt.NDArray[np.int64]
    bins: npt.NDArray[np.uint8] | None
    tags: list[str | None]

    def vector_of(self, record: int) -> bytes | None:
        """A record's vector as kept; None when there is none or it has no direction."""
        return None if self.vectors is None or not self.vectors[record].any() else self.vectors[record].tobytes()


_measures: WeakKeyDictionary[Baseline, Measure] = WeakKeyDictionary()


def measure_of(baseline: Baseline) -> Measure:
    """How embeddings of a version compare; worked out once for each baseline."""
    found = _measures.get(baseline)
    if found is None:
        found = _measures[baseline] = _measure(baseline)
    return found


def _measure(baseline: Baseline) -> Measure:
    columns = Columns.of(baseline)
    embedding = None if baseline.profile is None else baseline.profile.embedding
    if embedding is None or len(embedding.sample) < 2:
        return Measure(middle=None, likeness=None, typical=0.0, columns=columns)
    vectors = to_vectors(embedding.sample)
    alike = cosines(vectors, vectors)
    others = alike[~np.eye(len(alike), dtype=bool)]
    np.fill_diagonal(alike, -1.0)
    nearest = float(np.quantile(alike.max(axis=1), _DISTINCT))
    return Measure(
        middle=np.asarray(to_units(vectors).mean(axis=0), dtype=np.float32),
        likeness=float(np.clip(nearest, *_LIKENESS)),
        typical=float(np.median(1.0 - others)),
        columns=columns,
    )


def note(batch: Batch, scored: Scored, baseline: Baseline, flags: npt.NDArray[np.int64]) -> Particulars:
    """The particulars of a batch. Contents are hashed for flagged records only."""
    n = len(batch)
    measure = measure_of(baseline)
    flagged = np.flatnonzero(flags).tolist()
    contents: list[int | None] = [None] * n
    for record, content in zip(flagged, content_hashes(batch, flagged), strict=True):
        contents[record] = content
    vectors, bins = None, None
    cells = np.full(n, -1, dtype=np.int64)
    if scored.known and len(batch.row_record) and bool((batch.rows > 0).all()):
        vectors = _vectors(batch, baseline, scored.worst)
        bins = measure.columns.levels(scored.values[scored.worst])
        if vectors is not None:
            cells = to_cells(to_units(vectors), measure.middle)
    return Particulars(contents=contents, vectors=vectors, cells=cells, bins=bins, tags=_tags(batch))


def cell_of(vector: bytes | None, baseline: Baseline) -> int:
    """The region of a kept vector; -1 without one."""
    if vector is None:
        return -1
    return int(to_cells(to_units(stack([vector])), measure_of(baseline).middle)[0])


def of_record(row: Mapping[str, Any], baseline: Baseline) -> tuple[int | None, int, bytes | None]:
    """(content, cell, vector) of a row of `records`."""
    return row["content_hash"], cell_of(row["vector"], baseline), row["vector"]


def _vectors(batch: Batch, baseline: Baseline, worst: npt.NDArray[np.int64]) -> Int8s | None:
    signature = None if baseline.manifest is None else baseline.manifest.signature
    spec = None if signature is None else signature.output_with_role(OutputRole.EMBEDDING)
    embedding = flat_output(batch, spec)
    return None if embedding is None or not embedding.size else to_vectors(embedding[worst])


def _tags(batch: Batch) -> list[str | None]:
    """The single values of parameters and tags, as JSON; tags win over parameters of the same name."""
    made: list[str | None] = []
    known: dict[tuple[bytes | None, bytes | None], str | None] = {(None, None): None}
    for piece in batch.pieces:
        params, tags = piece.records.params, piece.records.tags
        for item in piece.items.tolist():
            key = (params[item], tags[item])
            if key not in known:
                values = read_attributes(key[0]) | read_attributes(key[1])
                known[key] = plain_text(to_json(values), TAGS_LIMIT) if values else None
            made.append(known[key])
    return made
