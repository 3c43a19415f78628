"""`hardcase backtest`: a labelled history, from the monitor or from a file, through every estimate of accuracy."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from deploy.errors import Missing, UsageError
from deploy.monitor_client import MonitorClient
from deploy.settings import Settings
from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import OutputRole
from export.reference import class_indices
from export.registry import Registry
from monitoring.accuracy.backtest import backtest
from monitoring.api.accuracy_models import Backtest, backtest_of
from monitoring.baseline import compile_baseline

Array = npt.NDArray[Any]
LABELS = ("label", "labels", "target", "y")
SIZE = (720, 260)
TONES = {"truth": "#111", "audit": "#2a7", "rehearsal": "#27c", "transport": "#95c", "confidence": "#c52"}


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """Rows in the order of time: class scores (rows, classes), embedding (rows, features) or None, labels (rows,)."""

    output: Array
    embedding: Array | None
    labels: Array


def from_file(
    registry: Registry,
    model: str,
    version: str | None,
    path: Path,
    *,
    window_rows: int,
    audit_labels: int,
    started: Callable[[int], Callable[[int], None]],
) -> Backtest:
    """Backtest a version of the registry on a file.

    Args:
        registry: Holds the version's reference.
        model: Its name.
        version: None takes the champion.
        path: See `read_history`.
        window_rows: Rows of a window.
        audit_labels: Labels of each tried audit.
        started: Told the number of rows; returns what is told of progress.

    Raises:
        Missing: no such model or version, or it has no reference.
        UsageError: the file cannot be used.
    """
    chosen = version or _champion(registry, model)
    package = registry.package(model, chosen)
    profile = package.reference()
    if profile is None or profile.classes is None:
        raise Missing(f"{model} version {chosen} has no reference of a classifier: export it with labelled rows")
    history = read_history(path, package.manifest, profile)
    try:
        tried = backtest(
            compile_baseline(package.manifest, profile),
            history.output,
            history.embedding,
            history.labels,
            window_rows=window_rows,
            audit_labels=audit_labels,
            advance=started(len(history.labels)),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not tried:
        raise UsageError(f"{path.name}: {len(history.labels)} rows are fewer than half a window of {window_rows}")
    return backtest_of(model, chosen, audit_labels, tried)


def from_monitor(
    settings: Settings, registry: Registry, model: str, version: str | None, audit_labels: int
) -> Backtest:
    """Backtest what the running monitor has recorded and got labels for.

    Raises:
        NotRunning: no monitor answers.
        Missing: it does not know the model or the version.
    """
    client = MonitorClient.of(settings)
    path = f"/api/models/{quote(model, safe='')}/accuracy/backtest"
    chosen = version or _champion(registry, model)
    return Backtest.model_validate(client.get(path, version=chosen, audit_labels=audit_labels))


def _champion(registry: Registry, model: str) -> str:
    plan = registry.plan(model)
    if plan is None or plan.champion is None:
        raise Missing(f"model '{model}' has no champion: name a version with --version")
    return plan.champion


def read_history(path: Path, manifest: Manifest, profile: ReferenceProfile) -> History:
    """Class scores and labels from an NPZ, Parquet or CSV file.

    An NPZ holds `labels`, the class output by its name (or `logits`, `probabilities`), and the embedding by its name. A
    table has a column `label` and one column a class, named as the class or `p_0`, `p_1`, …; or one column of lists.

    Raises:
        UsageError: it does not hold these.
    """
    try:
        columns = _columns(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path.name} cannot be read: {type(error).__name__}") from None
    if profile.classes is None:
        raise UsageError("backtests of files are for classifiers")
    names, spec = manifest.task.class_names, profile.classes.output
    label = next((columns[name] for name in LABELS if name in columns), None)
    if label is None:
        raise UsageError(f"{path.name} has no labels: a column or array named {', '.join(LABELS)}")
    whole = next((columns[n] for n in (spec, "logits", "probabilities", "scores") if n in columns), None)
    for candidate in ([*names], [f"p_{i}" for i in range(len(names))], [f"{spec}_{i}" for i in range(len(names))]):
        if whole is None and all(name in columns for name in candidate):
            whole = np.stack([columns[name] for name in candidate], axis=1)
    if whole is None:
        raise UsageError(
            f"{path.name} has no class scores: '{spec}', or one column a class ({', '.join(names[:3])}, …)"
        )
    output = np.stack([np.asarray(row, dtype=np.float32) for row in whole])
    logits = profile.classes.role is OutputRole.LOGITS
    if logits and spec not in columns and "logits" not in columns and _sums_to_one(output):
        output = np.log(np.maximum(output, np.finfo(np.float32).tiny))  # probabilities are logits but for a constant
    hidden = None if profile.embedding is None else columns.get(profile.embedding.output)
    try:
        labels = class_indices(label if label.dtype.kind in "iu" else [str(x) for x in label], manifest.task)
    except ValueError as error:
        raise UsageError(f"{path.name}: {error}") from None
    embedding = None if hidden is None else np.stack([np.asarray(row, dtype=np.float32) for row in hidden])
    return History(output=output, embedding=embedding, labels=labels)


def _columns(path: Path) -> dict[str, Array]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    if path.suffix == ".parquet":
        from pyarrow import parquet

        table = parquet.read_table(path)
    elif path.suffix == ".csv":
        from pyarrow import csv

        table = csv.read_csv(path)
    else:
        raise UsageError(f"{path.name}: known are .npz, .parquet and .csv")
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def _sums_to_one(output: Array) -> bool:
    return bool((output >= 0).all() and np.allclose(output.sum(axis=1), 1.0, atol=1e-3))


def write_html(found: Backtest, path: Path) -> None:
    """A page with a plot of truth and estimates, and the table. No script, nothing from elsewhere."""
    width, height = SIZE
    n = max(len(found.windows) - 1, 1)

    def line(values: list[float | None]) -> str:
        points = [(i, v) for i, v in enumerate(values) if v is not None]
        return " ".join(f"{40 + i * (width - 60) / n:.1f},{10 + (1 - v) * (height - 40):.1f}" for i, v in points)

    truth: list[float | None] = [w.truth for w in found.windows]
    series = {"truth": truth} | {
        name: [w.estimates.get(name) for w in found.windows] for name in TONES if name != "truth"
    }
    lines = "".join(
        f'<polyline fill="none" stroke="{TONES[name]}" stroke-width="{2.5 if name == "truth" else 1.5}" '
        f'points="{line(values)}"/>'
        for name, values in series.items()
    )
    ticks = "".join(
        f'<text x="34" y="{14 + (1 - v) * (height - 40):.0f}" text-anchor="end">{v:.0%}</text>'
        f'<line x1="40" x2="{width - 20}" y1="{10 + (1 - v) * (height - 40):.0f}" '
        f'y2="{10 + (1 - v) * (height - 40):.0f}" stroke="#ddd"/>'
        for v in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    legend = " ".join(f'<span style="color:{tone}">&#9632; {name}</span>' for name, tone in TONES.items())
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table(found))
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in HEADS)
    title = html.escape(f"Accuracy estimates of {found.model} version {found.version}, held against labels")
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>body{{font:15px/1.5 system-ui;"
        "max-width:60rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}td,th{padding:.2rem .8rem;"
        "text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}"
        f"text{{font-size:11px;fill:#666}}</style><h1>{title}</h1><p>{len(found.windows)} windows in order of time; "
        f"audits of {found.audit_labels} labels, drawn again and again (their mean is drawn).</p>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{ticks}{lines}</svg>'
        f"<p>{legend}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></html>\n",
        encoding="utf-8",
    )


HEADS = ("method", "estimates", "mean error", "bias", "worst", "interval held", "promised", "width", "error if trusted")


def table(found: Backtest) -> list[tuple[str, ...]]:
    """The result as cells, points and per cent."""

    def points(value: float | None, sign: str = "") -> str:
        return "none" if value is None else f"{100 * value:{sign}.1f}"

    return [
        (
            m.method.value,
            f"{m.said} of {m.tried}",
            points(m.error),
            points(m.bias, "+"),
            points(m.worst),
            "none" if m.coverage is None else f"{m.coverage:.1%}",
            "none" if m.level is None else f"{m.level:.0%}",
            points(m.width),
            points(m.error_trusted) + (f" ({m.trusted})" if m.trusted else ""),
        )
        for m in found.methods
    ]
