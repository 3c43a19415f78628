"""Ours beside PyTriton in one report of `hardcase bench`: HTTP and gRPC, one model, one machine, one run.

    python -m benchmarks.loadtest_report            under 3 minutes
    python -m benchmarks.loadtest_report --quick    under 1 minute: two levels of load

One server runs at a time. Each serves the same ONNX file on one thread with batches of at most 64 rows, and must give
onnxruntime's own answer before it is measured. Results: `results/loadtest.json` and the page `results/loadtest.html`.
PyTriton needs `make bench-peers`; without it the report has our servers only, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.machine import machine_facts
from benchmarks.model import MODEL_NAME, make_registry
from benchmarks.processes import ServerFailed, adopt_orphans
from benchmarks.serving import Control
from benchmarks.starts import ROOT, Start, Workplace, ours_ray, ours_standalone, python_of, pytriton
from deploy.cli.context import console
from deploy.errors import CommandError
from deploy.loadtest.environment import environment_facts
from deploy.loadtest.measure import Stability
from deploy.loadtest.page import write_page
from deploy.loadtest.parsing import parse_goal, parse_target
from deploy.loadtest.report import make_report, write_json
from deploy.loadtest.results import Subject
from deploy.loadtest.session import Plan, run
from deploy.loadtest.table import Terminal, show

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """A server, and which of its addresses are loaded under which name.

    Attributes:
        entries: Name in the report by entry ("front", "grpc").
        environment: Folder in `.venvs`; None is this project's own.
    """

    start: Start
    entries: dict[str, str]
    environment: str | None = None


PEERS = (
    Peer(
        start=ours_standalone(capture=True, grpc=True),
        entries={"front": "Hardcase, HTTP", "grpc": "Hardcase, gRPC"},
    ),
    Peer(start=ours_ray(capture=True), entries={"front": "Hardcase in Ray Serve, HTTP"}),
    Peer(start=pytriton, entries={"front": "PyTriton, HTTP", "grpc": "PyTriton, gRPC"}, environment="pytriton"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 1 when a server could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loadtest_report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="two levels of load, short windows")
    parser.add_argument(
        "--output", type=Path, help="where the report goes, the page beside it; --quick alone writes none"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are ended on the way out
    adopt_orphans()
    plan = Plan(
        model=MODEL_NAME,
        levels=(1.0, 16.0) if options.quick else (1.0, 4.0, 16.0, 64.0),
        outputs=("logits",),
        window_s=0.5 if options.quick else 1.0,
        warm_up_s=0.5,
        stability=Stability(percentile=99.0, share=0.15, most=4 if options.quick else 5),
        goal=parse_goal("p99:20ms", "goal"),
    )
    environment = environment_facts() | {
        key: str(value) for key, value in machine_facts(ROOT).items() if key in ("git_commit", "git_dirty")
    }
    subjects: list[Subject] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hb", dir="/tmp", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        registry, model = make_registry(scratch / "model")
        for number, peer in enumerate(PEERS):
            if not python_of(peer.environment).exists():
                missing.append(f"{', '.join(peer.entries.values())}: run `make bench-peers`")
                continue
            place = Workplace(folder=scratch / str(number), registry=registry, model=model, right=Control(model).right)
            place.folder.mkdir()
            try:
                subjects += _measure(peer, place, plan)
            except (ServerFailed, CommandError) as error:
                missing.append(f"{', '.join(peer.entries.values())}: {str(error).splitlines()[0]}")
                print(error, file=sys.stderr)
    report = make_report(subjects, plan, environment)
    show(report, console())
    output = options.output or (None if options.quick else RESULTS / "loadtest.json")
    if output is not None:
        write_json(report, output)
        write_page(report, output.with_suffix(".html"))
    for text in missing:
        print(f"NOT MEASURED {text}", file=sys.stderr)
    return 1 if missing else 0


def _measure(peer: Peer, place: Workplace, plan: Plan) -> list[Subject]:
    """Start a server, load each of its entries, end it."""
    found: list[Subject] = []
    with peer.start(place) as addresses:
        for entry, name in peer.entries.items():
            target = replace(parse_target(addresses[entry], None), name=name)
            with Terminal(console(stderr=True), plan.stability.most) as terminal:
                subjects, interrupted = asyncio.run(run([target], plan, terminal))
            found += [replace(s, address=s.address.partition("//")[0] + "//loopback") for s in subjects]
            if interrupted:
                raise KeyboardInterrupt
    return found


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
