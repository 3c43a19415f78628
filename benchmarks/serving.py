"""Requests a second and latency: this service and its peers, one ONNX model, one machine, one run.

    python -m benchmarks.serving            about 25 minutes: 3 rounds of 8 s a cell
    python -m benchmarks.serving --quick    about 5 minutes: 1 round of 2 s a cell

Each round starts every server once, one after the other, never two at a time; rounds go through them in turn forwards
and backwards, so that slow drift of the machine falls on all alike. Before and after each load the server's answer is
compared with onnxruntime's own. `benchmarks.report` makes the tables; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks import report
from benchmarks.load import LoadFailed, run_wrk
from benchmarks.machine import machine_facts, packages_of
from benchmarks.model import BenchModel, engine_alone, make_registry
from benchmarks.payloads import Wire, make_payload, read_answer, write_scripts
from benchmarks.processes import ServerFailed, adopt_orphans
from benchmarks.starts import ROOT, Workplace, capture_account, python_of
from benchmarks.stored import store_result
from benchmarks.targets import Cell, Target, all_targets

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Control:
    """Knows the right answer, so that nothing is timed that answers wrongly."""

    model: BenchModel

    def right(self, url: str, wire: Wire) -> bool:
        """Positive control: the server's logits for the benchmark's request are onnxruntime's own."""
        payload = make_payload(wire, self.model.image)
        try:
            answer = httpx.post(url, content=payload.body, headers=payload.headers, timeout=10, trust_env=False)
        except httpx.TransportError:
            return False
        if answer.status_code != 200:
            return False
        logits = read_answer(wire, answer)
        return logits.shape == self.model.logits.shape and np.allclose(logits, self.model.logits, atol=TOLERANCE)


@dataclass(kw_only=True)
class Run:
    """One run's settings and what it has measured so far."""

    seconds: float
    warm_up_s: float
    rounds: int
    limit_s: float
    scratch: Path
    registry: Path
    model: BenchModel
    control: Control
    scripts: dict[Wire, Path]
    measurements: list[dict[str, object]] = field(default_factory=list)
    accounts: list[dict[str, object]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write `results/serving.json` and the tables; 1 when a server could not be measured."""
    options = _options(arguments)
    if options.compare_only:
        report.main([])
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are ended on the way out
    adopt_orphans()
    targets = [t for t in all_targets() if not options.only or t.key in options.only]
    with tempfile.TemporaryDirectory(prefix="hb", dir="/tmp") as name:
        scratch = Path(name)
        registry, model = make_registry(scratch / "model")
        run = Run(
            seconds=options.seconds or (2.0 if options.quick else 8.0),
            warm_up_s=options.warm_up or (1.0 if options.quick else 3.0),
            rounds=options.rounds or (1 if options.quick else 3),
            limit_s=options.minutes * 60,
            scratch=scratch,
            registry=registry,
            model=model,
            control=Control(model),
            scripts=write_scripts(scratch / "lua", model.image),
        )
        facts = machine_facts(ROOT)
        engine = {f"rows_per_s_batch_{n}": round(engine_alone(model, rows=n, seconds=1.0)) for n in (1, 64)}
        _say(f"onnxruntime alone, one core: {engine}")
        rounds = _measure(run, targets)
    results = {
        "schema_version": report.SCHEMA_VERSION,
        "machine": facts,
        "settings": {"seconds": run.seconds, "warm_up_s": run.warm_up_s, "rounds": rounds, "quick": options.quick},
        "engine": engine,
        "targets": {t.key: {"label": t.label, "versions": _versions(t)} for t in targets},
        "measurements": run.measurements,
        "capture": run.accounts,
        "failures": run.failures,
    }
    if store_result(results, "serving", asked=options.output, quick=options.quick) == RESULTS:
        report.main([])
    print(report.render(results))
    for key, reason in run.failures.items():
        _say(f"NOT MEASURED {key}: {reason}")
    return 1 if run.failures else 0


def _measure(run: Run, targets: list[Target]) -> int:
    """All rounds that fit into the time limit; returns how many were completed."""
    began = time.monotonic()
    longest = 0.0
    for number in range(run.rounds):
        if number and time.monotonic() - began + longest > run.limit_s:
            _say(f"stopped after {number} rounds: another would pass the limit of {run.limit_s / 60:g} minutes")
            return number
        round_began = time.monotonic()
        for target in targets if number % 2 == 0 else reversed(targets):
            if target.key not in run.failures:
                _measure_target(run, target, number)
        longest = max(longest, time.monotonic() - round_began)
    return run.rounds


def _measure_target(run: Run, target: Target, number: int) -> None:
    if not python_of(target.environment).exists():
        run.failures[target.key] = f"no environment '{target.environment}': run `make bench-peers`"
        return
    with tempfile.TemporaryDirectory(prefix="t", dir=run.scratch, ignore_cleanup_errors=True) as name:
        place = Workplace(folder=Path(name), registry=run.registry, model=run.model, right=run.control.right)
        try:
            with target.start(place) as addresses:
                for cell in target.cells:
                    _measure_cell(run, target, cell, addresses[cell.entry], number)
                if target.captures:
                    account = capture_account(addresses["direct"])
                    run.accounts.append({"target": target.key, "round": number, "records": account})
        except (ServerFailed, LoadFailed, httpx.HTTPError) as error:
            # The first line only: logs name folders of this machine. They are printed here.
            run.failures[target.key] = str(error).splitlines()[0].rstrip(":")
            _say(f"round {number + 1}  {target.key}: {error}")


def _measure_cell(run: Run, target: Target, cell: Cell, base_url: str, number: int) -> None:
    """Control, warm-up, measurement, control."""
    url, script = base_url + cell.path, run.scripts[cell.wire]
    if not run.control.right(url, cell.wire):
        raise LoadFailed(f"{cell.key}: the answer is not what onnxruntime computes")
    run_wrk(url, script, connections=cell.connections, duration_s=run.warm_up_s)
    result = run_wrk(url, script, connections=cell.connections, duration_s=run.seconds)
    if not run.control.right(url, cell.wire):
        raise LoadFailed(f"{cell.key}: after the load the answer is not what onnxruntime computes")
    run.measurements.append(
        {
            "target": target.key,
            "cell": cell.key,
            "round": number,
            "requests": result.requests,
            "requests_per_s": result.requests_per_s,
            "latency_us": {f"p{p}": value for p, value in result.latency_us.items()},
        }
    )
    _say(
        f"round {number + 1}  {target.key:<26} {cell.key:<26} {result.requests_per_s:>9,.0f} /s"
        f"   p50 {result.latency_us[50]:>9,.0f} µs   p99 {result.latency_us[99]:>9,.0f} µs"
    )


def _versions(target: Target) -> dict[str, str | None]:
    python = python_of(target.environment)
    return packages_of(python, target.distributions) if python.exists() else {}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1 round of 2 s a cell")
    parser.add_argument("--seconds", type=float, help="seconds a cell is measured")
    parser.add_argument("--warm-up", type=float, help="seconds of load before each measurement")
    parser.add_argument("--rounds", type=int, help="how often each server is started and measured")
    parser.add_argument("--minutes", type=float, default=45, help="begin no round that would end later than this")
    parser.add_argument("--only", nargs="+", choices=[t.key for t in all_targets()], help="only these servers")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    parser.add_argument("--compare-only", action="store_true", help="make the tables again from the stored results")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
