"""How long it takes to export cases to files and to import labels, through the API, with many cases in the store.

    python -m benchmarks.exchange [--quick] [--cases 1000000] [--only sqlite|postgresql]

Figures of the issue: 50,000 cases exported in at most 5 s, 1,000 labels imported in at most 2 s. Timed is what the
command does: asking a listening console, reading its lines, writing the files. Without inputs: pictures cost what they
cost to draw.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_facts
from deploy.exchange import export_cases, import_labels
from deploy.monitor_client import MonitorClient
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.exchange.contracts import Labelled, Truth
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client as connected
from tests.support.console_store import MemoryCatalogue, StillMonitor, manifest
from tests.support.postgres import postgres
from tests.support.review_cases import NAMES, fill

RESULTS = Path(__file__).parent / "results" / "exchange.json"
EXPORTED, LABELS = 50_000, 1000
FORMATS = ("jsonl", "csv", "coco", "cvat", "datumaro", "scalabel")


def run(url: str, folder: Path, cases: int) -> dict[str, Any]:
    """Seconds by what was done."""
    store = Store(url)
    fill(store, cases)
    reports = ReportService(ReportOptions(folder=folder / "reports"), lambda *_: None)  # type: ignore[arg-type,return-value]  # none is made
    catalogue = MemoryCatalogue(manifests=(manifest(version="1", classes=NAMES),), champion="1")
    app = build_console(store, catalogue, StillMonitor(), list, ConsoleOptions(), reports=reports)
    found: dict[str, Any] = {"cases": cases, "exported": min(cases, EXPORTED)}
    with connected(app) as http:
        client = MonitorClient("http://127.0.0.1", client=http)
        for name in FORMATS:
            started = time.perf_counter()
            done = export_cases(client, name, folder / name, model="digits", inputs="false")
            found[f"export_{name}_s"] = round(time.perf_counter() - started, 3)
            assert done.cases == found["exported"]
            print(f"  {name}: {found[f'export_{name}_s']} s for {done.cases} cases", flush=True)
        lines = (folder / "jsonl" / "cases.jsonl").read_text().splitlines()[:LABELS]
        ids = [json.loads(line)["case"] for line in lines]
        labels = [Labelled(case=c, truth=Truth(label=NAMES[i % 10]), where=str(i)) for i, c in enumerate(ids)]
        started = time.perf_counter()
        answer = import_labels(client, labels, source="benchmark", dry_run=False)
        found["import_s"] = round(time.perf_counter() - started, 3)
        found["imported"] = answer["changed"]
        print(f"  import: {found['import_s']} s for {answer['changed']} labels", flush=True)
    reports.close()
    store.close()
    return found


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """URL of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/monitor.db"
    else:
        with postgres() as server:
            yield server.url


def main() -> None:
    """Run, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 cases; writes no results")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    for kind in [asked.only] if asked.only else ["sqlite", "postgresql"]:
        print(kind, flush=True)
        with tempfile.TemporaryDirectory() as folder, database(kind, Path(folder)) as url:
            found[kind] = run(url, Path(folder), 5000 if asked.quick else asked.cases)
    if not asked.quick:
        RESULTS.write_text(json.dumps({"machine": machine_facts(RESULTS.parents[2]), **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
