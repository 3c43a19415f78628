"""The `hardcase` command. Modules here import nothing heavy at the top: `hardcase --help` must answer at once."""

from __future__ import annotations

from deploy.cli.main import main

__all__ = ["main"]
