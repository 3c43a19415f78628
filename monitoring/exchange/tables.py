"""Text tables: cells that no spreadsheet runs as a formula, and reading them line by line.

A cell that a spreadsheet would calculate (it begins with = + - @, their wide forms, a tab or a carriage return) gets an
apostrophe before it, and so does one that begins with an apostrophe and one of these; reading takes one away again.
Numbers of ours are no text and stay as they are.

References:
    OWASP, "CSV Injection": the characters, and the apostrophe.
    RFC 4180: quotes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monitoring.exchange.contracts import ExchangeError, Problem

DANGEROUS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_GUARD = "'"


def guard(text: str) -> str:
    """Text that is text to a spreadsheet, too.

    Example:
        >>> guard("=1+1"), guard("cat"), unguard(guard("'=x")), unguard("'twas")
        ("'=1+1", 'cat', "'=x", "'twas")
    """
    return _GUARD + text if text[:1] and text[0] in DANGEROUS + _GUARD else text


def unguard(text: str) -> str:
    """The text before `guard`; what was never guarded stays as it is."""
    return text[1:] if text[:1] == _GUARD and text[1:2] and text[1] in DANGEROUS + _GUARD else text


def cell(value: Any) -> str:
    """A value as a cell: "" for None, numbers plain, text guarded."""
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return guard(str(value))


class TableWriter:
    """Writes rows of guarded cells, quoted where needed, with a newline after each."""

    def __init__(self, file: Any, columns: Sequence[str], delimiter: str = ",") -> None:
        self._writer = csv.writer(file, delimiter=delimiter, lineterminator="\r\n")
        self._columns = tuple(columns)
        self._writer.writerow(self._columns)

    def row(self, values: Mapping[str, Any]) -> None:
        """Write a row; what has no value is empty."""
        self._writer.writerow([cell(values.get(name)) for name in self._columns])


def read_table(
    path: Path, needed: Sequence[str], delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]] | Problem]:
    """Rows of a table as (where, {column: text without the guard}), and problems.

    Raises:
        ExchangeError: a column that is needed is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from read_rows(file, path.name, needed, delimiter)
    except FileNotFoundError:
        raise ExchangeError(f"there is no file {path.name}") from None
    except UnicodeDecodeError:
        raise ExchangeError(f"{path.name} is not UTF-8") from None


def read_rows(
    lines: Iterable[str] | io.TextIOBase, name: str, needed: Sequence[str], delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]] | Problem]:
    """As `read_table`, of lines that keep their newlines."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        columns = next(reader, [])
        missing = [column for column in needed if column not in columns]
        if missing:
            raise ExchangeError(f"{name} has no column '{missing[0]}'; it has {', '.join(columns[:20]) or 'none'}")
        while True:
            first = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            where = f"{name}:{first}"
            if not row:
                continue
            if len(row) != len(columns):
                yield Problem(where=where, text=f"{len(row)} cells under {len(columns)} columns")
                continue
            yield where, {column: unguard(text) for column, text in zip(columns, row, strict=True)}
    except csv.Error as error:
        # Nothing after this can be told apart: quotes do not match, or a cell is too long.
        yield Problem(where=f"{name}:{reader.line_num}", text=f"the table cannot be read on: {error}")
