"""History scored again, with the scores and the reference of today: piece by piece, each piece once.

A part is a file of the archive, or a segment of the log that is not archived yet. Its result is a Parquet file with the
new scores beside the old ones, and a small summary. Both have their names only when they are complete: whoever is
stopped anywhere goes on behind the last complete part, and doing a part twice changes nothing. Memory holds one row
group of one part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from export.contracts.cases import FlagReason
from monitoring.archive.files import head_of, record_files
from monitoring.archive.read import read_groups
from monitoring.baseline import Baseline, QuantityKind
from monitoring.baselines import Baselines
from monitoring.batches import Batch, Place, assemble
from monitoring.flags import FLAG_BITS, to_reasons
from monitoring.options import CaseOptions
from monitoring.records.decode import DecodedRecords
from monitoring.records.folders import list_sources, write_atomically
from monitoring.records.frames import segment_numbers, segment_path
from monitoring.records.one_segment import segment_frames
from monitoring.scores import score_batch

DRAWN = FLAG_BITS[FlagReason.AUDIT] | FLAG_BITS[FlagReason.PROBE]
WORTH_A_LOOK = ~DRAWN & ~FLAG_BITS[FlagReason.NEGATIVE_FEEDBACK]  # flags that scores decide
_SLICE = 16_384  # records scored at once
_GROUP_ROWS = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class RescoreRequest:
    """What is scored again. Times are nanoseconds since the epoch; `start_ns` <= record < `end_ns`.

    Attributes:
        reference: Version of the same model whose reference is used; None: each record's own.
    """

    start_ns: int
    end_ns: int
    model: str | None = None
    version: str | None = None
    reference: str | None = None

    @property
    def id(self) -> str:
        """Name of the result: the same question has the same name."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A piece of work: a file of the archive (`path`), or segment `segment` of `source`. `bytes` is its size."""

    bytes: int
    path: str = ""
    source: str = ""
    segment: int = 0

    @property
    def key(self) -> str:
        """Name of its result."""
        text = f"{self.path}\n{self.source}\n{self.segment}\n{self.bytes}"
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What changed. Counts of records; `compared` are those of which the old scores are known.

    Attributes:
        scored: Records that have scores.
        flagged: Records that scores and rules flag now.
        flagged_then: ... that they flagged when the record came, among `compared`.
        newly: Flagged now and not then.
        no_longer: Flagged then and not now.
        moved: Sum over `compared` of how far P(wrong) moved.
        unscored: Records whose scoring failed: their tensors do not fit the version.
    """

    records: int = 0
    scored: int = 0
    compared: int = 0
    flagged: int = 0
    flagged_then: int = 0
    newly: int = 0
    no_longer: int = 0
    moved: float = 0.0
    unscored: int = 0

    def __add__(self, other: Summary) -> Summary:
        return Summary(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


def plan(records_root: Path, archive_root: Path, request: RescoreRequest) -> list[Part]:
    """The parts that may hold records of the request, biggest first."""
    parts = []
    for file in record_files(archive_root, request.model, request.version):
        head = head_of(archive_root / file.path)
        if head["last_ns"] >= request.start_ns and head["first_ns"] < request.end_ns:
            parts.append(Part(path=file.path, bytes=(archive_root / file.path).stat().st_size))
    archived = _archived_segments(archive_root)
    for source in list_sources(records_root):
        for number in segment_numbers(records_root / source):
            if (source, number) not in archived:
                size = segment_path(records_root / source, number).stat().st_size
                parts.append(Part(source=source, segment=number, bytes=size))
    return sorted(parts, key=lambda p: (-p.bytes, p.key))


def rescore_part(
    part: Part, request: RescoreRequest, baselines: Baselines, options: CaseOptions, roots: tuple[Path, Path], out: Path
) -> Summary:
    """Score a part, unless that was done; returns its summary.

    Args:
        part: From `plan`.
        request: As planned.
        baselines: Of the versions.
        options: Which scores flag.
        roots: Folders of the record log and of the archive.
        out: Folder of the result.
    """
    summary_path, data_path = out / f"{part.key}.json", out / f"{part.key}.parquet"
    if summary_path.exists():
        return Summary(**json.loads(summary_path.read_bytes()))
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = out / f".{part.key}.tmp"
    total, writer = Summary(), None
    waiting: list[pa.Table] = []
    try:
        for baseline, batch, then in _batches(part, request, baselines, roots):
            table, summary = _score(baseline, batch, then, options)
            total += summary
            waiting.append(table)
            writer = writer or pq.ParquetWriter(
                temporary, table.schema, compression="zstd", use_dictionary=["model", "version"]
            )
            if sum(map(len, waiting)) >= _GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if writer is not None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting))
            writer.close()
            writer = None
            temporary.chmod(0o600)
            temporary.replace(data_path)
    finally:
        if writer is not None:
            writer.close()
        temporary.unlink(missing_ok=True)
    write_atomically(summary_path, json.dumps(asdict(total)).encode())
    return total


def summarise(out: Path, parts: Iterable[Part]) -> tuple[Summary, int]:
    """The sum over the parts that are done, and how many are. Results of parts that no longer exist are removed."""
    keys = {part.key for part in parts}
    total, done = Summary(), 0
    for path in sorted(out.glob("*.json")) if out.is_dir() else ():
        if path.stem in keys:
            total += Summary(**json.loads(path.read_bytes()))
            done += 1
        elif len(path.stem) == len(next(iter(keys), "")):
            path.unlink()
            path.with_suffix(".parquet").unlink(missing_ok=True)
    return total, done


def _archived_segments(archive_root: Path) -> set[tuple[str, int]]:
    return {
        (file.source, number)
        for file in record_files(archive_root)
        for number in range(file.first_segment, file.last_segment + 1)
    }


def _batches(
    part: Part, request: RescoreRequest, baselines: Baselines, roots: tuple[Path, Path]
) -> Iterator[tuple[Baseline, Batch, tuple[npt.NDArray[Any], npt.NDArray[Any]]]]:
    for records, p_then, flags_then in _groups(part, roots):
        if request.model not in (None, records.model) or request.version not in (None, records.version):
            continue
        inside = (records.time_ns >= request.start_ns) & (records.time_ns < request.end_ns)
        for start in range(0, len(records), _SLICE):
            chosen = np.flatnonzero(inside[start : start + _SLICE]) + start
            if not len(chosen):
                continue
            some = records.take(chosen)
            baseline = baselines.get(records.model, request.reference or records.version)
            place = Place(source=part.source or part.path, segment=0, offset=0, sequence=0)
            for batch in assemble([(place, some)], []):
                at = chosen[np.concatenate([piece.items for piece in batch.pieces])]
                yield baseline, batch, (p_then[at], flags_then[at])


def _groups(
    part: Part, roots: tuple[Path, Path]
) -> Iterator[tuple[DecodedRecords, npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
    """Records with their old P(wrong) (NaN: not known, or none) and flags (-1: not known)."""
    records_root, archive_root = roots
    if part.path:
        for table, records in read_groups(archive_root / part.path):
            p_then = table["p_wrong"].to_numpy().astype(np.float64)
            flags = table["flags"].combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False)
            yield records, p_then, flags.astype(np.int64)
        return
    for frame in segment_frames(records_root, part.source, part.segment):
        if frame.kind != "records":
            continue
        records = frame.records()
        yield records, np.full(len(records), np.nan), np.full(len(records), -1, np.int64)


def _score(
    baseline: Baseline, batch: Batch, then: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]], options: CaseOptions
) -> tuple[pa.Table, Summary]:
    n, failed = len(batch), 0
    scores: dict[str, npt.NDArray[np.float64]] = {}
    p_wrong, confidence = np.full(n, np.nan), np.full(n, np.nan)
    predicted, flags = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    try:
        scored = score_batch(baseline, batch, options)
        flags = scored.flags
        if len(batch.row_record):
            p_wrong, confidence = (x[scored.worst].astype(np.float64) for x in (scored.p_wrong, scored.confidence))
            predicted = scored.predicted[scored.worst]
            for i, quantity in enumerate(baseline.quantities):
                if quantity.kind is QuantityKind.SCORE:
                    scores[quantity.name] = scored.values[scored.worst, i].astype(np.float64)
    except ValueError:  # shapes that do not fit: the ingest sets such records aside, here they are counted
        failed = n
    p_then, flags_then = then
    known = flags_then >= 0
    now, before = (flags & WORTH_A_LOOK) != 0, known & ((flags_then & WORTH_A_LOOK) != 0)
    moved = np.abs(p_wrong - p_then)
    summary = Summary(
        records=n,
        scored=int(np.isfinite(p_wrong).sum()),
        compared=int(known.sum()),
        flagged=int(now.sum()),
        flagged_then=int(before.sum()),
        newly=int((known & now & ~before).sum()),
        no_longer=int((before & ~now).sum()),
        moved=float(np.nansum(moved[known])) if known.any() else 0.0,
        unscored=failed,
    )
    names = {value: ",".join(r.value for r in to_reasons(int(value))) for value in np.unique(flags).tolist()}
    map_type = pa.map_(pa.string(), pa.float64())
    columns = {
        "id": pa.array([i.encode("utf-8", "replace").decode() for i in batch.ids], pa.string()),
        "time": pa.array(batch.time_ns, pa.timestamp("ns", "UTC")),
        "model": pa.array([batch.model] * n, pa.string()),
        "version": pa.array([batch.version] * n, pa.string()),
        "predicted": pa.array(predicted, mask=predicted < 0),
        "p_wrong": pa.array(p_wrong, from_pandas=True),
        "confidence": pa.array(confidence, from_pandas=True),
        "reasons": pa.array([names[f] for f in flags.tolist()], pa.string()),
        "p_wrong_then": pa.array(p_then, from_pandas=True),
        "flagged_then": pa.array(before, mask=~known),
        "scores": _maps(scores, n, map_type),
    }
    return pa.table(columns), summary


def _maps(scores: dict[str, npt.NDArray[np.float64]], n: int, kind: pa.DataType) -> pa.Array:
    """{score: value} of each record; one column for all versions, whose scores differ."""
    names = list(scores)
    if not names:
        return pa.array([[]] * n, kind)
    keys = pa.DictionaryArray.from_arrays(np.tile(np.arange(len(names), dtype=np.int32), n), pa.array(names)).cast(
        pa.string()
    )
    values = pa.array(np.stack([scores[name] for name in names], axis=1).ravel(), from_pandas=True)
    return pa.MapArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * len(names)), keys, values)
