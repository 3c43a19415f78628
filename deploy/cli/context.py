"""What every command shares: settings, the state folder, and printing for people or for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from deploy.paths import StatePaths
    from deploy.settings import Settings
    from deploy.settings_file import Loaded
    from export.registry import Registry

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclass
class Invocation:
    """One call of the command."""

    settings_file: Path | None
    debug: bool = False

    @cached_property
    def loaded(self) -> Loaded:
        """The settings; read when a command first needs them."""
        from deploy.settings_file import load_settings

        return load_settings(self.settings_file, os.environ, Path.cwd())

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.loaded.settings

    @cached_property
    def paths(self) -> StatePaths:
        """The state folder; not made yet."""
        from deploy.paths import StatePaths

        return StatePaths(self.loaded.state)

    @property
    def log(self) -> Path:
        """The record log that the monitor of this machine reads."""
        return self.paths.received if self.settings.storage.url else self.paths.records

    @cached_property
    def registry(self) -> Registry:
        """The registry of the state folder, or of the bucket."""
        from deploy.storage import open_registry

        return open_registry(self.settings.storage, self.paths.registry)


def invocation_of(ctx: typer.Context) -> Invocation:
    """The call that a command belongs to; the callback of the root command made it."""
    found = ctx.find_object(Invocation)
    if found is None:
        raise RuntimeError("a command ran without the root command")
    return found


def console(*, stderr: bool = False) -> Console:
    """A terminal writer: colours only on a terminal, no guessing of what a text may mean."""
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() else 200
    return Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=not file.isatty(), width=width)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    from export.contracts.codec import to_plain

    print(json.dumps(to_plain(value), indent=2, default=str, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A plain table for people; `empty` says what to do when there are no rows."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    listed = [[Text("" if cell is None else str(cell)) for cell in row] for row in rows]
    if not listed:
        console().print(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in listed:
        table.add_row(*row)
    console().print(table)


def author() -> str:
    """Who is at the keyboard, for histories."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
