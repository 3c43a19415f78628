"""Tables from `results/serving.json`, written between markers: `python -m benchmarks.report [FILE ...]`.

A file has pairs of markers `<!-- bench:NAME begin -->` and `<!-- bench:NAME end -->`, where NAME is one of the tables
here. Without arguments `benchmarks/README.md` and the project's README are brought up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import tables
from benchmarks.figures import TIMES, Reached, Results, evaluate, rates, ratios
from benchmarks.markdown import markdown_table

SCHEMA_VERSION = 1
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "README.md")
_BASE = ("ours_replica", "direct/oip-binary/64")
_PEERS = (
    ("Hardcase, straight to one replica, every request captured", "ours_replica", ("direct/oip-binary/64",)),
    ("Hardcase, through HAProxy, every request captured", "ours_replica", ("front/oip-binary/64",)),
    ("mosec", "mosec", ("front/raw/64",)),
    ("Triton's front end (PyTriton)", "pytriton", ("front/oip-binary/64",)),
    (
        "Ray Serve, high-throughput mode, bare ASGI app",
        "ray_throughput",
        ("direct/raw/64", "direct/raw/64/infer-alone", "front/raw/64", "front/raw/64/infer-alone"),
    ),
    ("LitServe", "litserve", ("front/raw/64",)),
    ("Ray Serve, written the usual way", "ray_usual", ("front/raw/64", "front/json/64")),
)


class ReportError(Exception):
    """A page or a result file is not what the report needs; the text says what to do."""


def load_results(path: Path = RESULTS) -> Results:
    """Read stored results.

    Raises:
        ReportError: none there, or of another schema version.
    """
    if not path.exists():
        raise ReportError(f"there are no results in {path.name}: run `make bench`")
    results: Results = json.loads(path.read_text(encoding="utf-8"))
    if results.get("schema_version") != SCHEMA_VERSION:
        raise ReportError(f"{path.name} has another schema version: run `make bench` again")
    return results


def machine_table(results: Results) -> str:
    """Where and when it was measured."""
    m, s = results["machine"], results["settings"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items() if v)
    engine = results["engine"]
    rows = [
        ("machine", f"{m['cpu']}, {m['cores']} cores{', virtual' if m['virtual'] else ''}, {m['memory_gib']} GiB"),
        ("system", f"{m['kernel']} {m['architecture']}, Python {m['python']}, wrk {m['wrk']}"),
        ("versions", versions),
        (
            "measured",
            f"{m['measured_at']} at commit {m['git_commit']}{' with local changes' if m['git_dirty'] else ''}",
        ),
        ("load before", " ".join(str(x) for x in m["load_average_at_start"])),
        ("settings", f"{s['rounds']} round(s), {s['seconds']:g} s a cell after {s['warm_up_s']:g} s of warm-up"),
        (
            "onnxruntime alone, one core",
            f"{engine['rows_per_s_batch_1']:,} rows/s one by one, {engine['rows_per_s_batch_64']:,} in batches of 64",
        ),
    ]
    return markdown_table(("fact", "value"), rows)


def cells_table(results: Results) -> str:
    """Every server and every way it was loaded: medians over the rounds, and the ratio to our replica."""
    base = rates(results, *_BASE)
    rows = []
    for key, target in results["targets"].items():
        cells = dict.fromkeys(m["cell"] for m in results["measurements"] if m["target"] == key)
        for cell in cells:
            found = [m for m in results["measurements"] if m["target"] == key and m["cell"] == cell]
            rate = [m["requests_per_s"] for m in found]
            share = ratios(rates(results, key, cell), base) if "/64" in cell else []
            rows.append(
                (
                    target["label"],
                    _cell_text(cell),
                    _number(statistics.median(rate)),
                    f"{_number(min(rate))} to {_number(max(rate))}" if len(rate) > 1 else "",
                    *(_latency(statistics.median(m["latency_us"][p] for m in found)) for p in ("p50", "p99")),
                    f"{statistics.median(share):.3g}" if share else "",
                )
            )
        if key in results["failures"]:
            reason = results["failures"][key].splitlines()[0]
            rows.append((target["label"], f"not measured: {reason}", "", "", "", "", ""))
    heads = ("server", "how", "requests/s", "over the rounds", "p50", "p99", "÷ our replica")
    return markdown_table(heads, rows, right=(2, 4, 5, 6))


def figures_table(results: Results) -> str:
    """The promised figures, what was measured, and whether the promise was kept."""
    return markdown_table(
        ("figure", "promised", "measured", "over the rounds", "reached"),
        [_figure_row(reached) for reached in evaluate(results)],
        right=(1, 2),
    )


def peers_table(results: Results) -> str:
    """The short comparison for the project's README: 64 connections, each server's best wire format."""
    base = rates(results, *_BASE)
    rows = []
    for label, target, cells in _PEERS:
        found = rates(results, target, *cells)
        if target == "mosec":
            other = rates(results, "mosec_32", *cells)
            found = {n: max(found.get(n, 0.0), other.get(n, 0.0)) for n in found.keys() | other.keys()}
        share = ratios(base, found)
        if found:
            rows.append((label, _number(statistics.median(found.values())), _times(share)))
    return markdown_table(("server", "requests/s", "our replica is"), rows, right=(1, 2))


TABLES: dict[str, Callable[[Results], str]] = {
    "machine": machine_table,
    "figures": figures_table,
    "cells": cells_table,
    "peers": peers_table,
}


def render(results: Results) -> str:
    """All tables, for the terminal."""
    return "\n\n".join(make(results) for make in (machine_table, figures_table, cells_table))


def fill_page(text: str, results: Results) -> str:
    """A page with each marked table replaced.

    Raises:
        ReportError: a marker names no table, or has no end.
    """

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name in tables.TABLES:
            content = tables.table_of(name)
        elif name in TABLES:
            content = TABLES[name](results)
        else:
            known = ", ".join((*TABLES, *tables.TABLES))
            raise ReportError(f"marker 'bench:{name}' names no table; there are {known}")
        return f"<!-- bench:{name} begin -->\n{content}\n<!-- bench:{name} end -->"

    filled, count = re.subn(r"<!-- bench:(\w+) begin -->\n.*?<!-- bench:\1 end -->", table, text, flags=re.DOTALL)
    if count != len(re.findall(r"<!-- bench:\w+ begin -->", text)):
        raise ReportError("a marker 'bench:… begin' has no end")
    return filled


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring pages up to date with the stored results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="tables from stored results")
    parser.add_argument("pages", nargs="*", type=Path, help="Markdown files with markers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        results = load_results(options.results)
        for page in options.pages or [p for p in PAGES if p.exists()]:
            text = page.read_text(encoding="utf-8")
            filled = fill_page(text, results)
            if filled != text:
                page.write_text(filled, encoding="utf-8")
    except ReportError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _figure_row(reached: Reached) -> tuple[str, ...]:
    figure = reached.figure
    sign = "≥" if figure.at_least else "≤"
    promised = f"{sign} {figure.target:g}{figure.unit}"
    if reached.median is None or reached.lowest is None or reached.highest is None:
        return figure.text, promised, "not measured", "", ""
    spread = f"{_short(reached.lowest)} to {_short(reached.highest)}" if reached.lowest != reached.highest else ""
    verdict = "yes" if reached.reached else "**no**"
    return figure.text, promised, f"{_short(reached.median)}{figure.unit}", spread, verdict


def _cell_text(cell: str) -> str:
    entry, wire, connections, *rest = cell.split("/")
    where = {"front": "", "direct": "straight to the replica, "}[entry]
    return f"{where}{wire.replace('oip-', '')}, {connections} connection{'s' if connections != '1' else ''}" + (
        ", without @serve.batch" if rest else ""
    )


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else _number(value)


def _latency(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:,.0f} µs"
    return f"{microseconds / 1e3:.3g} ms" if microseconds < 999_500 else f"{microseconds / 1e6:.3g} s"


def _times(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} {TIMES}" if values else ""


if __name__ == "__main__":
    sys.exit(main())
