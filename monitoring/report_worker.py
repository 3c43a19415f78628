"""The child process that runs Evidently: one job folder in, `report.html`, `report.json` and `result.json` out.

Evidently costs 300 MB and seconds to import, and its default test changes with the sample size. So it lives here, in a
process with limits of its own, and is always told which method and which threshold each column gets.

Run as `python -m monitoring.report_worker FOLDER MEMORY_BYTES CPU_SECONDS`. Reads `job.json` and `frames.npz`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

QUIET = {"DO_NOT_TRACK": "1", "EVIDENTLY_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Environment of the worker: no telemetry, one thread. The parent sets it, so that it holds before any import."""

_NO_MARKUP = str.maketrans({"<": "\u2039", ">": "\u203a"})
"""Evidently puts names into a script block unescaped; a class called `</script>` must not end it."""


def main(arguments: list[str]) -> int:
    """Run one job. Returns the process's exit status; the reason of a failure goes to `result.json`."""
    folder, memory_bytes, cpu_s = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    os.nice(10)  # serving shares the machine
    try:
        result = run_job(folder)
    except MemoryError:
        result = {"error": f"the report needs more than {memory_bytes >> 20} MiB: lower the number of rows or columns"}
    (folder / "result.json").write_text(json.dumps(result, allow_nan=False))
    return 0 if "error" not in result else 1


def run_job(folder: Path) -> dict[str, Any]:
    """Compare `current` with `reference` column by column and write the report's files."""
    job = json.loads((folder / "job.json").read_text().translate(_NO_MARKUP))
    with np.load(folder / "frames.npz", allow_pickle=False) as frames:
        reference, current = frames["reference"], frames["current"]
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns: list[dict[str, Any]] = job["columns"]
    names = [c["name"] for c in columns]
    definition = DataDefinition(
        numerical_columns=[c["name"] for c in columns if not c["categories"]],
        categorical_columns=[c["name"] for c in columns if c["categories"]],
    )
    report = Report(
        [
            DataDriftPreset(
                columns=names,
                drift_share=job["drift_share"],
                per_column_method={c["name"]: c["method"] for c in columns},
                per_column_threshold={c["name"]: c["threshold"] for c in columns},
            )
        ],
        metadata={k: str(v) for k, v in job["facts"].items()},
    )
    snapshot = report.run(
        Dataset.from_pandas(_frame(pd, current, columns), data_definition=definition),
        Dataset.from_pandas(_frame(pd, reference, columns), data_definition=definition),
    )
    _write(folder / "report.html", snapshot.get_html_str(as_iframe=False).encode())
    _write(folder / "report.json", snapshot.json().encode())
    return {"values": _values(json.loads(snapshot.json()), names)}


def _values(report: dict[str, Any], names: list[str]) -> list[float | None]:
    """Evidently's distance of each column; None where it is undefined."""
    found = {
        m["config"]["column"]: float(m["value"])
        for m in report["metrics"]
        if m["config"].get("type", "").endswith("ValueDrift")
    }
    values = [found.get(name, float("nan")) for name in names]
    return [v if np.isfinite(v) else None for v in values]


def _frame(pd: Any, values: npt.NDArray[np.float32], columns: list[dict[str, Any]]) -> Any:
    """A pandas frame (row, column); a categorical column holds its labels instead of their indices."""
    data: dict[str, Any] = {}
    for i, column in enumerate(columns):
        if column["categories"]:
            labels = np.asarray(column["categories"], dtype=object)
            data[column["name"]] = labels[np.clip(values[:, i].astype(np.int64), 0, len(labels) - 1)]
        else:
            data[column["name"]] = values[:, i].astype(np.float64)
    return pd.DataFrame(data)


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all, so that nobody reads half a report."""
    draft = path.with_suffix(path.suffix + ".part")
    draft.write_bytes(content)
    draft.replace(path)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
