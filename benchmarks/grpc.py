"""gRPC: calls a second and latency of this service, stand-alone and through Ray, and of Triton's front end.

    python -m benchmarks.grpc            about 3 minutes: two rounds of 3 s for each number of streams
    python -m benchmarks.grpc --quick    about 1.5 minutes: one round of 1.5 s

One ONNX model, one digit a call, unary ModelInfer with raw contents, 1, 16 and 64 calls under way on at most 4
connections, every request of ours captured. The load generator (`benchmarks.grpc_load`) is one process that shares the
machine with the server. Before and after each load, grpcio's own client compares an answer with onnxruntime's.
Results: `results/grpc.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grpc_load import INFER
from benchmarks.machine import machine_facts, packages_of
from benchmarks.model import MODEL_NAME, BenchModel, make_registry
from benchmarks.processes import ServerFailed, adopt_orphans
from benchmarks.serving import Control
from benchmarks.starts import ROOT, Start, Workplace, ours_ray, ours_standalone, python_of, pytriton
from benchmarks.stored import store_result
from serving.grpc.messages import messages

STREAMS = (1, 16, 64)
TOLERANCE = 1e-3
PACKAGES = ("grpcio", "protobuf", "hpack", "uvloop", "onnxruntime-gpu", "ray", "numpy")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server.

    Attributes:
        environment: Name of the folder in `.venvs`; None is this project's own.
    """

    label: str
    start: Start
    environment: str | None = None


TARGETS = {
    "standalone": Target(
        label="Hardcase stand-alone, every request captured", start=ours_standalone(capture=True, grpc=True)
    ),
    "standalone_grpcio": Target(
        label="Hardcase stand-alone on grpcio's asyncio server",
        start=ours_standalone(capture=True, fast_lane=False, grpc=True),
    ),
    "ray": Target(label="Hardcase through Ray Serve's gRPC ingress (HAProxy)", start=ours_ray(capture=True)),
    "pytriton": Target(label="Triton's front end with PyTriton", start=pytriton, environment="pytriton"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results; 1 when a server could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=sorted(TARGETS), help="measure these; may be given often")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    adopt_orphans()
    seconds, rounds = (1.5, 1) if options.quick else (3.0, 2)
    measured: dict[str, Any] = {}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="hg", dir="/tmp") as name:
        scratch = Path(name)
        facts = machine_facts(ROOT, PACKAGES)
        registry, model = make_registry(scratch / "model")
        request = scratch / "request.bin"
        request.write_bytes(_request(model))
        for key in options.only or TARGETS:
            target = TARGETS[key]
            if not python_of(target.environment).exists():
                failures[key] = f"no environment '{target.environment}': run `make bench-peers`"
                continue
            folder = scratch / str(len(measured) + len(failures))
            folder.mkdir()
            place = Workplace(folder=folder, registry=registry, model=model, right=Control(model).right)
            try:
                with target.start(place) as addresses:
                    measured[key] = _measure(addresses["grpc"].removeprefix("grpc://"), request, model, seconds, rounds)
            except (ServerFailed, AssertionError, OSError) as error:
                failures[key] = str(error)[-500:]
            _say(f"{key}: {_short(measured[key]) if key in measured else failures[key]}")
    results = {
        "schema_version": 1,
        "machine": facts,
        "peers": {k: packages_of(python_of(t.environment), PACKAGES) for k, t in TARGETS.items() if t.environment},
        "settings": {"seconds": seconds, "rounds": rounds, "quick": options.quick, "streams": list(STREAMS)},
        "labels": {key: target.label for key, target in TARGETS.items()},
        "measurements": measured,
        "ratios": _ratios(measured),
        "failures": failures,
    }
    store_result(results, "grpc", asked=options.output, quick=options.quick)
    print(json.dumps(results["ratios"], indent=1))
    return 1 if failures else 0


def _request(model: BenchModel) -> bytes:
    message = messages().ModelInferRequest(model_name=MODEL_NAME)
    message.inputs.add(name="x", datatype="FP32", shape=model.image.shape)
    message.outputs.add(name="logits")
    message.raw_input_contents.append(model.image.tobytes())
    data: bytes = message.SerializeToString()
    return data


def _measure(address: str, request: Path, model: BenchModel, seconds: float, rounds: int) -> dict[str, Any]:
    """All cells of one server."""
    cells: dict[str, Any] = {}
    for number in range(rounds):
        for streams in STREAMS if number % 2 == 0 else reversed(STREAMS):
            with _right_around(address, request, model):
                command = [sys.executable, "-m", "benchmarks.grpc_load", address, "--request", str(request)]
                command += ["--streams", str(streams), "--seconds", str(seconds), "--warm-up", "0.7"]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
                result = json.loads(done.stdout)
            if result["failed"] or result["lost_connections"] or len(result["answer_bytes"]) != 1:
                raise AssertionError(f"{streams} streams: {result}")
            cells.setdefault(str(streams), []).append(result)
    return cells


@contextlib.contextmanager
def _right_around(address: str, request: Path, model: BenchModel) -> Iterator[None]:
    """Positive control before and after: the answer is onnxruntime's own."""
    _must_be_right(address, request, model)
    yield
    _must_be_right(address, request, model)


def _must_be_right(address: str, request: Path, model: BenchModel) -> None:
    import grpc

    deadline = time.monotonic() + 30
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(INFER.decode())
        while True:
            try:
                answer = messages().ModelInferResponse.FromString(call(request.read_bytes(), timeout=10))
                break
            except grpc.RpcError as error:  # HAProxy hears of a replica a moment after HTTP's side has
                if time.monotonic() > deadline:
                    raise AssertionError(f"no answer: {error.code()}") from None
                time.sleep(0.2)
    logits = np.frombuffer(answer.raw_output_contents[0], np.float32)
    assert np.allclose(logits, model.logits, atol=TOLERANCE), "the answer is wrong"


def _best(cells: dict[str, Any], streams: int) -> float:
    runs: list[dict[str, Any]] = cells[str(streams)]
    return sum(float(run["per_s"]) for run in runs) / len(runs)


def _ratios(measured: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Calls a second of one server over those of another, by streams."""
    pairs = (
        ("standalone", "pytriton"),
        ("ray", "pytriton"),
        ("ray", "standalone"),
        ("standalone", "standalone_grpcio"),
        ("ray", "standalone_grpcio"),
    )
    return {
        f"{one}/{other}": {str(n): round(_best(measured[one], n) / _best(measured[other], n), 3) for n in STREAMS}
        for one, other in pairs
        if one in measured and other in measured
    }


def _short(cells: dict[str, Any]) -> str:
    return ", ".join(f"{n} streams {_best(cells, n):.0f}/s" for n in STREAMS)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
