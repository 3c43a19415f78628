"""Faults of a Ray cluster under load, each many times: `python -m benchmarks.ray_faults [--quick] [--only NAME]`.

Two replicas behind HAProxy, four clients on kept connections and two that open one for every request. What the clients
saw, and how long it took until everything was whole again. All of it takes about ten minutes on a quiet machine of two
cores: `kill` (30 times, four to five minutes) and `head` (one minute of traffic without a head) are most of that; each
by itself with `--only`. Results go to `benchmarks/results/ray_faults.json`; what `--only` measures replaces its part.

| name | fault | limit |
|---|---|---|
| kill | SIGKILL to a replica at a random moment | no failed request; whole again in 10 s |
| stop | SIGSTOP to a replica | out of rotation in 3 s; no failed request |
| haproxy | SIGKILL to HAProxy | answers again in 2 s; only requests under way fail |
| manager | SIGKILL to the actor that runs HAProxy | as `haproxy` |
| controller | SIGKILL to Serve's controller | no failed request |
| roll | settings change, every replica is replaced | no failed request |
| head | SIGKILL to the head's GCS, for good | no failed request for 60 s |
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_facts
from export.registry import Registry
from serving.options import RuntimeOptions, ServingOptions
from tests.support import ray_faults as faults
from tests.support.packages import digits_like_package
from tests.support.ray_cluster import RayServing, ray_serving
from tests.support.ray_faults import Outcome

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ray_faults.json"
HEADLESS_S = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, and what must hold of it.

    Attributes:
        run: Does it once.
        times: How often.
        failed_ms: Requests may only fail within this time after the fault; 0 means none may.
        gap_s, seen_s, whole_s: Limits of the figures of the same name.
    """

    run: Callable[[RayServing], Outcome]
    times: int
    failed_ms: float = 0.0
    gap_s: float | None = None
    seen_s: float | None = None
    whole_s: float | None = None


def headless(cluster: RayServing, seconds: float = HEADLESS_S) -> Outcome:
    """The head is gone for good: GCS and the controller with it."""
    with faults.clients(cluster) as traffic:
        traffic[0].wait_for(50)
        (head,) = cluster.named("gcs_server")
        (controller,) = cluster.named("ray::ServeController")
        fault_at = time.monotonic()
        controller.kill()
        head.kill()
        time.sleep(seconds)
        assert not faults.is_alive(head)
    return faults.outcome_of(traffic, fault_at, time.monotonic() - fault_at)


def all_faults(*, quick: bool) -> dict[str, Fault]:
    """By name; the head last, because nothing follows it."""
    few = 1 if quick else 3
    return {
        "kill": Fault(run=lambda c: faults.signal_replica(c, faults.KILL), times=2 if quick else 30, whole_s=10.0),
        "stop": Fault(run=lambda c: faults.signal_replica(c, faults.STOP), times=few, seen_s=3.0),
        "haproxy": Fault(run=lambda c: faults.kill_process(c, "haproxy"), times=few, failed_ms=2000, gap_s=2.0),
        "manager": Fault(
            run=lambda c: faults.kill_process(c, "ray::HAProxyManager"), times=few, failed_ms=2000, gap_s=2.0
        ),
        "controller": Fault(run=lambda c: faults.kill_process(c, "ray::ServeController"), times=few),
        "roll": Fault(run=faults.roll, times=few),
        "head": Fault(run=lambda c: headless(c, 10.0 if quick else HEADLESS_S), times=1),
    }


def breaches(fault: Fault, outcomes: list[Outcome]) -> list[str]:
    """What does not hold, in words."""
    found = []
    lost = [text for o in outcomes for after_s, text in o.failed if after_s * 1000 > fault.failed_ms or after_s < 0]
    if lost:
        found.append(f"{len(lost)} requests failed that should not have, such as: {lost[0]}")
    for name in ("gap_s", "seen_s", "whole_s"):
        limit = getattr(fault, name)
        worst = max(((getattr(o, name) or 0.0) for o in outcomes), default=0.0)
        if limit is not None and worst > limit:
            found.append(f"{name} was {worst:.2f}, the limit is {limit}")
    return found


def summary(fault: Fault, outcomes: list[Outcome]) -> dict[str, Any]:
    """The figures of one fault."""

    def figures(values: list[float]) -> dict[str, float]:
        return {"median": round(statistics.median(values), 3), "worst": round(max(values), 3)}

    seen = [o.seen_s for o in outcomes if o.seen_s is not None]
    return {
        "times": len(outcomes),
        "requests": sum(o.sent for o in outcomes),
        "failed": sum(len(o.failed) for o in outcomes),
        "failed_until_s": max((after for o in outcomes for after, _ in o.failed), default=0.0),
        "slowest_s": figures([o.slowest_s for o in outcomes]),
        "gap_s": figures([o.gap_s for o in outcomes]),
        **({"seen_s": figures(seen)} if seen else {}),
        "whole_s": figures([o.whole_s for o in outcomes]),
        "breaches": breaches(fault, outcomes),
    }


def main(argv: list[str] | None = None) -> int:
    """The command line. Exit status 1 when a limit is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_faults", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="each once or twice; writes nothing unless --out is given")
    parser.add_argument("--only", action="append", default=[], choices=sorted(all_faults(quick=True)))
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the cluster must not outlive us
    chosen = {n: f for n, f in all_faults(quick=arguments.quick).items() if not arguments.only or n in arguments.only}
    facts = machine_facts(ROOT)
    done: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hcf-") as name:
        folder = Path(name)
        registry = Registry(folder / "registry")
        registry.add(digits_like_package(folder).dir)
        registry.promote("digits", "1", author="benchmark")
        options = ServingOptions(registry="", records="", plan_poll_s=0.5, runtime=RuntimeOptions(device="cpu"))
        with ray_serving(folder / "ray", registry.root, replicas=2, options=options) as cluster:
            for fault_name, fault in chosen.items():
                outcomes = []
                for index in range(fault.times):
                    outcomes.append(fault.run(cluster))
                    last = outcomes[-1]
                    print(
                        f"{fault_name} {index + 1}/{fault.times}: {last.sent} requests, {len(last.failed)} failed, "
                        f"whole after {last.whole_s:.1f} s {last.failed[:2] or ''}",
                        flush=True,
                    )
                done[fault_name] = summary(fault, outcomes)
    out = arguments.out or (None if arguments.quick else RESULTS)
    if out is not None:
        before = json.loads(out.read_text())["faults"] if arguments.only and out.exists() else {}
        out.write_text(json.dumps({"machine": facts, "faults": before | done}, indent=2) + "\n")
    print(json.dumps(done, indent=2))
    return 1 if any(part["breaches"] for part in done.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
