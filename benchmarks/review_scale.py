"""Lists, search, files and neighbours over a million cases: `python -m benchmarks.review_scale [--quick] [--postgres]`.

A real monitor process on its own SQLite file (or, with `--postgres`, a PostgreSQL server of its own) that
`benchmarks.review_world` filled; each question is asked over HTTP `--times` times, one after the other. About two
minutes to fill and one to ask, for each database; `--quick` has 20,000 cases and takes seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.machine import machine_facts
from benchmarks.review_world import SLICE, build
from benchmarks.starts import ROOT
from monitoring.options import MonitorOptions, RetentionOptions
from monitoring.store import Store

RESULTS = ROOT / "benchmarks" / "results" / "review_scale.json"
LIMIT_MS, NEIGHBOURS_MS = 150.0, 50.0
SORTS = ("rank", "queue", "time", "oldest", "unsure", "decided")
FILTERS = {
    "nothing": "",
    "model": "model=model0",
    "version": "model=model0&version=1",
    "class": "class=seven",
    "state": "state=open",
    "reason": "reason=audit",
    "time": "from=2026-03-01T00:00:00Z&to=2026-03-08T00:00:00Z",
    "score": "min_score=0.9",
    "slice": f"slice={SLICE}",
    "tag": "tag=door-3",
    "assignee": "assignee=chloe",
    "label": "label=7",
    "record": "record=req-000077",
    "rare text": "q=req-00012345",
    "usual text": "q=req-",
    "comment": "q=smudged",
    "nowhere": "q=zzzzzz",
    "many at once": "q=model:model1 class:3 score:0.2..0.6 tag:night is:open -assignee:ben after:2026-03-01 parcel",
}


class NoPackages:
    """A registry with nothing in it."""

    def models(self) -> tuple[str, ...]:
        """None."""
        return ()

    def versions(self, model: str) -> tuple[str, ...]:
        """None."""
        return ()

    def manifest(self, model: str, version: str) -> None:
        """None."""

    def reference_dir(self, model: str, version: str) -> None:
        """None."""

    def plan(self, model: str) -> None:
        """None."""


def serve(url: str, folder: Path) -> None:
    """The monitor process that is asked; prints its port."""
    from monitoring.server import serve_monitor

    (folder / "records").mkdir(parents=True, exist_ok=True)
    # The default keeps 50,000 cases: the loop would delete the others while they are asked for.
    keep = RetentionOptions(case_rows=100_000_000, record_rows=100_000_000)
    options = MonitorOptions(
        records_root=folder / "records", state_dir=folder, database_url=url, port=0, retention=keep
    )
    serve_monitor(options, NoPackages(), list, on_ready=lambda port: print(port, flush=True))


Times = Callable[[Callable[[], Any], int], dict[str, float]]


def stopwatch(servers: Sequence[int]) -> Times:
    """What times a question.

    Args:
        servers: Processes that do the work, with their children: their processor time is told beside the time that
            passed, for it is the same on a machine on which other programs run.
    """

    def worked_ms() -> float:
        total = 0.0
        for server in map(psutil.Process, servers):
            for process in (server, *server.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += sum(process.cpu_times()[:4])
        return total * 1000

    def times_ms(ask: Callable[[], Any], times: int) -> dict[str, float]:
        """Median, 95th percentile, processor time of a question in ms; the first time is left out."""
        ask()
        taken, before = [], worked_ms()
        for _ in range(times):
            started = time.perf_counter()
            ask()
            taken.append((time.perf_counter() - started) * 1000)
        worked = (worked_ms() - before) / times
        p50, p95 = np.percentile(taken, [50, 95]).round(1).tolist()
        return {"p50_ms": p50, "p95_ms": p95, "processor_ms": round(worked, 1)}

    return times_ms


def once_s(ask: Callable[[], httpx.Response]) -> dict[str, float]:
    """Seconds and bytes of one large answer."""
    started = time.perf_counter()
    size = len(ask().content)
    return {"seconds": round(time.perf_counter() - started, 2), "bytes": size}


def ask_all(client: httpx.Client, times: int, times_ms: Times) -> dict[str, Any]:
    """Every question."""

    def get(path: str) -> httpx.Response:
        answer = client.get(path)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")
        return answer

    made: dict[str, Any] = {"lists": {}, "counts": {}, "pages": {}}
    started = time.perf_counter()
    get("/api/cases/count")
    made["first_question_s"] = round(time.perf_counter() - started, 2)
    for name, query in FILTERS.items():
        for sort in SORTS if name in ("nothing", "model") else ("rank", "time"):
            made["lists"][f"{name}, {sort}"] = times_ms(lambda q=query, s=sort: get(f"/api/cases?{q}&order={s}"), times)
        made["counts"][name] = times_ms(lambda q=query: get(f"/api/cases/count?{q}"), times)
    made["counts"]["facets"] = times_ms(lambda: get("/api/cases/facets"), times)
    made["counts"]["facets of a model"] = times_ms(lambda: get("/api/cases/facets?model=model0&state=open"), times)
    deep = get("/api/cases/ids?order=time&limit=50000").json()["next"]
    if deep:
        made["lists"]["page 1000 of time"] = times_ms(lambda: get(f"/api/cases?order=time&cursor={deep}"), times)
    for name in ("nothing", "model", "state", "comment"):
        made["pages"][f"/cases, {name}"] = times_ms(lambda n=name: get(f"/cases?{FILTERS[n]}"), times)
    for path in ("/", "/review", "/slices", "/alarms"):
        made["pages"][path] = times_ms(lambda p=path: get(p), max(3, times // 3))
    page = get("/cases").content
    made["page_bytes"] = len(page) + sum(
        len(get(f"/static/{n}").content) for n in ("console.css", "console.js", "cases.css", "cases.js", "api.js")
    )
    made["ids_50000"] = once_s(lambda: get("/api/cases/ids"))
    made["export_50000_jsonl"] = once_s(lambda: get("/api/cases/export?format=jsonl"))
    made["export_50000_csv"] = once_s(lambda: get("/api/cases/export?format=csv"))
    some = [case["id"] for case in get("/api/cases?model=model0&version=1&limit=100").json()["cases"]]
    for name, of in (("like", "records"), ("like_cases", "cases")):
        started = time.perf_counter()
        get(f"/api/cases/{some[0]}/neighbours?k=24&of={of}")
        made[f"first_{name}_s"] = round(time.perf_counter() - started, 2)
        turn = iter(some * 100)
        made[name] = times_ms(lambda t=turn, o=of: get(f"/api/cases/{next(t)}/neighbours?k=24&of={o}"), times * 2)
    made["cases_at_the_end"] = get("/api/cases/count").json()["count"]
    return made


def measure(url: str, cases: int, times: int, database: Sequence[int] = ()) -> dict[str, Any]:
    """Fill, serve, ask.

    Args:
        url: Of an empty database.
        cases: How many there shall be.
        times: How often each question is asked.
        database: Process of the database's server, where there is one.
    """
    store = Store(url)
    filled = build(store, cases)
    store.close()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = [sys.executable, "-m", "benchmarks.review_scale", "--serve", url, "--folder", folder]
        child = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        stack.callback(child.terminate)
        assert child.stdout is not None
        port = int(child.stdout.readline())
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120) as client:
            made = {
                "cases": cases,
                "filled_s": round(filled, 1),
                **ask_all(client, times, stopwatch([child.pid, *database])),
            }
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
            made["memory_mib"] = next(int(x.split()[1]) // 1024 for x in status.splitlines() if x.startswith("VmRSS"))
    worst = max((v["p95_ms"], k) for part in ("lists", "counts", "pages") for k, v in made[part].items())
    if not made["cases_at_the_end"] >= cases:
        raise RuntimeError(f"of {cases:,} cases {made['cases_at_the_end']:,} are left")
    made["worst"] = {"what": worst[1], "p95_ms": worst[0]}
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review_scale", description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="20,000 cases: does it run?")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL server instead of SQLite")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve, options.folder)
        return 0
    cases, times = (20_000, 5) if options.quick else (options.cases, options.times)
    database: list[int] = []
    with ExitStack() as stack:
        if options.postgres:
            from tests.support.postgres import postgres

            server = stack.enter_context(postgres())
            url = server.database("scale")
            database.append(int((server.folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0]))
        else:
            url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/m.db"
        made = measure(url, cases, times, database)
    print(json.dumps(made, indent=1))
    kept = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    kept["machine"] = machine_facts(ROOT, ("sqlalchemy", "psycopg", "numpy", "fastapi"))
    kept["postgresql" if options.postgres else "sqlite"] = made
    if not options.quick:
        options.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0 if made["worst"]["p95_ms"] <= LIMIT_MS and made["like"]["p95_ms"] <= NEIGHBOURS_MS else 1


if __name__ == "__main__":
    sys.exit(main())
