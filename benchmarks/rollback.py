"""How long does `hardcase rollback MODEL` take? `python -m benchmarks.rollback [--quick]`, about two minutes.

From the moment the shell starts the command until a client, which asks all the time, is answered by the old version:
once with the old version kept in memory (the default for ten minutes after a promotion), and once where it has to be
loaded and proved again. Beside it: what the ten commonest commands take, in seconds and in processor seconds, and what
looking at the registry costs an idle server. The server is our stand-alone one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from export.registry import Registry
from serving.options import RuntimeOptions, ServingOptions
from tests.support import packages, wire
from tests.support.hardcase_process import clean_environment
from tests.support.server import infer_path, standalone
from tests.support.traffic import digits

RESULTS = ROOT / "benchmarks" / "results" / "rollback.json"
LIMIT_S = 1.0
IDLE_S = 5.0
COMMANDS = (
    "--help",
    "status",
    "doctor --help",
    "registry list",
    "registry history digits",
    "traffic status digits",
    "rollout status",
    "cases list",
    "alarms list",
    "rollback digits --help",
)


class Asking:
    """A client that asks all the time and remembers which version answered, and when.

    Args:
        addresses: Base URLs of the replicas, asked in turn.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._stop = threading.Event()
        self.last: dict[str, tuple[str, float]] = {}
        self.since: dict[tuple[str, str], float] = {}
        self.failed = self.asked = 0

    def _ask(self, address: str) -> None:
        import httpx

        headers, body = wire.request(digits())
        with httpx.Client(base_url=address, timeout=10) as client:
            while not self._stop.is_set():
                response = client.post(infer_path("digits"), content=body, headers=headers)
                now = time.monotonic()
                self.asked += 1
                if response.status_code != 200:
                    self.failed += 1
                    continue
                version = str(wire.answer(response.headers, response.content).version)
                if self.last.get(address, ("", 0.0))[0] != version:
                    self.since[address, version] = now
                self.last[address] = (version, now)
                time.sleep(0.005)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask until the block ends."""
        threads = [threading.Thread(target=self._ask, args=(a,), daemon=True) for a in self._addresses]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(15)

    def all_since(self, version: str, after: float, timeout_s: float = 60.0) -> float:
        """Seconds from `after` until the last replica answered with a version."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            seen = [self.last.get(a, ("", 0.0)) for a in self._addresses]
            if all(name == version and at > after for name, at in seen):
                return max(self.since[a, version] for a in self._addresses) - after
            time.sleep(0.002)
        raise TimeoutError(f"version {version} did not answer everywhere")


def measure(place: Path, registry: Registry, asking: Asking, times: int) -> dict[str, Any]:
    """Promote and roll back, so many times."""
    answered, returned = [], []
    for _ in range(times):
        begun = time.monotonic()
        registry.promote("digits", "2", author="benchmark")
        asking.all_since("2", begun)
        time.sleep(2.5)  # the version before is no longer among those that are about to go anyway
        begun = time.monotonic()
        command = _command(place, "rollback digits")
        answered.append(asking.all_since("1", begun))
        assert command.wait(60) == 0
        returned.append(time.monotonic() - begun)
    return {"old version answers": _spread(answered), "command has returned": _spread(returned)}


def _command(place: Path, line: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", *line.split()],
        cwd=place,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def commands(place: Path, times: int) -> dict[str, dict[str, float]]:
    """What commands take; the quickest of a few calls."""
    made = {}
    for line in COMMANDS:
        wall, cpu = [], []
        for _ in range(times):
            before, begun = os.times(), time.monotonic()
            _command(place, line).wait(60)
            after = os.times()
            wall.append(time.monotonic() - begun)
            cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
        made[line] = {"seconds": round(min(wall), 3), "processor_s": round(min(cpu), 3)}
    return made


def idle(pid: int) -> float:
    """Share of a processor that a process takes while nobody asks."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    time.sleep(IDLE_S)
    after = process.cpu_times()
    return round((after.user + after.system - before.user - before.system) / IDLE_S, 4)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "p50_s": round(statistics.median(values), 3),
        "p95_s": round(float(np.quantile(values, 0.95)), 3),
        "largest_s": round(max(values), 3),
        "all_s": [round(v, 3) for v in values],
    }


def run(times: int, calls: int) -> dict[str, Any]:
    """The whole measurement on the stand-alone server."""
    made: dict[str, Any] = {}
    for name, keep_s in (("kept in memory", 600.0), ("loaded again", 0.0)):
        with tempfile.TemporaryDirectory(prefix="hardcase-rollback-") as made_here:
            place = Path(made_here)
            registry = Registry(place / ".hardcase" / "registry")
            for version in ("1", "2"):
                registry.add(packages.digits_like_package(place, version=version, seed=int(version)).dir)
            registry.promote("digits", "1", author="benchmark")
            options = ServingOptions(
                registry="", records="", keep_previous_s=keep_s, runtime=RuntimeOptions(device="cpu")
            )
            with standalone(place / "server", registry.root, options=options) as server:
                (place / "hardcase.yaml").write_text(
                    f"serving: {{port: {server.port}, grpc_port: 0}}\nmonitor: {{port: 1}}\n"
                )
                if keep_s:
                    made["idle server, share of a processor"] = idle(server.pid)
                asking = Asking([server.url])
                with asking.running():
                    begun = time.monotonic()
                    asking.all_since("1", begun - 60.0)
                    made[name] = measure(place, registry, asking, times if keep_s else max(2, times // 3))
                made[name] |= {"requests": asking.asked, "failed": asking.failed}
                if keep_s and calls:
                    made["commands"] = commands(place, calls)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when the old version answers within a second in 95 of 100 and no request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 roll-backs, no commands; writes nothing")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    facts = machine_facts(ROOT)
    result = run(2, 0) if given.quick else run(10, 3)
    kept = result["kept in memory"]
    result["holds"] = kept["old version answers"]["p95_s"] <= LIMIT_S and not kept["failed"]
    print(json.dumps(result, indent=1))
    if not given.quick:
        given.out.write_text(json.dumps({"machine": facts, **result}, indent=1) + "\n", encoding="utf-8")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
