"""Tables of the loop and of review, each from its result file. See `benchmarks.tables`."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.markdown import markdown_table


def story(r: dict[str, Any]) -> str:
    """The whole story, once."""
    rows = [
        (
            x["scene"],
            *(f"{x[name]:.1%}" for name in ("before", "under", "after")),
            f"{(x['after'] - x['under']) / (x['before'] - x['under']):.1%}",
            str(x["labels"]),
        )
        for x in r["recoveries"]
    ]
    heads = ("what happens", "accuracy before", "under the shift", "afterwards", "came back", "labels")
    held = sum(bool(claim["holds"]) for claim in r["claims"])
    answered = f"{r['sent']:,} requests, {r['failed']:,} failed"
    after = f"{r['seconds']:.0f} s; {answered}; {held} of {len(r['claims'])} claims hold."
    return f"{markdown_table(heads, rows, right=(1, 2, 3, 4, 5))}\n\n{after}"


def recovery(r: dict[str, Any]) -> str:
    """Share of the lost accuracy that came back, by trainer, choice and labels."""
    counts = sorted({x["labels"] for x in r["table"]})
    ways = list(dict.fromkeys((x["trainer"], x["chosen"]) for x in r["table"]))
    found = {(x["trainer"], x["chosen"], x["labels"]): x["recovered"] for x in r["table"]}
    rows = []
    for trainer, chosen in ways:
        needed = r["labels_needed"][f"{chosen}, {trainer} trainer"]
        shares = [found.get((trainer, chosen, n)) for n in counts]
        cells = ["" if share is None else f"{share:.0%}" for share in shares]
        rows.append((trainer, chosen, *cells, "more" if needed is None else str(needed)))
    wanted = f"needed for {r['settings']['wanted']:.0%}"
    heads = ("trainer", "labels chosen by", *(f"{n} labels" for n in counts), wanted)
    return markdown_table(heads, rows, right=range(2, len(heads)))


def rollout(r: dict[str, Any]) -> str:
    """Simulated roll-outs by kind of candidate."""
    rows = []
    for kind in ("equal", "worse by the margin", "bad"):
        for x in r[kind]:
            late = x["seconds from the first bad second"]
            exposed = x["exposed share"]
            rows.append(
                (
                    x["scenario"],
                    f"{x['roll-outs']:,}",
                    f"{x['rolled back']:,}",
                    f"{x['promoted']:,}",
                    "" if late is None else f"{late['median']:g}",
                    "" if late is None else f"{late['95 %']:g}",
                    "" if exposed is None else f"{exposed['largest']:.2%}",
                )
            )
    heads = ("candidate", "roll-outs", "taken back", "promoted", "seconds, median", "95 %", "largest share exposed")
    return markdown_table(heads, rows, right=(1, 2, 3, 4, 5, 6))


def rollback(r: dict[str, Any]) -> str:
    """Seconds of roll-backs by command."""
    rows = []
    for kind in ("kept in memory", "loaded again"):
        found = r[kind]
        answers = found["old version answers"]
        seconds = [f"{answers[name]:.2f} s" for name in ("p50_s", "p95_s", "largest_s")]
        rows.append((f"old version {kind}", *seconds, f"{found['requests']:,}", f"{found['failed']:,}"))
    heads = ("", "median", "95 %", "slowest", "requests meanwhile", "failed")
    return markdown_table(heads, rows, right=(1, 2, 3, 4, 5))


def gate_run(r: dict[str, Any]) -> str:
    """A gate with real packages."""
    g = r["gate"]
    return (
        f"{g['inputs']:,} inputs, {g['checks']} checks, report and all files: {g['besides_inference_s']:.1f} s besides "
        f"inference ({r['limit_s']:g} are promised)."
    )


def datasets(r: dict[str, Any]) -> str:
    """Snapshots, and label noise."""
    b = r["build"]
    rows = [
        (
            name.replace("_", " "),
            *(f"{statistics.mean(x[name][what] for x in r['suspects']):.2f}" for what in ("precision", "recall")),
        )
        for name in ("confident_learning", "with_neighbours")
    ]
    table = markdown_table(("wrong labels, found by", "precision", "recall"), rows, right=(1, 2))
    return f"{table}\n\nA snapshot of {b['rows']:,} rows: {b['cpu_s']:.1f} s of one core to build (10 are promised)."


def review_scale(r: dict[str, Any]) -> str:
    """The case list with very many cases."""
    rows = []
    for name, x in r.items():
        if name == "machine":
            continue
        for part, what in (
            ("lists", "a page of a list"),
            ("counts", "counts of a search"),
            ("pages", "a page in full"),
        ):
            slowest = sorted(((v["p95_ms"], k) for k, v in x[part].items()), reverse=True)[:2]
            shown = "; ".join(f"{k}: {ms:.0f}" for ms, k in slowest)
            rows.append((name, f"{what}, p95 of the slowest two, ms", shown, "150"))
        rows += [
            (name, "50,000 ids, s", f"{x['ids_50000']['seconds']:.2f}", "1"),
            (name, "export of 50,000 cases, JSON Lines, s", f"{x['export_50000_jsonl']['seconds']:.1f}", "5"),
            (name, "more like this, p95, ms", f"{x['like']['p95_ms']:.0f}", "50"),
        ]
    return markdown_table(("store", "what, with 1,000,000 cases", "measured", "promised, at most"), rows, right=(2, 3))


def review_queue(r: dict[str, Any]) -> str:
    """Acts of reviewers on a full store."""
    acts = (
        ("bulk_5000", "a bulk decision over 5,000 cases", "1,000"),
        ("undo_5000", "... undone", "1,000"),
        ("import_1000", "1,000 labels imported", "2,000"),
        ("decide_1", "one decision", ""),
        ("lease_10", "ten cases leased", ""),
    )
    rows = [
        (name, what, f"{x[key]['median_ms']:,.0f}", f"{x[key]['worst_ms']:,.0f}", promised)
        for name, x in r["databases"].items()
        for key, what, promised in acts
    ]
    heads = ("store", "what, with 1,000,000 cases", "median, ms", "worst, ms", "promised, at most")
    return markdown_table(heads, rows, right=(2, 3, 4))


def exchange(r: dict[str, Any]) -> str:
    """Files out and labels in, through the API."""
    stores = [name for name in r if name != "machine"]
    kinds = [key.removeprefix("export_").removesuffix("_s") for key in r[stores[0]] if key.startswith("export_")]
    rows = [(f"50,000 cases as {kind}", *(f"{r[s][f'export_{kind}_s']:.1f}" for s in stores), "5") for kind in kinds]
    rows.append(("1,000 labels imported", *(f"{r[s]['import_s']:.1f}" for s in stores), "2"))
    heads = ("seconds, with 1,000,000 cases", *stores, "promised, at most")
    return markdown_table(heads, rows, right=tuple(range(1, len(heads))))


def pages(r: dict[str, Any]) -> str:
    """What the console's pages take to paint."""
    slowest = sorted(((x["paint_ms"], path) for path, x in r["pages"].items()), reverse=True)
    heaviest = max((x["bytes"], path) for path, x in r["pages"].items())
    middle = slowest[len(slowest) // 2][0]
    rows = [
        ("first paint, the slowest three, ms", "; ".join(f"`{path}` {ms}" for ms, path in slowest[:3]), "300"),
        (f"... the middle one of {len(slowest)} pages, ms", str(middle), "300"),
        ("heaviest, kB without pictures", f"`{heaviest[1]}` {heaviest[0] / 1000:.0f}", "300"),
    ]
    return markdown_table(("pages of the console", "measured", "promised, at most"), rows, right=(1, 2))


def reviewers_hour(r: dict[str, Any]) -> str:
    """500 mixed cases to decisions, typed by a script."""
    words = {"groups": "groups and keys", "keys": "a key a case", "pages": "a page a case"}
    rows = []
    for name, x in r["ways"].items():
        late = x["next_case_ms"]
        rows.append(
            (
                words[name],
                f"{x['decided']:,}",
                f"{x['decisions_a_minute']:,.0f}",
                f"{x['modelled']['decisions_a_minute']:.0f}",
                f"{late['median']:.0f}" if late else "",
                f"{late['p95']:.0f}" if late else "",
            )
        )
    heads = ("way", "decided", "a minute, typed", "a minute, with thinking", "next case, median ms", "95 %")
    return markdown_table(heads, rows, right=(1, 2, 3, 4, 5))


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    make.__name__: make
    for make in (
        story,
        recovery,
        rollout,
        rollback,
        gate_run,
        datasets,
        review_scale,
        review_queue,
        exchange,
        pages,
        reviewers_hour,
    )
}
