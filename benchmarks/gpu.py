"""An accelerator through the service against the bare loop of the same runtime. Runs on a machine with only torch.

    python -m benchmarks.gpu                      a CUDA device, about 6 minutes
    python -m benchmarks.gpu --quick              3 networks, shorter: about 2 minutes
    python -m benchmarks.gpu --precision bf16     the same in BF16 (ONNX where the provider has the kernels)
    python -m benchmarks.gpu --device cpu --quick in miniature, without a GPU (also --device double:5ms)

For each network (ResNet-50, ViT-B/16, BERT-base shapes, random weights, FP16 on CUDA by default) and runtime:
- bare: the loop that one would write (page-locked copy in, model, copy out, wait); on CUDA the computing time, too;
- runtime: our runtime as serving drives it (lanes, graphs), without HTTP: torch and numpy are all it needs;
- http: closed loop against the stand-alone server, then Poisson arrivals at half of the bare loop's rows a second.
  Needs the service's own dependencies; where one is missing the result says which, and the rest is measured.
Figures: http / bare >= 0.85 for ResNet-50; p99 at half load <= 2 x the computing time of a largest batch.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import bare
from benchmarks.machine import machine_facts
from benchmarks.networks import Network, make_module, networks, write_onnx, write_torchscript
from benchmarks.pressure import Plan, drive_from
from benchmarks.stored import store_result
from export.contracts.errors import HardcaseError
from export.contracts.manifest import Manifest, Provenance, RuntimeFile, RuntimeKind, Task, TaskKind
from serving.options import BatchOptions, Limits, Precision, RuntimeOptions, ServingOptions
from serving.runtime.base import Described, Runtime
from serving.runtime.loader import load_runtime

ROOT = Path(__file__).resolve().parents[1]
SCHEMA_VERSION = 1
PACKAGES = ("torch", "numpy", "onnxruntime", "onnxruntime-gpu", "uvicorn", "httptools", "uvloop", "msgspec", "orjson")
TORCH_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is measured, and for how long.

    Attributes:
        device: As in `runtime.device`.
        torch_device: What torch calls the device that computes.
        batch: Rows of the largest batch.
        seconds: Of each measurement.
        processes: Load generators.
        http: Measure through HTTP, too.
        rounds: Bare loop and runtime alternate this often.
        precision: Of weights and arithmetic, one of `TORCH_NAMES`.
    """

    device: str
    torch_device: str
    batch: int
    seconds: float
    processes: int
    http: bool
    rounds: int
    scratch: Path
    precision: str

    @property
    def cuda(self) -> bool:
        """Whether a GPU computes."""
        return self.torch_device.startswith("cuda")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the results."""
    options = _options(arguments)
    import torch

    device = options.device or ("cuda:0" if torch.cuda.is_available() else "")
    if not device:
        print("no CUDA device: name one with --device, or try --device cpu or --device double:5ms", file=sys.stderr)
        return 2
    cuda = device.startswith("cuda")
    facts: Result = {**machine_facts(ROOT, PACKAGES), "device": device}
    if cuda:
        facts["gpu"] = torch.cuda.get_device_name(torch.device(device))
        facts["cuda"] = torch.version.cuda
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="hg") as scratch:
        run = Run(
            device=device,
            torch_device=device if cuda else "cpu",
            batch=options.batch or (64 if cuda else 8),
            seconds=options.seconds or ((2.0 if options.quick else 6.0) if cuda else 0.5),
            processes=options.processes or (6 if cuda else 1),
            http=not options.no_http,
            rounds=1 if options.quick or not cuda else 3,
            scratch=Path(scratch),
            precision=options.precision or ("fp16" if cuda else "fp32"),
        )
        chosen = [n for n in networks(small=not cuda) if not options.only or n.name in options.only]
        for network in chosen:
            for kind in options.runtimes.split(","):
                results.append(_measure(run, network, RuntimeKind(kind)))
                print(_line(results[-1]), flush=True)
    settings = asdict(replace(run, scratch=Path())) | {"quick": options.quick}
    del settings["scratch"]
    document = {"schema_version": SCHEMA_VERSION, "machine": facts, "settings": settings, "results": results}
    store_result(document, "gpu", asked=options.output, quick=options.quick or not cuda)
    return 0


def _measure(run: Run, network: Network, kind: RuntimeKind) -> Result:
    """One network with one runtime; what cannot be measured here is said."""
    import torch

    folder = run.scratch / f"{network.name}-{kind.value}"
    folder.mkdir()
    dtype = getattr(torch, TORCH_NAMES[run.precision])
    result: Result = {"network": network.name, "runtime": kind.value, "batch": run.batch}
    result["precision"] = str(dtype).removeprefix("torch.")
    try:
        where = torch.device(run.torch_device)
        module = make_module(network, dtype, where)
        path = folder / ("model.pt" if kind is RuntimeKind.TORCHSCRIPT else "model.onnx")
        (write_torchscript if kind is RuntimeKind.TORCHSCRIPT else write_onnx)(network, module, where, path)
        del module
        runtime = load_runtime(folder, _manifest(network, kind, path, run), _runtime_options(run))
    except (HardcaseError, ImportError, RuntimeError) as error:  # another runtime may do; the reason is a result, too
        result["not_measured"] = f"{type(error).__name__}: {str(error)[:200]}"
        return result
    batch = network.rows(run.batch)
    try:
        _compare(run, result, path, kind, runtime, batch)
    finally:
        runtime.close()
    if run.http:
        result["http"] = _through_http(run, result, network, kind, path, folder)
    return result


def _compare(run: Run, result: Result, path: Path, kind: RuntimeKind, runtime: Runtime, batch: bare.Array) -> None:
    """The bare loop and our runtime in turn, so that drift of the machine falls on both."""
    loops: dict[str, list[bare.Loop]] = {"bare": [], "ours": []}
    for _ in range(run.rounds):
        if run.device.startswith("double"):
            loops["bare"].append(bare.bare_serial(runtime, batch, run.seconds))
        elif kind is RuntimeKind.TORCHSCRIPT:
            loops["bare"].append(bare.bare_torch(path, batch, run.torch_device, run.seconds))
        else:
            loops["bare"].append(bare.bare_onnx(path, batch, run.torch_device, run.seconds))
        loops["ours"].append(bare.overlapped(runtime, batch, run.seconds))
    ratios = [ours.rows_per_s / plain.rows_per_s for plain, ours in zip(loops["bare"], loops["ours"], strict=True)]
    for name, measured in loops.items():
        middle = sorted(measured, key=lambda loop: loop.rows_per_s)[len(measured) // 2]
        result["bare" if name == "bare" else "lanes"] = asdict(middle)
    result["lanes"]["of_bare"] = sorted(ratios)[len(ratios) // 2]
    result["facts"] = runtime.facts if isinstance(runtime, Described) else {}
    if run.cuda and kind is RuntimeKind.TORCHSCRIPT:
        result["compute_ms"] = bare.compute_ms(path, batch, min(2.0, run.seconds))


def _through_http(run: Run, result: Result, network: Network, kind: RuntimeKind, path: Path, folder: Path) -> Result:
    """Closed loop, then half of the bare loop's load at Poisson times."""
    from benchmarks.alone import make_registry, missing_for_http, stand_alone, write_request

    if (missing := missing_for_http()) is not None:
        return {"not_measured": f"the stand-alone server does not start here: {missing}"}
    registry = make_registry(folder, path, kind, network.signature, run.batch)
    per_request = max(1, run.batch // 8)
    request = write_request(folder / "request", network.signature, network.rows(per_request))
    options = ServingOptions(
        registry=str(registry),
        records=str(folder / "records"),
        capture=None,
        limits=Limits(timeout_s=30.0),
        batch=BatchOptions(max_rows=run.batch, queue_rows=run.batch * 16),
        runtime=_runtime_options(run),
    )
    with stand_alone(folder / "server", options) as port:
        connections = 3 * run.batch // per_request
        plan = Plan(port=port, request=str(request), connections=connections, seconds=run.seconds)
        closed = drive_from(run.processes, plan)
        rate = 0.5 * result["bare"]["rows_per_s"] / per_request
        half = drive_from(run.processes, replace(plan, rate=rate, connections=4 * connections))
    rows_per_s = closed.per_s * per_request
    compute_ms = result.get("compute_ms", result["bare"]["batch_ms"])
    return {
        "rows_a_request": per_request,
        "connections": connections,
        "rows_per_s": rows_per_s,
        "of_bare": rows_per_s / result["bare"]["rows_per_s"],
        "latency_ms": {str(p): closed.percentile(p) for p in (50, 99)},
        "failures": closed.failures,
        "half_load": {
            "requests_per_s": half.per_s,
            "wanted_per_s": rate,
            "latency_ms": {str(p): half.percentile(p) for p in (50, 99)},
            "p99_of_compute": half.percentile(99) / compute_ms,
            "failures": half.failures,
        },
    }


def _runtime_options(run: Run) -> RuntimeOptions:
    return RuntimeOptions(
        device=run.device, precision=Precision.AS_EXPORTED, intra_op_threads=1, load_timeout_s=300.0, load_attempts=1
    )


def _manifest(network: Network, kind: RuntimeKind, path: Path, run: Run) -> Manifest:
    return Manifest(
        name=network.name,
        version="1",
        task=Task(kind=TaskKind.OTHER),
        signature=network.signature,
        runtimes=(RuntimeFile(kind=kind, path=path.name),),
        files=(),  # nothing is admitted here: the file was made a moment ago
        provenance=Provenance(created_at="2026-01-01T00:00:00Z", source="benchmark"),
        max_batch_rows=run.batch,
    )


def _line(result: Result) -> str:
    """A result in one line."""
    head = f"{result['network']:<10} {result['runtime']:<12} batch {result['batch']:>3}"
    if "not_measured" in result:
        return f"{head}  not measured: {result['not_measured']}"
    plain, ours, http = result["bare"], result["lanes"], result.get("http", {})
    text = f"{head}  bare {plain['rows_per_s']:,.0f} rows/s ({plain['batch_ms']:.2f} ms)"
    text += f"  lanes {ours['rows_per_s']:,.0f} ({ours['of_bare']:.2f})"
    if "rows_per_s" in http:
        half = http["half_load"]
        text += f"  http {http['rows_per_s']:,.0f} ({http['of_bare']:.2f})"
        text += f"  p99 at half load {half['latency_ms']['99']:.1f} ms ({half['p99_of_compute']:.1f} x compute)"
        failures = {**http["failures"], **half["failures"]}
        text += f"  FAILURES {failures}" if failures else ""
    elif http:
        text += f"  http {http['not_measured']}"
    return text


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="", help="cuda:N, cpu or double:MSms; default: the first CUDA device")
    parser.add_argument("--quick", action="store_true", help="one round, shorter")
    parser.add_argument("--only", nargs="*", help="names of networks")
    parser.add_argument("--runtimes", default="torchscript", help="torchscript, onnx, or both with a comma")
    parser.add_argument("--precision", choices=TORCH_NAMES, help="of weights and arithmetic; default: fp16 on CUDA")
    parser.add_argument("--batch", type=int, help="rows of the largest batch")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--processes", type=int, help="load generators")
    parser.add_argument("--no-http", action="store_true", help="only the runtime")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
