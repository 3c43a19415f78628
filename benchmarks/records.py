"""What capture costs and how fast the log is read: `python benchmarks/records.py --json out.json`.

One process plays the event loop: it offers batches of an 8x8 image, 10 logits and a 64-d embedding at a given rate
(or as fast as it goes), counts each request in its slot, and measures the CPU time of the loop's thread and of the
writer's threads apart. Then the log is read back and decoded by one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from export.contracts.datatypes import Datatype
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import CaptureOptions, Durability, Outcome, RecordBatch, RecordSchema, Rows, TensorColumn
from monitoring.records.writer import RecordLogWriter

SCHEMA = RecordSchema(
    "digits",
    "1",
    "sha256:0",
    (TensorColumn("image", Datatype.FP32),),
    (TensorColumn("logits", Datatype.FP32), TensorColumn("embedding", Datatype.FP32)),
)


def machine() -> dict[str, Any]:
    """Facts of the machine that a figure depends on."""
    info = Path("/proc/cpuinfo").read_text()
    names = {line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")}
    return {
        "cpu": sorted(names),
        "cores": info.count("processor\t"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "load_average_before": Path("/proc/loadavg").read_text().split()[:3],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def maker(size: int) -> Callable[[int], RecordBatch]:
    """A function that makes the batch with a number; arrays are made once, as an arena's views would be."""
    rng = np.random.default_rng(0)
    image = rng.random((size, 1, 8, 8), np.float32)
    logits, embedding = rng.random((size, 10), np.float32), rng.random((size, 64), np.float32)
    inputs = (Rows(image, (1, 8, 8), 256),)
    outputs = (Rows(logits, (10,), 40), Rows(embedding, (64,), 256))
    queue, total = [40_000] * size, [180_000] * size
    nbytes = size * (256 + 40 + 256)

    def make(number: int) -> RecordBatch:
        now = time.time_ns()
        return RecordBatch(
            schema=SCHEMA,
            ids=[b"%024x" % (number * size + k) for k in range(size)],
            time_ns=[now] * size,
            variant="champion",
            outcome=Outcome.OK,
            queue_ns=queue,
            total_ns=total,
            compute_ns=120_000,
            inputs=inputs,
            outputs=outputs,
            nbytes=nbytes,
        )

    return make


def write(root: Path, *, records: int, batch: int, rate: float, durability: Durability) -> dict[str, Any]:
    """Offer `records` at `rate` a second (0: as fast as it goes, waiting only when the buffer fills)."""
    writer = RecordLogWriter(root, "bench", CaptureOptions(durability=durability, segment_bytes=64 << 20))
    make, slot = maker(batch), writer.slot("digits", "1")
    batches = records // batch
    loop_cpu = make_cpu = 0.0
    late_ns: list[int] = []
    start, process = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    thread = time.thread_time()
    for number in range(batches):
        at = time.thread_time()
        item = make(number)
        made = time.thread_time()
        slot.received(batch)
        if number % 64 == 0:
            offered = time.monotonic_ns()
            writer.offer(item, lambda offered=offered: late_ns.append(time.monotonic_ns() - offered))
        else:
            writer.offer(item)
        loop_cpu += time.thread_time() - made
        make_cpu += made - at
        if rate:
            ahead = start + (number + 1) * batch / rate - time.perf_counter()
            if ahead > 0.001:
                time.sleep(ahead)
        elif number % 256 == 0:
            writer.flush(60)
    writer.flush(60)
    wall = time.perf_counter() - start
    main_cpu = time.thread_time() - thread
    end = resource.getrusage(resource.RUSAGE_SELF)
    cpu = end.ru_utime + end.ru_stime - process.ru_utime - process.ru_stime
    account = writer.accounting()["digits", "1"]
    writer.close()
    n = batches * batch
    quantiles = np.quantile(np.asarray(late_ns) / 1e6, [0.5, 0.99, 1.0]) if late_ns else [0, 0, 0]
    return {
        "durability": durability.value,
        "batch": batch,
        "records": n,
        "records_per_s": round(n / wall),
        "captured": account.captured,
        "dropped": sum(account.dropped.values()),
        "loop_us_per_record": round(loop_cpu / n * 1e6, 3),
        "loop_us_per_batch": round(loop_cpu / batches * 1e6, 3),
        "making_the_batch_us_per_record": round(make_cpu / n * 1e6, 3),
        "writer_threads_us_per_record": round((cpu - main_cpu) / n * 1e6, 3),
        "writer_threads_share_of_core": round((cpu - main_cpu) / wall, 4),
        "durable_after_ms": {
            "p50": round(quantiles[0], 2),
            "p99": round(quantiles[1], 2),
            "max": round(quantiles[2], 2),
        },
        "bytes_per_record": round(sum(p.stat().st_size for p in writer.directory.glob("*.seg")) / max(1, n), 1),
    }


def read(root: Path) -> dict[str, Any]:
    """Read every log under a root, verify checksums, decode every column that scoring needs."""
    reader = RecordLogReader(root)
    best = 0.0
    n = 0
    for _ in range(3):
        n, total = 0, 0.0
        start = time.thread_time()
        for source in reader.sources():
            for frame in reader.read(source, None, 1 << 62):
                if frame.kind == "records":
                    records = frame.records()
                    n += len(records.ids)
                    for column in (records.time_ns, records.total_us, records.probability):
                        total += float(column[0])
                    for view in (records.input("image"), records.output("logits"), records.output("embedding")):
                        array = view.uniform
                        assert array is not None
                        total += float(array.reshape(-1)[0])
        best = max(best, n / (time.thread_time() - start))
        reader.close()
    return {"records": n, "records_per_s_of_cpu": round(best)}


def pauses(root: Path, *, rate: float, batch: int) -> dict[str, Any]:
    """How long the writer keeps the interpreter from a thread that only wants to run: the event loop's view."""

    def measure(work: Callable[[], object]) -> list[float]:
        thread = threading.Thread(target=work)
        gaps: list[float] = []
        thread.start()
        last = time.perf_counter()
        while thread.is_alive():
            time.sleep(0.0001)
            now = time.perf_counter()
            gaps.append((now - last - 0.0001) * 1e3)
            last = now
        return gaps

    quiet = measure(lambda: time.sleep(2))
    busy = measure(lambda: write(root, records=int(2 * rate), batch=batch, rate=rate, durability=Durability.ASYNC))
    keys = (0.5, 0.99, 0.999)
    return {
        name: {f"p{100 * q:g}_ms": round(float(np.quantile(gaps, q)), 3) for q in keys}
        for name, gaps in (("without", quiet), ("with", busy))
    }


def slot_ns() -> float:
    """Nanoseconds of `Slot.received()`."""
    root = Path(tempfile.mkdtemp())
    writer = RecordLogWriter(root, "bench", CaptureOptions())
    received = writer.slot("m", "1").received
    per_call = min(timeit.repeat(received, number=200_000, repeat=7)) / 200_000 * 1e9
    writer.close()
    shutil.rmtree(root)
    return round(per_call, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=50_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the records")
    parser.add_argument("--directory", type=Path, help="where to write the logs (default: the temporary folder)")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    records = options.records // 10 if options.quick else options.records
    root = Path(tempfile.mkdtemp(dir=options.directory))
    results: dict[str, Any] = {"machine": machine(), "slot_received_ns": slot_ns(), "write": []}
    try:
        for batch in (16, 64):
            paced = write(
                root / f"paced{batch}", records=records, batch=batch, rate=options.rate, durability=Durability.ASYNC
            )
            results["write"].append({"paced": True, **paced})
        for durability in Durability:
            free = write(root / durability, records=records // 4, batch=64, rate=0, durability=durability)
            results["write"].append({"paced": False, **free})
        lone = write(root / "lone", records=2000, batch=1, rate=1000, durability=Durability.ASYNC)
        results["write"].append({"paced": True, **lone})
        results["read"] = read(root / "paced64")
        results["pauses"] = pauses(root / "pauses", rate=options.rate, batch=32)
    finally:
        shutil.rmtree(root)
    text = json.dumps(results, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
