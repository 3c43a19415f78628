"""Names of the archive's files, and what lies in its folder.

`model=<m>/version=<v>/<source>-<first>-<last>-<number>.parquet` holds records of one model version that have the same
tensors; `frames/<source>-<first>-<last>-0.parquet` holds the feedback and events of the same segments. A file that was
written anew, because something in it was erased, carries its generation: `….g1.parquet`. Only the newest counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

FORMAT = 1
METADATA_KEY = b"hardcase.archive"
_NAME = re.compile(
    r"(?P<source>.+)-(?P<first>\d{8})-(?P<last>\d{8})-(?P<number>\d+)(?:\.g(?P<generation>\d+))?\.parquet"
)


class FileKind(StrEnum):
    """What the rows of a file are."""

    RECORDS = "records"  # one row a record
    FRAMES = "frames"  # one row a frame of feedback or an event


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class ArchiveFile:
    """A file by its name. `path` is relative to the archive's folder."""

    source: str
    first_segment: int
    last_segment: int
    number: int
    generation: int
    path: str

    @property
    def kind(self) -> FileKind:
        """By the folder it lies in."""
        return FileKind.FRAMES if self.path.startswith("frames/") else FileKind.RECORDS

    def next_path(self) -> str:
        """Path of the generation after this one."""
        folder, _, _ = self.path.rpartition("/")
        stem = f"{self.source}-{self.first_segment:08d}-{self.last_segment:08d}-{self.number}"
        return f"{folder}/{stem}.g{self.generation + 1}.parquet"


def folder_of(model: str, version: str) -> str:
    """Folder of a model version, in the hive layout that DuckDB and Ray Data understand."""
    return f"model={_segment(model)}/version={_segment(version)}"


def file_path(folder: str, source: str, first: int, last: int, number: int) -> str:
    """Path of a new file."""
    return f"{folder}/{source}-{first:08d}-{last:08d}-{number}.parquet"


def parse(path: str) -> ArchiveFile | None:
    """The file that a path names; None for anything else."""
    found = _NAME.fullmatch(path.rpartition("/")[2])
    if found is None:
        return None
    return ArchiveFile(
        source=found["source"],
        first_segment=int(found["first"]),
        last_segment=int(found["last"]),
        number=int(found["number"]),
        generation=int(found["generation"] or 0),
        path=path,
    )


def archived(root: Path) -> list[ArchiveFile]:
    """The newest generation of every file under a folder, by source and segment; empty when there is no folder."""
    newest: dict[tuple[str, int, int, int], ArchiveFile] = {}
    for path in root.rglob("*.parquet") if root.is_dir() else ():
        file = parse(path.relative_to(root).as_posix())
        if file is None:
            continue
        key = (file.source, file.first_segment, file.last_segment, file.number)
        if key not in newest or newest[key].generation < file.generation:
            newest[key] = file
    return sorted(newest.values())


def head_of(path: Path) -> dict[str, Any]:
    """What a file says about itself: model, version, span of times, layouts, how much was erased from it."""
    plain: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[METADATA_KEY])
    return plain


def record_files(root: Path, model: str | None = None, version: str | None = None) -> Iterator[ArchiveFile]:
    """Files of records, of one model or version or of all, without opening any."""
    for file in archived(root):
        parts = file.path.split("/")
        if file.kind is not FileKind.RECORDS or len(parts) != 3:
            continue
        if model is not None and parts[0] != f"model={_segment(model)}":
            continue
        if version is not None and parts[1] != f"version={_segment(version)}":
            continue
        yield file


def _segment(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "_unknown"
