"""Tables of the benchmarks that have one result file each: from `results/NAME.json` to Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; columns in `right` are aligned to the right."""
    rule = ["--:" if i in right else "---" for i in range(len(heads))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *rows))


def taxes(r: dict[str, Any]) -> str:
    """What watching requests costs."""
    rows = [
        (x["name"], f"{x['requests_per_s']:,.0f}", f"{x['throughput']:.3f}", f"{x['cpu_us']:.2f}", f"{x['cpu']:.3f}")
        for x in r["rows"]
    ]
    heads = ("a server with", "requests/s", "throughput, ratio", "processor µs a request", "ratio")
    return markdown_table(heads, rows, right=(1, 2, 3, 4))


def alarms(r: dict[str, Any]) -> str:
    """False alarms and delays."""
    rows = [(f"false alarms over 4,000 labels: {name}", f"{share:.2%}") for name, share in r["false_alarms"].items()]
    for x in r["delay"]:
        rate = f"{x['error_rate']:.0%}"
        rows.append((f"median labels until {rate} is seen", f"{x['ours']} ({x['ratio']:.2f} of the knowing test's)"))
        with_proxy = f"{x['with_proxy']} ({x['proxy_ratio']:.2f} of it)"
        rows.append((f"... with a proxy that correlates {x['correlation']:.2f}", with_proxy))
    rows += [(f"labels after 3,000 healthy ones, {x['name']}", str(x["median_labels"])) for x in r["late"]]
    return markdown_table(("question", "measured"), rows, right=(1,))


def slices(r: dict[str, Any]) -> str:
    """Planted slices."""
    rows = [
        ("planted slices found (precision@10 of at least 0.6)", f"{r['found']} of {r['planted']}"),
        ("slices reported in a world with two plants", f"{r['slices_reported_per_world']:.2f}"),
        ("slices reported in a world without", f"{r['false_slices_per_world_without_plants']:.2f}"),
        ("100,000 records of 10 attributes, one core", f"{r['cpu_s_for_100000_rows']:.1f} s"),
    ]
    return markdown_table(("question", "measured"), rows, right=(1,))


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"taxes": taxes, "alarms": alarms, "slices": slices}


def table_of(name: str, folder: Path = RESULTS) -> str:
    """The table called `name`, and where and when its figures were measured.

    Raises:
        KeyError: there is no such table.
        OSError: it was never measured.
    """
    results: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return f"{TABLES[name](results)}\n\n{measured(results)}"


def measured(results: dict[str, Any]) -> str:
    """Machine, commit and time, in one line."""
    m = results["machine"]
    dirty = " with local changes" if m["git_dirty"] else ""
    when = m["measured_at"][:16].replace("T", " ")
    return f"Measured {when} UTC at commit {m['git_commit']}{dirty}: {m['cpu']}, {m['cores']} cores."
