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

_NETWORK = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo"})
_MOST_FIGURES = 2000

_NO_MARKUP = str.maketrans({"<": "\u2039", ">": "\u203a"})
"""Evidently puts names into a script block unescaped; a class called `</script>` must not end it."""


def main(arguments: list[str]) -> int:
    """Run one job. Returns the process's exit status; the reason of a failure goes to `result.json`."""
    folder, memory_bytes, cpu_s = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    os.nice(10)  # serving shares the machine
    refuse_network()
    try:
        result = run_job(folder)
    except MemoryError:
        result = {"error": f"the report needs more than {memory_bytes >> 20} MiB: lower the number of rows or columns"}
    (folder / "result.json").write_text(json.dumps(result, allow_nan=False))
    return 0 if "error" not in result else 1


def refuse_network() -> None:
    """End every attempt of this process to reach a network: reports are made here, and nothing is told to anybody.

    Raises later, in the code that tries: PermissionError.
    """

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NETWORK and not _is_local(event, arguments):
            raise PermissionError(f"{event} is refused: a report needs no network")

    sys.addaudithook(watch)


def _is_local(event: str, arguments: tuple[Any, ...]) -> bool:
    """Sockets within this machine's kernel, by a path, are no network."""
    return event != "socket.getaddrinfo" and len(arguments) > 1 and isinstance(arguments[1], str | bytes)


def run_job(folder: Path) -> dict[str, Any]:
    """Make the report that `job.json` asks for, and write its files."""
    job = json.loads((folder / "job.json").read_text().translate(_NO_MARKUP))
    with np.load(folder / "frames.npz", allow_pickle=False) as frames:
        reference, current = frames["reference"], frames["current"]
    import pandas as pd
    from evidently import Dataset, Report

    columns: list[dict[str, Any]] = job["columns"]
    preset, definition = _PRESETS[job["kind"]](job)
    report = Report([preset], metadata={k: str(v) for k, v in job["facts"].items()})
    snapshot = report.run(
        Dataset.from_pandas(_frame(pd, current, columns), data_definition=definition),
        Dataset.from_pandas(_frame(pd, reference, columns), data_definition=definition) if len(reference) else None,
    )
    _write(folder / "report.html", snapshot.get_html_str(as_iframe=False).encode())
    _write(folder / "report.json", snapshot.json().encode())
    written = json.loads(snapshot.json())
    if job["kind"] == "drift":
        return {"values": _values(written, [c["name"] for c in columns])}
    return {"figures": _figures(written)}


def _drift(job: dict[str, Any]) -> tuple[Any, Any]:
    from evidently.presets import DataDriftPreset

    columns = job["columns"]
    preset = DataDriftPreset(
        columns=[c["name"] for c in columns],
        drift_share=job["drift_share"],
        per_column_method={c["name"]: c["method"] for c in columns},
        per_column_threshold={c["name"]: c["threshold"] for c in columns},
    )
    return preset, _definition(columns)


def _summary(job: dict[str, Any]) -> tuple[Any, Any]:
    from evidently.presets import DataSummaryPreset

    return DataSummaryPreset(columns=[c["name"] for c in job["columns"]]), _definition(job["columns"])


def _quality(job: dict[str, Any]) -> tuple[Any, Any]:
    from evidently import MulticlassClassification, Regression
    from evidently.presets import ClassificationPreset, RegressionPreset

    target, prediction = (c["name"] for c in job["columns"])
    if job["columns"][0]["categories"]:
        task = MulticlassClassification(target=target, prediction_labels=prediction)
        return ClassificationPreset(), _definition(job["columns"], classification=[task])
    return RegressionPreset(), _definition(
        job["columns"], regression=[Regression(target=target, prediction=prediction)]
    )


_PRESETS = {"drift": _drift, "summary": _summary, "quality": _quality}


def _definition(columns: list[dict[str, Any]], **more: Any) -> Any:
    from evidently import DataDefinition

    return DataDefinition(
        numerical_columns=[c["name"] for c in columns if not c["categories"]],
        categorical_columns=[c["name"] for c in columns if c["categories"]],
        **more,
    )


def _figures(report: dict[str, Any]) -> list[tuple[str, str, float | None]]:
    """(column or class, measure, value) of every single number that Evidently computed."""
    found: list[tuple[str, str, float | None]] = []
    for metric in report["metrics"]:
        config, value = metric["config"], metric["value"]
        measure = _words(config.get("type", "").rsplit(":", 1)[-1])
        if "quantile" in config:
            measure = f"{config['quantile']:g} quantile"
        name = str(config.get("column") or "all")
        if not isinstance(value, dict):
            found.append((name, measure, _number(value)))
        elif "by label" in measure:
            found += [(str(label), measure.removesuffix(" by label"), _number(x)) for label, x in value.items()]
        else:
            part = "share" if "share" in value else "mean" if "mean" in value else None
            if part is not None:
                named = measure.replace(" count", " share") if part == "share" else measure
                found.append((name, named, _number(value[part])))
    return found[:_MOST_FIGURES]


def _words(name: str) -> str:
    """A metric's class as words: MissingValueCount is "missing value count", RMSE stays."""
    if name.isupper() or name in ("R2Score", "F1Score", "F1ByLabel"):
        return {"R2Score": "R2", "F1Score": "F1", "F1ByLabel": "F1 by label"}.get(name, name)
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


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
