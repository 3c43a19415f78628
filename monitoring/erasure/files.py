"""Erasing from files: the archive, results of re-scoring, reports, segments of the log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from monitoring.archive.files import METADATA_KEY, ArchiveFile, FileKind
from monitoring.archive.write import Written, open_writer, publish, sync_folder, temporary_of
from monitoring.erasure.rows import Hit
from monitoring.records.decode import DecodedRecords
from monitoring.records.record import Feedback
from monitoring.report_shelf import ReportShelf, parse_rfc3339


class Wanted:
    """Which records go.

    Args:
        ids: Their ids.
        model: Only of this model; None: of every model.
    """

    def __init__(self, ids: Collection[str], model: str | None) -> None:
        self.ids = frozenset(ids)
        self.model = model
        self._plain = pa.array(sorted(i.encode("utf-8", "backslashreplace").decode() for i in ids), pa.string())
        self.hits: set[tuple[str, str, int]] = set()  # model, version and time of what went

    def rows_that_stay(self, ids: pa.ChunkedArray | pa.Array) -> pa.Array:
        """A mask over a column `id` of the archive."""
        return pc.invert(pc.is_in(ids, value_set=self._plain))

    def without(self, records: DecodedRecords) -> DecodedRecords:
        """The records that stay; the same object when all do."""
        if self.model not in (None, records.model):
            return records
        goes = np.array([i in self.ids for i in records.ids], dtype=bool)
        if not goes.any():
            return records
        self.hits |= {(records.model, records.version, int(x)) for x in records.time_ns[goes]}
        return records.take(np.flatnonzero(~goes))

    def feedback_stays(self, item: Feedback) -> bool:
        """Whether a piece of feedback is about none of them."""
        return item.record_id not in self.ids or self.model not in (None, item.model)


def rewrite_archive_file(root: Path, file: ArchiveFile, wanted: Wanted) -> Written | None:
    """Write the next generation of a file without the records; None when it holds none of them.

    The old file is the caller's to remove, once the catalogue names the new one.
    """
    path = root / file.path
    with pq.ParquetFile(path) as old:
        head: dict[str, Any] = json.loads(old.metadata.metadata[METADATA_KEY])
        if file.kind is FileKind.RECORDS and wanted.model not in (None, head["model"]):
            return None
        if not _holds(old, file.kind, wanted):
            return None
        temporary = temporary_of(path)
        writer = open_writer(temporary, _bare(old.schema_arrow))
        rows = gone = 0
        try:
            for group in range(old.num_row_groups):
                table = old.read_row_group(group).replace_schema_metadata(None)
                rest = _rest(table, file.kind, wanted, head)
                gone += len(table) - len(rest)
                rows += len(rest)
                writer.write_table(rest, row_group_size=max(1, len(rest)))
            head["erased"] += gone
            segments = (file.first_segment, file.last_segment)
            return publish(
                root, file.next_path(), temporary, writer, head, kind=file.kind, segments=segments, rows=rows
            )
        finally:
            writer.close()
            temporary.unlink(missing_ok=True)


def erase_rescored(root: Path, wanted: Wanted) -> int:
    """Take records out of the results of re-scorings; returns how many rows went."""
    gone = 0
    for path in sorted(root.glob("*/*.parquet")) if root.is_dir() else ():
        table = pq.read_table(path)
        stays = wanted.rows_that_stay(table["id"])
        if wanted.model is not None:
            stays = pc.or_(stays, pc.not_equal(table["model"], wanted.model))
        rest = table.filter(stays)
        if len(rest) == len(table):
            continue
        gone += len(table) - len(rest)
        temporary = temporary_of(path)
        pq.write_table(rest, temporary, compression="zstd")
        temporary.chmod(0o600)
        temporary.replace(path)
        sync_folder(path.parent)
    return gone


def erase_reports(folder: Path, hits: Iterable[Hit], more: Collection[tuple[str, str, int]]) -> int:
    """Delete the reports whose windows the records were in: a report may show any of its rows."""
    if not folder.is_dir():
        return 0
    times = {(h.model, h.version, h.time_ns) for h in hits} | set(more)
    shelf, gone = ReportShelf(folder), 0
    for report in shelf.newest():
        start, end = (parse_rfc3339(x).timestamp() for x in (report.start, report.end))
        if any((m, v) == (report.model, report.version) and start <= ns / 1e9 < end for m, v, ns in times):
            shutil.rmtree(shelf.folder(report.id), ignore_errors=True)
            gone += 1
    return gone


def _holds(file: pq.ParquetFile, kind: FileKind, wanted: Wanted) -> bool:
    column = "id" if kind is FileKind.RECORDS else "payload"
    for group in range(file.num_row_groups):
        values = file.read_row_group(group, columns=[column])[column]
        if kind is FileKind.RECORDS:
            if not pc.all(wanted.rows_that_stay(values)).as_py():
                return True
        elif any(
            identity in text or json.dumps(identity)[1:-1] in text
            for text in values.to_pylist()
            for identity in wanted.ids
        ):
            return True
    return False


def _rest(table: pa.Table, kind: FileKind, wanted: Wanted, head: dict[str, Any]) -> pa.Table:
    if kind is FileKind.RECORDS:
        stays = wanted.rows_that_stay(table["id"])
        goes = table.filter(pc.invert(stays))
        times = goes["time"].cast(pa.int64()).to_pylist()
        wanted.hits |= {(head["model"], head["version"], x) for x in times}
        return table.filter(stays)
    payloads = []
    for kind_name, text in zip(table["kind"].to_pylist(), table["payload"].to_pylist(), strict=True):
        if kind_name != "feedback":
            payloads.append(text)
            continue
        items = json.loads(text)
        stay = [i for i in items if not (i["record_id"] in wanted.ids and wanted.model in (None, i["model"]))]
        payloads.append(text if len(stay) == len(items) else json.dumps(stay, separators=(",", ":")))
    return table.set_column(table.schema.get_field_index("payload"), "payload", pa.array(payloads, pa.string()))


def _bare(schema: pa.Schema) -> pa.Schema:
    return schema.remove_metadata()
