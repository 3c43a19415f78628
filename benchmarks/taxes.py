"""What each thing that watches requests costs: `python -m benchmarks.taxes [--quick]`, about two and a half minutes.

Our stand-alone server runs once without any counters, histograms, capture, log or trace, and once with each of them
alone. The variants are loaded in turn, in short rounds that are interleaved, so that what the machine does meanwhile
hits all alike. Two figures a variant: throughput, and processor time of the server a request; each as the median over
the rounds of the ratio to the bare server in the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.load import run_wrk
from benchmarks.machine import machine_facts
from benchmarks.model import make_registry
from benchmarks.payloads import Wire, write_scripts
from benchmarks.processes import adopt_orphans, free_port, server
from benchmarks.serving import Control
from benchmarks.starts import OIP_PATH, PEERS, ROOT
from benchmarks.stored import store_result

BARE = "nothing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A server: its options beside the common ones, and whether it counts at all."""

    options: Mapping[str, object] = field(default_factory=dict)
    bare: bool = False
    capture: bool = False


def variants(scratch: Path) -> dict[str, Variant]:
    """By name; the first is what all others are compared with."""
    tracing = {"endpoint": "http://127.0.0.1:9/v1/traces", "sample": 0.01}
    return {
        BARE: Variant(bare=True),
        "counters and histograms": Variant(),
        "and access log": Variant(options={"access_log": {"folder": str(scratch / "access")}}),
        "and traces of 1 %": Variant(options={"tracing": tracing}),
        "and capture": Variant(capture=True),
    }


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of one variant."""

    requests_per_s: float
    cpu_us: float


@contextlib.contextmanager
def running(variant: Variant, scratch: Path, registry: Path, control: Control) -> Iterator[tuple[str, psutil.Process]]:
    """A server of one variant: the URL that takes requests, and its process."""
    scratch.mkdir()
    port = free_port()
    command = [sys.executable, *([str(PEERS / "ours_bare.py")] if variant.bare else ["-m", "serving.standalone"])]
    command += ["--registry", str(registry), "--records", str(scratch / "records"), "--port", str(port)]
    command += ["--options-json", json.dumps(dict(variant.options)), *([] if variant.capture else ["--no-capture"])]
    url = f"http://127.0.0.1:{port}{OIP_PATH}"
    environment = {"PYTHONPATH": str(ROOT)}
    ready = lambda: control.right(url, Wire.OIP_BINARY)  # noqa: E731 - a question without a name
    with server(command, environment=environment, folder=scratch, ready=ready) as process:
        yield url, psutil.Process(process.pid)


def measure(url: str, process: psutil.Process, script: Path, connections: int, seconds: float) -> Measured:
    """Load a server for one round."""
    before = process.cpu_times()
    load = run_wrk(url, script, connections=connections, duration_s=seconds)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return Measured(load.requests_per_s, spent / load.requests * 1e6)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    adopt_orphans()
    rounds: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="hb", dir="/tmp", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        registry, model = make_registry(scratch / "model")
        script = write_scripts(scratch / "lua", model.image)[Wire.OIP_BINARY]
        control = Control(model)
        with contextlib.ExitStack() as stack:
            servers = {
                name: stack.enter_context(running(variant, scratch / str(place), registry, control))
                for place, (name, variant) in enumerate(variants(scratch).items())
            }
            for url, process in servers.values():
                measure(url, process, script, options.connections, 1)  # warm
            for number in range(options.rounds):
                for name, (url, process) in servers.items():
                    found = measure(url, process, script, options.connections, options.seconds)
                    rounds.setdefault(name, []).append(found)
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    rows = [summary(name, found, rounds[BARE]) for name, found in rounds.items()]
    for row in rows:
        print("{name:26} {requests_per_s:>9,.0f}/s  x{throughput:.3f}   {cpu_us:6.2f} us  x{cpu:.3f}".format(**row))
    result = {
        "machine": machine_facts(ROOT),
        "settings": {"rounds": options.rounds, "seconds": options.seconds, "connections": options.connections},
        "rows": rows,
    }
    store_result(result, "taxes", asked=options.output, quick=options.quick)
    return 0


def summary(name: str, found: Sequence[Measured], bare: Sequence[Measured]) -> dict[str, str | float]:
    """One row: medians, and medians of the ratios round by round.

    Example:
        >>> summary("b", [Measured(90, 11)], [Measured(100, 10)])["throughput"]
        0.9
    """
    return {
        "name": name,
        "requests_per_s": round(statistics.median(m.requests_per_s for m in found), 1),
        "cpu_us": round(statistics.median(m.cpu_us for m in found), 3),
        "throughput": round(
            statistics.median(m.requests_per_s / b.requests_per_s for m, b in zip(found, bare, strict=True)), 4
        ),
        "cpu": round(statistics.median(m.cpu_us / b.cpu_us for m, b in zip(found, bare, strict=True)), 4),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.taxes", description="what watching requests costs")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round of one variant")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="two rounds of a second: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = 2, 1.0
    return options


if __name__ == "__main__":
    sys.exit(main())
