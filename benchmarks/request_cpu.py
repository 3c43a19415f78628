"""Processor time of one request inside the server, by what watches it: `python -m benchmarks.request_cpu [--quick]`.

No sockets and no load generator: whole request bodies go through `DataPlane.accept` on this process's own loop, 64, 8
or 1 at a time. What is counted is the processor time of the whole process, user and system, with the threads that
write records, log lines and spans, by `time.process_time`; so the figures mean something on a machine that others use
as well. The variants take turns in short rounds; a figure is the median over the rounds, and a cost the median over
the rounds of the difference to the bare plane in the same round. How many requests a batch has over HTTP depends on
how many clients there are, and how much of the machine they take.

It takes about a minute. `benchmarks.taxes` measures the same over HTTP, and needs a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks.machine import machine_facts
from benchmarks.model import MODEL_NAME
from benchmarks.payloads import Wire, make_payload
from benchmarks.stored import store_result
from export.contracts.errors import HardcaseError
from export.package import Package
from monitoring.records.record import CaptureOptions
from monitoring.records.writer import RecordLogWriter
from serving.access_log import AccessLog
from serving.auth import Authenticator
from serving.call import Call
from serving.dataplane import DataPlane
from serving.entry import Entry
from serving.observers import Observer
from serving.options import AccessLogOptions, ServingOptions, TracingOptions
from serving.runtime.loader import load_runtime
from serving.served import ServedModel, VersionEntry, VersionState
from serving.tracing import Tracer
from serving.version import LoadedVersion
from tests.support.packages import digits_like_package

ROOT = Path(__file__).resolve().parents[1]
BARE = "nothing more"
_COLLECTOR = """
import http.server
class Taken(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Taken)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Pool:
    """One model that is there from the start."""

    def __init__(self) -> None:
        self.models: dict[str, ServedModel[LoadedVersion]] = {}


class Sink:
    """Takes answers, and lets a waiter go on when the batch is whole."""

    def __init__(self) -> None:
        self.left = 0
        self.failed = 0
        self.done: asyncio.Future[None] | None = None

    def expect(self, count: int) -> asyncio.Future[None]:
        """From now on, this many answers are awaited."""
        self.left, self.done = count, asyncio.get_running_loop().create_future()
        return self.done

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        """Called by the data plane."""
        self.left -= 1
        if not self.left and self.done is not None:
            self.done.set_result(None)

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        """Called by the data plane."""
        self.failed += 1
        self.answer(entry, b"", b"")


class Plane:
    """A data plane around a network of the demo's size, with some things that watch."""

    def __init__(self, folder: Path, package: Package, *, capture: bool, observers: Sequence[Observer]) -> None:
        options = ServingOptions(registry="", records="", capture=CaptureOptions() if capture else None)
        self.writer = RecordLogWriter(folder, "bench", CaptureOptions()) if capture else None
        self.observers = observers
        self.version = LoadedVersion(
            package=package,
            runtime=load_runtime(package.dir, package.manifest, options.runtime),
            options=options,
            writer=self.writer,
            inline=True,
            batch_us=400.0,
            observers=observers,
        )
        served: ServedModel[LoadedVersion] = ServedModel(MODEL_NAME)
        entry: VersionEntry[LoadedVersion] = VersionEntry("1", 1)
        entry.loaded, entry.state = self.version, VersionState.READY
        served.entries["1"], served.champion = entry, self.version
        pool = Pool()
        pool.models[MODEL_NAME] = served
        self.data = DataPlane(
            pool=pool,  # type: ignore[arg-type]  # what the data plane asks of a pool
            options=options,
            auth=Authenticator(options.auth),
            writer=self.writer,
            observers=observers,
        )

    def close(self) -> None:
        """Write out, and let go."""
        self.version.close()
        for observer in self.observers:
            observer.close()  # type: ignore[attr-defined]
        if self.writer is not None:
            self.writer.close()


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """A process that takes spans: its URL."""
    process = subprocess.Popen([sys.executable, "-c", _COLLECTOR], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def spent_us(plane: Plane, call: Call, body: bytes, batch: int, batches: int) -> float:
    """Processor microseconds of one request."""
    sink, accept = Sink(), plane.data.accept
    begun = time.process_time_ns()
    for _ in range(batches):
        whole = sink.expect(batch)
        for _ in range(batch):
            accept(call, body, sink)
        await whole
    await asyncio.sleep(0.15)  # the threads' share of it
    if sink.failed:
        raise SystemExit(f"{sink.failed} requests failed")
    return (time.process_time_ns() - begun) / 1000 / (batch * batches)


async def measure(folder: Path, package: Package, options: argparse.Namespace) -> dict[str, Any]:
    """All variants in turn, by batch size."""
    payload = make_payload(Wire.OIP_BINARY, np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32))
    length = next((v for k, v in payload.headers.items() if k.lower() == "inference-header-content-length"), None)
    call = Call(model=MODEL_NAME, header_length=length.encode() if length is not None else None)
    rows = []
    with collector() as url, contextlib.ExitStack() as stack:

        def plane(name: str, *observers: Observer, capture: bool = False) -> Plane:
            made = Plane(folder / name, package, capture=capture, observers=observers)
            stack.callback(made.close)
            return made

        planes = {
            BARE: plane("bare"),
            "access log": plane("log", AccessLog(AccessLogOptions(folder=str(folder / "access")), "bench")),
            "traces of 1 %": plane("traces", Tracer(TracingOptions(endpoint=url, sample=0.01), "bench")),
            "capture": plane("capture", capture=True),
        }
        for batch, batches in ((64, options.batches), (8, options.batches * 4), (1, options.batches * 16)):
            found: dict[str, list[float]] = {name: [] for name in planes}
            for number in range(options.rounds + 1):
                for name, one in planes.items():
                    gc.collect()
                    spent = await spent_us(one, call, payload.body, batch, batches)
                    if number:  # the first warms up
                        found[name].append(spent)
            bare = found[BARE]
            for name, values in found.items():
                more = [value - other for value, other in zip(values, bare, strict=True)]
                row = {
                    "name": name,
                    "batch": batch,
                    "us": statistics.median(values),
                    "more_us": statistics.median(more),
                }
                rows.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
                print("batch {batch:>3}  {name:16} {us:7.2f} us  +{more_us:6.2f} us".format(**row), flush=True)
    return {"rows": rows}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.request_cpu", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="three short rounds: does it run?")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=60, help="of 64 requests, in one round of one variant")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.batches = 3, 20
    with tempfile.TemporaryDirectory(prefix="hb", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        rows = uvloop.run(measure(folder, digits_like_package(folder, name=MODEL_NAME), options))
    facts = {"machine": machine_facts(ROOT), "settings": {"rounds": options.rounds, "batches": options.batches}}
    store_result(facts | rows, "request_cpu", asked=options.output, quick=options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
