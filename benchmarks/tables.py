"""Tables of the benchmarks that have one result file each: from `results/NAME.json` to Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import tables_loop, tables_monitor
from benchmarks.markdown import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


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
    for x in r["proxy"]:
        name = f"... until {x['error_rate']:.0%} is seen, with a proxy that correlates {x['correlation']:.2f}"
        rows.append(
            (
                name,
                f"{x['labels']} ({x['of_those_without']:.2f} of those without; the best possible bet {x['limit']:.2f})",
            )
        )
        rows.append((f"{name} that draws follow", f"{x['with_probes']} ({x['with_probes_of_those_without']:.2f})"))
    rows += [(f"labels after 3,000 healthy ones, {x['name']}", str(x["median_labels"])) for x in r["late"]]
    return markdown_table(("question", "measured"), rows, right=(1,))


def triggers(r: dict[str, Any]) -> str:
    """Trainings by the policy, and by the schedule that is as accurate."""
    rows = [
        (
            x["stream"],
            f"{x['never']:.1%}",
            f"{x['accuracy']:.1%}",
            f"{x['trainings']:.0f}",
            f"{x['schedule_for_the_same'] or 'none reaches it'}",
            f"{x['best_schedule']['accuracy']:.1%} with {x['best_schedule']['trainings']}",
        )
        for x in r["rows"]
    ]
    heads = ("stream", "never", "by policy", "trainings", "a schedule needs for the same", "the best schedule")
    return markdown_table(heads, rows, right=(1, 2, 3, 4))


def gate(r: dict[str, Any]) -> str:
    """Promotions, right and wrong."""
    rows = [
        (
            "equal" if x["effect"] == 0 else f"{100 * x['effect']:+g} points",
            f"{x['changed']:.0%}",
            f"{x['labels']:,}",
            f"{x['promoted']:.1%}",
            f"{x['promoted_by_point_estimates']:.1%}",
        )
        for x in r["rows"]
    ]
    heads = ("true effect of the candidate", "answers changed", "labels", "promoted by the gate", "by point estimates")
    after = f"A gate on 50,000 inputs and 20 slices takes {1000 * r['seconds_for_50000']:.0f} ms besides inference."
    return markdown_table(heads, rows, right=(1, 2, 3, 4)) + "\n\n" + after


def accuracy(r: dict[str, Any]) -> str:
    """Errors of estimates, in points."""

    def points(value: float | None) -> str:
        return "none" if value is None else f"{100 * value:.1f}"

    rows = [
        (
            x["data"],
            x["method"] + (", change never rehearsed" if x["unseen"] else ""),
            points(x["mild"]),
            points(x["shifted"]),
            points(x["shifted_if_trusted"]) + f" ({x['trusted_share']:.0%})",
            "none" if x["interval_held"] is None else f"{x['interval_held']:.0%}",
        )
        for x in sorted(r["estimates"], key=lambda x: (x["data"], x["shifted"]))
    ]
    heads = ("data", "estimate without labels", "mild", "five kinds x five strengths", "where trusted", "interval held")
    a, n = r["audits"], r["labels"]
    after = (
        f"Audits ({a['runs']:,} draws each of {len(a['rows'])} settings): intervals of 95 % hold the truth in "
        f"{a['coverage_mean']:.1%} (least {a['coverage_least']:.1%}); with a proxy that correlates 0.7 or more they "
        f"are {a['narrower_where_correlated']:.0%} narrower than labels alone (least {a['narrower_least']:.0%}). "
        f"Audited labels for a mean error of four points over the same changes: {n['labels_for_four_points']}."
    )
    return markdown_table(heads, rows, right=(2, 3, 4, 5)) + "\n\n" + after


def drift(r: dict[str, Any]) -> str:
    """A refresh of a wide table, ours beside Evidently's."""
    ours = r["ours"]
    what = f"{ours['rows']:,} rows by {ours['columns']:,} columns"
    rows = [
        (f"ours, {what}: counts, signals, ranking", f"{ours['total_s']:.2f} s", f"{ours['refresh_mib']:.0f} MiB"),
        *([("... in processor time", f"{ours['cpu_s']:.2f} s", "")] if "cpu_s" in ours else []),
        ("... the first time, with a version's thresholds", f"{ours['first_s']:.1f} s", ""),
    ]
    for x in r["evidently"]:
        name = f"Evidently, {x['rows']:,} rows by {x['columns']:,} columns"
        stopped = x.get("stopped_after_s")
        told = f"stopped after {stopped:.0f} s" if stopped else f"{x['total_s']:.1f} s"
        rows.append((name, told, "" if stopped else f"{x['refresh_mib']:.0f} MiB"))
    found = f"{ours['found_of_those']} of {ours['truly_moved']}"
    rows.append(("columns that truly moved and were found, ours", found, f"{ours['moved']} named"))
    return markdown_table(("what", "time", "memory above what was there before"), rows, right=(1, 2))


def slices(r: dict[str, Any]) -> str:
    """Planted slices."""
    rows = [
        ("planted slices found (precision@10 of at least 0.6)", f"{r['found']} of {r['planted']}"),
        ("slices reported in a world with two plants", f"{r['slices_reported_per_world']:.2f}"),
        ("slices reported in a world without", f"{r['false_slices_per_world_without_plants']:.2f}"),
        ("100,000 records of 10 attributes, one core", f"{r['cpu_s_for_100000_rows']:.1f} s"),
    ]
    return markdown_table(("question", "measured"), rows, right=(1,))


def scores(r: dict[str, Any]) -> str:
    """Records scored a second."""
    rows = [
        (
            f"{x['classes']:,} logits" + (f", {x['embedding']:,}-d embedding" if x["embedding"] else ""),
            f"{x['records_per_s']:,}",
            f"{x['promised']:,}" if x["promised"] else "",
        )
        for x in r["rates"]
    ]
    table = markdown_table(("a classifier with", "records/s of one core", "promised"), rows, right=(1, 2))
    n = r["neighbours_per_s"]
    return (
        f"{table}\n\nNearest of 1,000 rows of 257 numbers, queries/s of one core: "
        f"{n['product_float64']:,} by a product in float64, "
        f"{n['product_float32']:,} in float32, {n['usearch']:,} by usearch."
    )


def ranking(r: dict[str, Any]) -> str:
    """P(wrong) against MSP."""
    names = {
        "clean": "clean inputs",
        "shift": "only shifted inputs",
        "mixed": "half clean, half shifted",
        "labelled": "the same, after 200 random labels",
    }
    rows = []
    for key, x in r["summary"].items():
        if key in names and x["auroc_points_over_msp"] is not None:
            network, worst = x["worst_network"]
            rows.append(
                (names[key], f"{x['auroc_points_over_msp']:+.2f}", f"{worst:+.2f} ({network})", x["augrc_no_worse"])
            )
    heads = ("AUROC of wrong answers against MSP's", "points, mean", "worst network", "AUGRC no worse")
    q = r["summary"]["queue"]
    return (
        f"{markdown_table(heads, rows, right=(1, 2, 3))}\n\nTop 1 % of a queue of mostly healthy digits: "
        f"{q['times_random']:.1f} times the failures of random picks (MSP: {q['times_random_msp']:.1f}; promised: 5)."
    )


def overload(r: dict[str, Any]) -> str:
    """Ten times the peak of a device that takes its time, and more connections than a tiny model can serve."""
    tiny = r["tiny_model"]
    r = r["accelerator"]
    fair = r["fairness"]
    rows = [
        ("peak, requests/s", f"{r['peak_per_s']:,.0f}"),
        ("sent in the flood, times the peak", f"{r['sent_over_peak']:.1f}"),
        ("answered in time during it, of the peak", f"{r['goodput_over_peak']:.1%}"),
        ("refusals, p50 and p99", f"{r['shed_p50_ms']:.1f} and {r['shed_p99_ms']:.1f} ms"),
        ("as quick as before after", f"{r['normal_again_after_s']} s"),
        (
            "a modest key beside a flooding one: refused, p99",
            f"{fair['modest_refused']} of {fair['modest_sent']}, {fair['modest_p99_ms']:.1f} ms",
        ),
        ("tiny model, answers/s by connections", ", ".join(f"{n}: {x['goodput_per_s']:,.0f}" for n, x in tiny.items())),
    ]
    return markdown_table(("question", "measured"), rows, right=(1,))


def slow_clients(r: dict[str, Any]) -> str:
    """Slow connections beside good ones: slow heads, slow bodies, and clients that do not read."""
    p50, p99 = r["good_p50_ms"], r["good_p99_ms"]
    rows = [
        ("slow connections", f"{r['slow_connections']:,}"),
        ("good clients' p50, before and beside them", f"{p50[0]:.2f} and {p50[1]:.2f} ms"),
        ("good clients' p99, before and beside them", f"{p99[0]:.2f} and {p99[1]:.2f} ms ({r['good_p99_ratio']:.2f})"),
        ("requests of good clients that failed", str(r["good_failed"])),
        ("dribbling ones cut after", f"{r['cut_first_s']:.1f} to {r['cut_last_s']:.1f} s"),
        ("readers that are stuck cut after", f"{r['readers_cut_last_s']:.1f} s"),
        ("memory of the server grew by", f"{r['memory_growth_mib']:.0f} MiB"),
    ]
    return markdown_table(("question", "measured"), rows, right=(1,))


def soak(r: dict[str, Any]) -> str:
    """Memory under a long mixed load, and a planted leak."""
    heads = ("server", "requests", "versions promoted", "resident memory", "bytes a request")
    rows = [
        (
            name,
            f"{x['requests']:,}",
            str(x["versions_promoted"]),
            f"{x['resident_mib'][0]} to {x['resident_mib'][1]} MiB",
            f"{x['bytes_a_request']:.2f}",
        )
        for name, x in (("as it is", r["sound"]), ("with a planted leak", r["planted_leak"]))
    ]
    return markdown_table(heads, rows, right=(1, 2, 3, 4))


def shadow(r: dict[str, Any]) -> str:
    """What a shadow costs the champion."""
    heads = ("model", "p50", "p99", "throughput", "processor time")
    rows = [
        (name, *(f"x {x['ratios'][key]:.2f}" for key in ("p50_us", "p99_us", "requests_per_s", "cpu_us")))
        for name, x in r["models"].items()
    ]
    return markdown_table(heads, rows, right=(1, 2, 3, 4))


def promotions(r: dict[str, Any]) -> str:
    """Twenty flips under load."""
    memory = [flip["rss_bytes"] / 2**20 for flip in r["flips"]]
    rows = [
        ("promotions and rollbacks in a row", str(len(r["flips"]))),
        ("requests meanwhile", ", ".join(f"{n:,} {way}" for way, n in r["by_way"].items())),
        ("failed", str(r["failed"])),
        ("answers of an older version after the flip", str(r["stale_answers"] + r["steps_back"])),
        ("resident memory after each flip", f"{min(memory):.0f} to {max(memory):.0f} MiB"),
    ]
    return markdown_table(("question", "measured"), rows, right=(1,))


_FAULTS = {
    "kill": "replica killed",
    "stop": "replica stopped (SIGSTOP)",
    "haproxy": "HAProxy killed",
    "manager": "HAProxy's manager killed",
    "controller": "Serve's controller killed",
    "roll": "code rolled",
    "head": "head node's control plane killed",
}


def ray_faults(r: dict[str, Any]) -> str:
    """Faults of a Ray cluster under load."""
    heads = ("fault", "times", "requests", "failed", "longest without an answer", "whole again after", "limits kept")
    rows = [
        (
            _FAULTS.get(name, name),
            str(x["times"]),
            f"{x['requests']:,}",
            str(x["failed"]),
            f"{x['gap_s']['worst']:.2f} s",
            f"{x['whole_s']['median']:.1f} s, at worst {x['whole_s']['worst']:.1f} s",
            "yes" if not x["breaches"] else "**no**",
        )
        for name, x in r["faults"].items()
    ]
    return markdown_table(heads, rows, right=(1, 2, 3, 4, 5))


def replicas(r: dict[str, Any]) -> str:
    """Two replicas against one."""
    rows = [
        (count, ", ".join(f"{n:,}" for n in found), ", ".join(str(x) for x in r["p99_ms"][count]))
        for count, found in r["requests_per_s"].items()
    ]
    table = markdown_table(("replicas", "requests/s, by round", "p99 ms, by round"), rows, right=(1, 2))
    return f"{table}\n\nTwo against one: {r['ratio']:.2f} (promised {r['target']:.1f})."


def heavy_model(r: dict[str, Any]) -> str:
    """A CPU-heavy model through HTTP against the bare loop."""
    heads = ("batch", "captured", "bare loop, rows/s", "through HTTP, rows/s", "of the bare loop", "p99")
    rows = [
        (
            str(x["batch"]),
            "yes" if x["capture"] else "no",
            f"{x['bare']['rows_per_s']:,.0f}",
            f"{x['http_rows_per_s']:,.0f}",
            f"{x['of_bare']:.1%}",
            f"{x['latency_ms']['99']:.1f} ms",
        )
        for x in r["results"]
    ]
    return markdown_table(heads, rows, right=(0, 2, 3, 4, 5))


def grpc(r: dict[str, Any]) -> str:
    """Servers side by side, over gRPC."""
    streams = [str(n) for n in r["settings"]["streams"]]
    rows = []
    for key, label in r["labels"].items():
        rates = [_median(r["measurements"].get(key, {}).get(n)) for n in streams]
        rows.append((label, *(f"{rate:,.0f}" if rate is not None else "not measured" for rate in rates)))
    heads = ("calls/s at ... streams", *streams)
    return markdown_table(heads, rows, right=tuple(range(1, len(heads))))


def _median(cell: Any) -> float | None:
    rounds = [x["per_s"] for x in cell] if isinstance(cell, list) else []
    return statistics.median(rounds) if rounds else None


TABLES: dict[str, Callable[[dict[str, Any]], str]] = (
    {
        make.__name__: make
        for make in (
            taxes,
            alarms,
            gate,
            triggers,
            accuracy,
            drift,
            slices,
            scores,
            ranking,
            overload,
            slow_clients,
            soak,
            shadow,
            promotions,
            ray_faults,
            replicas,
            heavy_model,
            grpc,
        )
    }
    | tables_loop.TABLES
    | tables_monitor.TABLES
)


def table_of(name: str, folder: Path = RESULTS) -> str:
    """The table called `name`, and where and when its figures were measured; a sentence where nobody has.

    Raises:
        KeyError: there is no such table.
    """
    make, path = TABLES[name], folder / f"{name}.json"
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "measured_at" not in results.get("machine", {}):  # those of before say not when and on what
        return f"Not measured yet: `python -m benchmarks.{name}` does."
    return f"{make(results)}\n\n{measured(results)}"


def measured(results: dict[str, Any]) -> str:
    """Machine, commit and time, in one line."""
    m = results["machine"]
    dirty = " with local changes" if m["git_dirty"] else ""
    when = m["measured_at"][:16].replace("T", " ")
    return f"Measured {when} UTC at commit {m['git_commit']}{dirty}: {m['cpu']}, {m['cores']} cores."
