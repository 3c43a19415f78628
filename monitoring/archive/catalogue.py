"""The archive's table of files: what is in the archive is what it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.archive.files import FileKind
from monitoring.archive.write import Written


def add_files(connection: sa.Connection, files: Sequence[Written]) -> None:
    """Name new files."""
    if files:
        connection.execute(t.archive_files.insert(), [asdict(file) | {"kind": file.kind.value} for file in files])


def replace_file(connection: sa.Connection, path: str, new: Written | None) -> None:
    """A file was written anew, or has gone."""
    connection.execute(t.archive_files.delete().where(t.archive_files.c.path == path))
    if new is not None:
        add_files(connection, [new])


def covered_to(connection: sa.Connection, source: str) -> int:
    """The last segment of a source that is in the archive; 0 when none is."""
    a = t.archive_files.c
    return int(connection.scalar(sa.select(sa.func.max(a.last_segment)).where(a.source == source)) or 0)


def files_at(connection: sa.Connection, source: str, sequence: int) -> list[str]:
    """Paths of the files of records that may hold the frame behind a sequence number."""
    a = t.archive_files.c
    where = (a.source == source, a.kind == FileKind.RECORDS.value, a.first_sequence <= sequence)
    return list(connection.scalars(sa.select(a.path).where(*where, a.last_sequence >= sequence).order_by(a.path)))


def list_files(
    connection: sa.Connection, *, model: str | None = None, source: str | None = None, before_ns: int | None = None
) -> list[Written]:
    """Files, oldest first: of one model or source, or whose newest record is older than `before_ns`, or all."""
    a = t.archive_files.c
    query = sa.select(t.archive_files).order_by(a.first_ns, a.path)
    if model is not None:
        query = query.where(a.model == model)
    if source is not None:
        query = query.where(a.source == source)
    if before_ns is not None:
        query = query.where(a.last_ns < before_ns)
    found = []
    for row in connection.execute(query).mappings():
        facts = {name: value for name, value in row.items() if name != "id"}
        found.append(Written(**{**facts, "kind": FileKind(row["kind"])}))
    return found
