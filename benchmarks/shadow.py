"""What does a shadow cost the champion's clients? `python -m benchmarks.shadow [--quick]`, about two minutes.

One stand-alone server; its traffic plan is switched between no challenger and a shadow of every request, in short
rounds that are interleaved, so that what the machine does meanwhile hits both alike. Each round is loaded by wrk with
one connection, and the figure is the champion's p99 with the shadow against without it: at most 1.1 when a core is free
(two cores: one for the server's loop and wrk, which take turns at one connection, and one for the shadow).
Two models: one so small that it runs on the event loop, and one of a few milliseconds that runs on a thread. The result
goes to `results/shadow.json`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from onnx import helper

from benchmarks.load import run_wrk
from benchmarks.machine import machine_facts
from benchmarks.payloads import Wire, write_scripts
from benchmarks.stored import store_result
from export.contracts.traffic import ChallengerMode
from export.package import Package
from export.registry import Registry
from serving.options import RuntimeOptions, ServingOptions
from tests.support import packages
from tests.support.server import Server, standalone

ROOT = Path(__file__).resolve().parents[1]
BOUND = 1.10
WIDTHS = {"small": 0, "large": 3072}  # hidden units of the second layer; 0: none


@dataclass(frozen=True, kw_only=True)
class Round:
    """One load. Latencies in microseconds; `cpu_us` is the server's processor time a request, the shadow's included."""

    model: str
    shadow: bool
    p50_us: float
    p99_us: float
    requests_per_s: float
    cpu_us: float


def make_package(folder: Path, version: str, width: int) -> Package:
    """A digits-like package; `width` makes it as heavy as wanted."""
    seed = int(version)
    if not width:
        return packages.digits_like_package(folder, version=version, seed=seed)
    rng = np.random.default_rng(seed)
    sizes = (64, width, width, 64)
    weights = {
        f"w{i}": (rng.normal(size=pair) / np.sqrt(pair[0])).astype(np.float32) for i, pair in enumerate(pairwise(sizes))
    }
    weights["w3"] = rng.normal(0, 0.4, (64, 10)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["h0"], axis=1)]
    names = ["h0", "h1", "h2", "embedding", "logits"]
    nodes += [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(4)]
    model = packages.make_model(packages.DIGITS_SIGNATURE, nodes, weights)
    return packages.package_model(
        folder, model, packages.DIGITS_SIGNATURE, name="digits", version=version, task=packages.DIGITS_TASK
    )


def measure(folder: Path, model: str, *, rounds: int, seconds: float) -> tuple[list[Round], dict[str, Any]]:
    """Rounds of one model, and what the last shadow saw."""
    registry = Registry(folder / "registry")
    for version in ("1", "2"):
        registry.add(make_package(folder, version, WIDTHS[model]).dir)
    registry.promote("digits", "1", author="benchmark")
    script = write_scripts(folder, np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32))[Wire.OIP_BINARY]
    options = ServingOptions(registry="", records="", plan_poll_s=0.1, runtime=RuntimeOptions(device="cpu"))
    done: list[Round] = []
    seen: dict[str, Any] = {}
    with standalone(folder / "server", registry.root, options=options) as server:
        process = psutil.Process(server.pid)
        url = f"{server.url}/v2/models/digits/infer"
        registry.pin("digits", "2", author="benchmark")  # loaded all the time: only what it does differs
        for index in range(2 * rounds + 2):
            shadow = index % 2 == 1
            plan = (
                registry.challenge("digits", "2", ChallengerMode.SHADOW, author="benchmark")
                if shadow
                else registry.withdraw("digits", author="benchmark")
            )
            _until_followed(server, plan.revision)
            before = process.cpu_times()
            load = run_wrk(url, script, connections=1, duration_s=seconds if index >= 2 else 1)
            after = process.cpu_times()
            spent = after.user + after.system - before.user - before.system
            if index >= 2:  # the first pair warms up
                latency = load.latency_us
                done.append(
                    Round(
                        model=model,
                        shadow=shadow,
                        p50_us=latency[50],
                        p99_us=latency[99],
                        requests_per_s=round(load.requests_per_s, 1),
                        cpu_us=round(spent / load.requests * 1e6, 1),
                    )
                )
            if shadow:
                seen = server.get("/v2/repository/traffic")["models"][0]["challenger"]
    return done, seen


def summary(rounds: Sequence[Round]) -> dict[str, float]:
    """Ratios with the shadow against without it: of medians over the rounds."""

    def median(shadow: bool, name: str) -> float:
        return statistics.median(getattr(r, name) for r in rounds if r.shadow is shadow)

    names = ("p50_us", "p99_us", "requests_per_s", "cpu_us")
    return {name: round(median(True, name) / median(False, name), 4) for name in names}


def _until_followed(server: Server, revision: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        (model,) = server.get("/v2/repository/traffic")["models"]
        if model["followed"] and model["revision"] == revision:
            return
        time.sleep(0.05)
    raise TimeoutError("the server does not follow the plan")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when the bound holds for both models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of one second a model")
    parser.add_argument("--out", type=Path, help="where the result is written; --quick alone writes none")
    given = parser.parse_args(arguments)
    facts = machine_facts(ROOT)
    rounds, seconds = (1, 1.0) if given.quick else (5, 4.0)
    models: dict[str, Any] = {}
    for model in WIDTHS:
        with tempfile.TemporaryDirectory(prefix="hardcase-shadow-") as folder:
            done, seen = measure(Path(folder), model, rounds=rounds, seconds=seconds)
        ratios = summary(done)
        models[model] = {"ratios": ratios, "rounds": [asdict(r) for r in done], "last_shadow": seen}
        compared, offered = seen["shadow"].get("compared", 0), sum(seen["shadow"].values())
        print(
            f"{model}: with a shadow p99 x {ratios['p99_us']:.3f}, p50 x {ratios['p50_us']:.3f}, "
            f"throughput x {ratios['requests_per_s']:.3f}, processor time x {ratios['cpu_us']:.3f}; "
            f"{compared} of {offered} requests compared"
        )
    holds = all(m["ratios"]["p99_us"] <= BOUND for m in models.values())
    result = {"machine": facts, "quick": given.quick, "bound": BOUND, "holds": holds, "models": models}
    store_result(result, "shadow", asked=given.out, quick=given.quick)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
