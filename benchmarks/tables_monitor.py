"""Tables of the monitor's speed and of its queue, each from its result file. See `benchmarks.tables`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.markdown import markdown_table


def ingest(r: dict[str, Any]) -> str:
    """Records that one core takes in, by how much a cycle reads."""
    rows = [
        (
            f"{x['cycle_bytes'] >> 20} MiB",
            f"{x['records']:,}",
            f"{x['records_per_second']:,}",
            f"{x['records_per_cpu_second']:,}",
            f"{r['target_records_per_second']:,}",
        )
        for x in r["runs"]
    ]
    heads = ("a cycle reads", "records", "records/s", "records/s of processor time", "promised")
    return markdown_table(heads, rows, right=(1, 2, 3, 4))


def rescore(r: dict[str, Any]) -> str:
    """A history scored again."""
    early, late = r["largest_process_mib_early"], r["largest_process_mib_late"]
    rows = [
        ("records", f"{r['records']:,}"),
        ("seconds", f"{r['seconds']:,.0f}{' with Ray' if r['with_ray'] else ''}"),
        ("records/s", f"{r['records_per_second']:,}"),
        ("largest process, first and last fifth of the run", f"{early} and {late} MiB"),
    ]
    return markdown_table(("question", "measured"), rows, right=(1,))


def queue(r: dict[str, Any]) -> str:
    """What the queue is worth: density of failures, and accuracy after labels."""
    d = r["density"]
    shifted, mixed = r["accuracy_after_labels_from_a_shifted_stream"], r["accuracy_after_labels_from_mixed_traffic"]
    names = ("random", "least_confident", "queue")
    share = f"{d['top']:.1%} ({d['times']:.1f} times)"
    rows = [("failures in the first hundredth, a tenth of the traffic shifted", f"{d['traffic']:.1%}", "", share)]
    for words, found in (("a quarter", mixed), ("all", shifted)):
        cells = [f"{found[name]:.1%}" for name in names]
        rows.append((f"accuracy after {r['settings']['labels']} labels, {words} of the traffic shifted", *cells))
    return markdown_table(("question", "random", "least confident", "queue"), rows, right=(1, 2, 3))


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {make.__name__: make for make in (ingest, rescore, queue)}
