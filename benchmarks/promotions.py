"""Does a promotion lose a request? `python -m benchmarks.promotions [--quick] [--out FILE]`, about three minutes.

F05: promotions and roll-backs in a row under mixed load (HTTP keep-alive, a new connection a request, gRPC) against our
stand-alone server, whose one process loads, proves, flips and unloads versions meanwhile. Counts failed requests (0 are
allowed), answers of a version that had been replaced before (0), and the server's resident memory after each flip,
once the version before it is gone. The result goes to `results/promotions.json`; the exit code says whether it held.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import psutil

from benchmarks.machine import machine_facts
from benchmarks.stored import store_result
from export.registry import Registry
from serving.options import RuntimeOptions, ServingOptions
from tests.support import packages
from tests.support.monotone import Clients, Way, steps_back
from tests.support.server import Server, standalone

ROOT = Path(__file__).resolve().parents[1]
MIX = {Way.KEEP_ALIVE: 8, Way.NEW_CONNECTION: 2, Way.GRPC: 4}
GROWTH_BYTES = 24 << 20  # after the first third; allocators settle, a version that stays would be more


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One change of champion.

    Attributes:
        seconds: From the plan's change until the server said that it follows it.
        rss_bytes: Of the server, with the version before it gone.
    """

    kind: str
    version: str
    seconds: float
    rss_bytes: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the run showed."""

    requests: int
    by_way: dict[str, int]
    seconds: float
    failed: int
    failures: list[str]
    steps_back: int
    stale_answers: int
    flips: list[Flip]
    growth_bytes: int

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, nothing went back, and nothing grew."""
        return not self.failed and not self.steps_back and not self.stale_answers and self.growth_bytes < GROWTH_BYTES


def measure(folder: Path, *, flips: int, requests: int, mix: dict[Way, int]) -> Outcome:
    """Flip versions under load.

    Args:
        folder: For the registry and the server.
        flips: How many, promotions and roll-backs in turn.
        requests: At least; the load goes on until they are sent.
        mix: Clients by way.
    """
    registry = Registry(folder / "registry")
    for version in ("1", "2", "3"):
        registry.add(packages.digits_like_package(folder, version=version, seed=int(version)).dir)
    registry.promote("digits", "1", author="benchmark")
    options = ServingOptions(
        registry="", records="", plan_poll_s=0.2, keep_previous_s=0.0, runtime=RuntimeOptions(device="cpu")
    )
    order, done, converged = ["1"], [], [(time.monotonic(), "1")]
    with standalone(folder / "server", registry.root, options=options) as server:
        clients = Clients([server.port], [server.grpc_port], mix)
        started = time.monotonic()
        with clients.running():
            _until(lambda: clients.requests > 10 * len(clients.clients), 60)
            for i in range(flips):
                promote = i % 2 == 0
                begun = time.monotonic()
                if promote:
                    version = "2" if order[-1] != "2" and i % 4 == 0 else "3"
                    plan = registry.promote("digits", version, author="benchmark")
                else:
                    plan = registry.rollback("digits", author="benchmark")
                order.append(plan.champion or "")
                _until(lambda r=plan.revision: _follows(server, r), 60)  # type: ignore[misc]
                flipped = time.monotonic()
                converged.append((flipped, order[-1]))
                sent = clients.requests
                _until(lambda: _alone(server), 30)
                _until(lambda n=sent: clients.requests - n >= requests / flips / 2, 60)  # type: ignore[misc]
                rss = psutil.Process(server.pid).memory_info().rss
                kind = "promote" if promote else "rollback"
                done.append(Flip(kind=kind, version=order[-1], seconds=round(flipped - begun, 3), rss_bytes=rss))
            _until(lambda: clients.requests >= requests, 240)
        seconds = time.monotonic() - started
    return Outcome(
        requests=clients.requests,
        by_way=clients.by_way(),
        seconds=round(seconds, 1),
        failed=sum(c.failed for c in clients.clients),
        failures=[text for c in clients.clients for text in c.failures][:10],
        steps_back=sum(steps_back([k for k, _ in groupby(r[0] for r in c.runs)], order) for c in clients.clients),
        stale_answers=_stale([run for c in clients.clients for run in c.runs], converged),
        flips=done,
        growth_bytes=_growth([f.rss_bytes for f in done]),
    )


def _stale(runs: Sequence[tuple[str, int, float, float]], converged: Sequence[tuple[float, str]]) -> int:
    """Runs of answers that a version went on giving after the server had said that another one answers."""
    late = 0
    for version, _, first, last in runs:
        for (at, now), following in zip(converged, [*converged[1:], (float("inf"), "")], strict=True):
            # a run that began before this flip and lasts a second into its time: not a request that was under way
            if first < at and last > at + 1.0 and version != now and last < following[0]:
                late += 1
    return late


def _growth(rss: Sequence[int]) -> int:
    """Resident memory at the end against after the first third, each the median of a few flips."""
    if len(rss) < 6:
        return 0
    third = len(rss) // 3
    return int(statistics.median(rss[-third:]) - statistics.median(rss[third : 2 * third]))


def _follows(server: Server, revision: int) -> bool:
    (model,) = server.get("/v2/repository/traffic")["models"]
    return bool(model["followed"] and model["revision"] == revision)


def _alone(server: Server) -> bool:
    """Whether the version before the flip is gone."""
    (model,) = server.get("/v2/repository/traffic")["models"]
    return len(model["versions"]) == 1


def _until(holds: object, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator] # a lambda with a default
        if time.monotonic() > deadline:
            raise TimeoutError("the load or the server did not get there in time")
        time.sleep(0.02)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when everything held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 flips, 2,000 requests")
    parser.add_argument("--out", type=Path, help="where the result is written; --quick alone writes none")
    given = parser.parse_args(arguments)
    facts = machine_facts(ROOT)
    flips, requests = (4, 2_000) if given.quick else (20, 100_000)
    with tempfile.TemporaryDirectory(prefix="hardcase-promotions-") as folder:
        outcome = measure(Path(folder), flips=flips, requests=requests, mix=MIX)
    result = {"machine": facts, "quick": given.quick, "holds": outcome.holds, **asdict(outcome)}
    store_result(result, "promotions", asked=given.out, quick=given.quick)
    print(
        f"{outcome.requests} requests, {outcome.failed} failed, {len(outcome.flips)} flips, "
        f"{outcome.steps_back + outcome.stale_answers} answers of a version that had gone, "
        f"memory {outcome.growth_bytes / 2**20:+.1f} MiB, slowest flip {max(f.seconds for f in outcome.flips):.1f} s"
    )
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
