"""Where a benchmark's result goes: its file under `results/`, which `benchmarks.report` makes tables of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def store_result(result: dict[str, Any], name: str, *, asked: Path | None = None, quick: bool = False) -> Path | None:
    """Write a result as JSON; returns where.

    Args:
        result: What was measured.
        name: Of the benchmark: the file's name, and the table's.
        asked: Where somebody wants it.
        quick: Whether it was only tried out: then it replaces no measurement, and is written where asked or nowhere.
    """
    path = asked if asked is not None else None if quick else RESULTS / f"{name}.json"
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path
