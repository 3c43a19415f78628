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


def alarms_digits(r: dict[str, Any]) -> str:
    """Who pages, by what was done to real digits: ours, a z-test that peeks, Evidently."""
    rows = []
    for change, x in (r["harmless"] | r["harmful"]).items():
        labels = [x["median_labels"][kind] for kind in ("lifetime", "run_length")]
        evidently = x.get("evidently_preset")
        rows.append(
            (
                change,
                f"{x['error_rate']:.1%}",
                *(f"{x['pages'][kind]:.1%}" for kind in ("lifetime", "run_length")),
                " / ".join("none" if n is None else f"{n:.0f}" for n in labels),
                *(f"{share:.1%}" for share in x["z_test_pages"].values()),
                "" if evidently is None else f"{evidently['data_set_drifted']:.0%}",
            )
        )
    tests = [f"z-test {words}" for words in next(iter(r["harmless"].values()))["z_test_pages"]]
    heads = ("digits", "wrong", "lifetime promise", "run-length promise", "median labels until a page", *tests,
             "Evidently: windows that drifted")  # fmt: skip
    return markdown_table(heads, rows, right=tuple(range(1, len(heads))))


def false_signals(r: dict[str, Any]) -> str:
    """How often a drift signal points at a healthy window."""
    rows = [
        (rows_, f"{x['rate']:.2%}", f"{r['promise']:.2%}", f"{x['windows_with_a_signal']:.1%}")
        for rows_, x in r["sizes"].items()
    ]
    heads = ("rows in a healthy window", "signals that point", "promised", "windows with any")
    return markdown_table(heads, rows, right=(0, 1, 2, 3))


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    make.__name__: make for make in (ingest, rescore, queue, alarms_digits, false_signals)
}
