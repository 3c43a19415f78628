"""Ten times more than the server can do: `python -m benchmarks.overload [--quick]`, about two minutes.

A stand-alone server runs a model whose batch of eight takes 10 ms, as an accelerator's would (device `double`), so that
one process can send ten times what the model can do. Measured: what is answered meanwhile, how fast the rest is turned
away, how long it takes until everything is normal again, whether a key that floods touches another key, and whether
`Retry-After` is true. Then the small CPU model with wrk, from few connections to very many, where the event loop itself
is what is short.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvloop

from benchmarks.load import LoadFailed, parse_wrk
from benchmarks.machine import machine_facts
from benchmarks.model import BenchModel, make_registry
from benchmarks.open_loop import Lines, Samples, Stream, closed_loop, obedient, open_loop
from benchmarks.payloads import Payload, Wire, make_payload, write_scripts
from benchmarks.processes import adopt_orphans, free_port, server
from benchmarks.starts import OIP_PATH, ROOT
from benchmarks.stored import store_result

KEYS = ("flood", "modest")
_WINDOW_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _options(arguments)
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="hc-") as scratch:
        registry, model = make_registry(Path(scratch))
        result: dict[str, Any] = {
            "machine": machine_facts(ROOT),
            "settings": {k: str(v) for k, v in vars(options).items() if k != "output"},
        }
        with serving(Path(scratch) / "a", registry, _slow_options(options)) as (port, process):
            result["accelerator"] = uvloop.run(_accelerator(port, process, model, options))
        with serving(Path(scratch) / "b", registry, {}) as (port, _):
            result["tiny_model"] = _tiny(port, Path(scratch), model, options)
    store_result(result, "overload", asked=options.output, quick=options.quick)
    print(json.dumps({k: result[k] for k in ("accelerator", "tiny_model")}, indent=2))
    return 0


def _slow_options(options: argparse.Namespace) -> dict[str, Any]:
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in KEYS]
    return {
        "runtime": {"device": f"double:{options.batch_ms:g}ms"},
        "batch": {"max_rows": options.rows, "inline_below_us": 0},
        "queue": {"target_queue_ms": options.target_ms},
        "auth": {"keys": keys},
    }


@contextlib.contextmanager
def serving(folder: Path, registry: Path, options: dict[str, Any]) -> Iterator[tuple[int, psutil.Process]]:
    """A stand-alone server with these options; its port and its process."""
    folder.mkdir()
    port, ready = free_port(), folder / "ready"
    command = [sys.executable, "-m", "serving.standalone", "--registry", str(registry), "--port", str(port)]
    command += ["--records", str(folder / "records"), "--ready-file", str(ready), "--options-json", json.dumps(options)]
    with server(command, environment={"PYTHONPATH": str(ROOT)}, folder=folder, ready=ready.exists) as process:
        yield port, psutil.Process(process.pid)


def request_bytes(payload: Payload, key: str | None = None) -> bytes:
    """A whole request."""
    lines = [f"POST {OIP_PATH} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"Authorization: Bearer {key}"] if key is not None else []
    lines += [f"{name}: {value}" for name, value in payload.headers.items()]
    lines.append(f"Content-Length: {len(payload.body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload.body


async def _accelerator(
    port: int, process: psutil.Process, model: BenchModel, options: argparse.Namespace
) -> dict[str, Any]:
    payload = make_payload(Wire.OIP_BINARY, model.image)
    flood, modest = (request_bytes(payload, key) for key in KEYS)
    lines, others = Lines(port), Lines(port)
    await lines.open(options.connections)
    await others.open(64)
    seconds: float = options.seconds
    await closed_loop(lines, flood, 64, 1.0)  # warm
    closed = await closed_loop(lines, flood, 64, seconds)
    peak = len(closed.latencies(200)) / seconds
    (calm,) = await open_loop([Stream(lines=lines, request=flood, rate=peak / 2)], seconds)
    # the flood, and then at once a normal load: how soon is it normal again?
    cpu = process.cpu_times()
    overload, after = await _flood_and_after(lines, flood, peak, seconds)
    spent = process.cpu_times()
    goodput = overload.answered_in(1.0, seconds) / (seconds - 1.0)
    rates = [Stream(lines=lines, request=flood, rate=10 * peak), Stream(lines=others, request=modest, rate=0.3 * peak)]
    flooded, touched = await open_loop(rates, seconds)
    await lines.settled()
    await asyncio.sleep(2.0)
    turned, again, told = await obedient(
        lines, flood, min(options.connections, int(4 * peak * options.target_ms / 1e3))
    )
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {KEYS[0]}"}).text
    lines.close()
    others.close()
    return {
        "peak_per_s": round(peak, 1),
        "calm_p99_ms": percentile_ms(calm.latencies(200), 99),
        "sent_per_s": round(len(overload.status) / seconds, 1),
        "sent_over_peak": round(len(overload.status) / seconds / peak, 2),
        "generator_backlog": overload.backlog,
        "goodput_per_s": round(goodput, 1),
        "goodput_over_peak": round(goodput / peak, 4),
        "answered_p99_ms": percentile_ms(overload.latencies(200), 99),
        "shed": len(overload.latencies(503)),
        "shed_p50_ms": percentile_ms(overload.latencies(503), 50),
        "shed_p99_ms": percentile_ms(overload.latencies(503), 99),
        "server_cpu_us_a_request": round(
            1e6 * (spent.user + spent.system - cpu.user - cpu.system) / (len(overload.status) + len(after.status)), 1
        ),
        "other_statuses": sum(status not in (200, 503) for status in overload.status),
        "normal_again_after_s": _recovered_after_s(after, percentile_ms(calm.latencies(200), 99)),
        "fairness": {
            "modest_sent": len(touched.status),
            "modest_refused": len(touched.latencies(503)),
            "modest_p99_ms": percentile_ms(touched.latencies(200), 99),
            "flood_goodput_per_s": round(flooded.answered_in(1.0, seconds) / (seconds - 1.0), 1),
            "batch_ms": options.batch_ms,
        },
        "retry_after": {
            "turned_away": turned,
            "turned_away_again": again,
            "told_s": [told[0], told[-1]] if told else [],
        },
        "shed_by_reason": {
            line.split('reason="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
            for line in metrics.splitlines()
            if line.startswith("hardcase_shed_requests_total{")
        },
    }


async def _flood_and_after(lines: Lines, request: bytes, peak: float, seconds: float) -> tuple[Samples, Samples]:
    (overload,) = await open_loop([Stream(lines=lines, request=request, rate=10 * peak)], seconds, patience_s=0.0)
    (after,) = await open_loop([Stream(lines=lines, request=request, rate=peak / 2)], 6.0)
    return overload, after


def _recovered_after_s(after: Samples, calm_p99_ms: float | None) -> float | None:
    """End of the last half second with a refusal, or with a p99 over twice the calm one; None when there is no end."""
    last, limit_ms = 0.0, 2 * (calm_p99_ms or 0.0)
    windows = int(6.0 / _WINDOW_S)
    for window in range(windows):
        begin, end = window * _WINDOW_S, (window + 1) * _WINDOW_S
        p99 = percentile_ms(after.latencies(200, begin, end), 99)
        if after.latencies(503, begin, end) or p99 is None or p99 > limit_ms:
            last = end
    return last if last < windows * _WINDOW_S else None


def _tiny(port: int, scratch: Path, model: BenchModel, options: argparse.Namespace) -> dict[str, Any]:
    """The CPU model under more and more connections, each with one request in flight."""
    import subprocess

    script = write_scripts(scratch, model.image)[Wire.OIP_BINARY]
    found: dict[str, Any] = {}
    for connections in (64, 640, 4000):
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(2, int(options.seconds))}s",
            "--timeout",
            "10s",
            "--latency",
        ]
        done = subprocess.run(
            [*command, "-s", str(script), f"http://127.0.0.1:{port}{OIP_PATH}"],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            result = parse_wrk(done.stdout)
        except LoadFailed as error:
            found[str(connections)] = {"failed": str(error)[-300:]}
            continue
        good = (result.requests - result.bad_statuses) / result.duration_s
        found[str(connections)] = {
            "goodput_per_s": round(good, 1),
            "refused": result.bad_statuses,
            "socket_errors": result.socket_errors,
            "p99_ms": round(result.latency_us[99] / 1e3, 2),
        }
    return found


def percentile_ms(latencies_s: Sequence[float], percent: int) -> float | None:
    """A percentile of sorted latencies, in milliseconds; None when there are none."""
    if not latencies_s:
        return None
    return round(1e3 * latencies_s[min(len(latencies_s) - 1, len(latencies_s) * percent // 100)], 2)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description="ten times too much")
    parser.add_argument("--batch-ms", type=float, default=10.0, help="time of a batch")
    parser.add_argument("--rows", type=int, default=8, help="rows of the largest batch")
    parser.add_argument("--target-ms", type=float, default=200.0, help="serving.queue.target_queue_ms")
    parser.add_argument("--connections", type=int, default=1500)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    parser.add_argument("--quick", action="store_true", help="phases of three seconds: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds = 3.0
    return options


if __name__ == "__main__":
    sys.exit(main())
