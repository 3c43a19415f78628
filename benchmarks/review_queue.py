"""How long the acts of reviewers take on a full store: lease, decide, bulk and undo over 5,000 cases, importing labels.

    python -m benchmarks.review_queue [--quick] [--cases 1000000] [--only sqlite|postgresql]

Figures of the issue: a bulk decision over 5,000 cases in at most 1 s, undone in at most 1 s; 1,000 labels imported in
at most 2 s; all with 1,000,000 cases in the store. What is timed is the ledger's call, which has committed when it
returns; the loop settles windows afterwards, in pieces (timed as `settle`, in records a second).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.machine import machine_facts
from monitoring import schema as t
from monitoring.cycle import make_loop
from monitoring.options import MonitorOptions
from monitoring.review.asked import Decision, ImportedLabel, Selection
from monitoring.review.contracts import Verdict
from monitoring.review.deciding import Bulk
from monitoring.review.ledger import Ledger
from monitoring.review.settle import A_TURN, settle_due
from monitoring.store import Store
from tests.support.monitor_world import MemoryCatalogue, manifest
from tests.support.postgres import postgres
from tests.support.review_cases import fill

RESULTS = Path(__file__).parent / "results" / "review_queue.json"
BULK = 5000
LABELS = 1000
RECORDED = 5 * BULK


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and worst, in ms."""
    ordered = sorted(seconds)
    return {
        "median_ms": round(1000 * statistics.median(ordered), 2),
        "p95_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        "worst_ms": round(1000 * ordered[-1], 2),
    }


def measure(store: Store, cases: int, repeats: int) -> dict[str, Any]:
    """One store with so many cases; those that are acted on have their records."""
    filling, ids = timed(lambda: fill(store, RECORDED, records=True) + fill(store, cases - RECORDED, first=RECORDED))
    with store.write() as connection:
        connection.exec_driver_sql("ANALYZE")
    ledger = Ledger(store)
    out: dict[str, Any] = {"cases": cases, "fill_s": round(filling, 1)}
    bulk, undo, redo = [], [], []
    for i in range(repeats):
        chosen = tuple(ids[i * BULK : (i + 1) * BULK])
        asked = Bulk(selection=Selection(cases=chosen), verdict=Verdict.CORRECT)
        took, done = timed(lambda asked=asked, i=i: ledger.bulk("ann", f"bulk {i}", asked))
        assert done.changed == BULK, done
        bulk.append(took)
        took, undone = timed(lambda done=done, i=i: ledger.undo("ann", f"undo {i}", done.act))
        assert undone.changed == BULK, undone
        undo.append(took)
        took, again = timed(lambda undone=undone, i=i: ledger.undo("ann", f"redo {i}", undone.act))
        assert again.changed == BULK
        redo.append(took)
    out |= {"bulk_5000": spread(bulk), "undo_5000": spread(undo), "redo_5000": spread(redo)}
    whole = Bulk(selection=Selection(filter={"model": "digits", "min_p_wrong": 0.895}), verdict=Verdict.DISMISS)
    took, seen = timed(lambda: ledger.preview("ann", whole))
    out["preview_by_filter"] = {"cases": seen.count, "ms": round(1000 * took, 1)}
    imports = []
    for i in range(repeats):
        first = cases - (i + 1) * LABELS
        items = [ImportedLabel(case=x, label="two", reviewer="ann@tool") for x in ids[first : first + LABELS]]
        took, made = timed(lambda items=items, i=i: ledger.import_labels("studio", f"import {i}", items, "benchmark"))
        assert made[0].changed == LABELS
        imports.append(took)
    out["import_1000"] = spread(imports)
    leases, decides = [], []
    for i in range(100):
        took, got = timed(lambda: ledger.lease("bob", 10))
        leases.append(took)
        one = [Decision(case=got.cases[0], verdict=Verdict.CORRECT, edition=None)]
        took, _ = timed(lambda one=one, i=i: ledger.decide("bob", f"one {i}", one))
        decides.append(took)
    return out | {"lease_10": spread(leases), "decide_1": spread(decides)}


def settle_rate(store: Store, folder: Path) -> dict[str, Any]:
    """How fast the loop makes truth of what was decided: a few turns of its duty."""
    options = MonitorOptions(records_root=folder / "records", database_url="sqlite:///unused", state_dir=folder)
    loop = make_loop(options, store, MemoryCatalogue((manifest(),)))
    turns = []
    for _ in range(10):
        with store.write() as connection:
            took, more = timed(lambda connection=connection: settle_due(connection, loop.ingest))
        turns.append(took)
        if not more:
            break
    with store.read() as connection:
        left = connection.scalar(sa.select(sa.func.count()).select_from(t.settle_due))
    return {"turn": spread(turns), "records_a_second": round(A_TURN / statistics.median(turns)), "left": left}


@contextmanager
def databases(only: str | None) -> Iterator[dict[str, str]]:
    """URLs of an empty SQLite file and of an empty PostgreSQL database."""
    with tempfile.TemporaryDirectory() as folder:
        urls = {"sqlite": f"sqlite:///{folder}/monitor.db"}
        if only == "sqlite":
            yield urls
            return
        with postgres() as server:
            yield {} | ({} if only == "postgresql" else urls) | {"postgresql": server.database("review")}


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="30,000 cases; nothing is written")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    given = parser.parse_args()
    cases, repeats = (30_000, 2) if given.quick else (given.cases, 5)
    found: dict[str, Any] = {}
    with databases(given.only) as urls, tempfile.TemporaryDirectory() as folder:
        for name, url in urls.items():
            store = Store(url)
            found[name] = measure(store, cases, repeats) | {"settle": settle_rate(store, Path(folder))}
            store.close()
            print(json.dumps({name: found[name]}, indent=1), flush=True)
    if not given.quick:
        made = {"machine": machine_facts(RESULTS.parents[2]), "databases": found}
        RESULTS.write_text(json.dumps(made, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
