"""History re-scored: records a second and memory, over an archive of synthetic records.

`python -m benchmarks.rescore` makes 10,000,000 records of a ten-class model (16 inputs, 10 logits), re-scores them with
Ray tasks and writes `benchmarks/results/rescore.json`: five minutes on two cores. `--quick` takes 1,000,000 (under
a minute), `--local` one process without Ray. Memory is the largest resident size of any process of ours, sampled twice
a second, early and in the last fifth of the run: flat means that it does not grow.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.machine import machine_facts
from benchmarks.stored import store_result
from deploy.rescore import rescore
from deploy.rescore_ray import Job
from export.contracts.datatypes import Datatype
from export.registry import Registry
from monitoring.archive.columns import table_of
from monitoring.archive.files import FileKind, file_path, folder_of
from monitoring.archive.write import open_writer, publish, temporary_of
from monitoring.batches import Place
from monitoring.options import CaseOptions
from monitoring.records.decode import DecodedRecords
from monitoring.records.encode import Encoder, encode
from monitoring.records.folders import Position
from monitoring.records.record import Outcome, RecordBatch, RecordSchema, Rows, TensorColumn
from monitoring.rescore import RescoreRequest

ROOT = Path(__file__).resolve().parents[1]
FRAME = 8192
FILE_ROWS = 500_000
START_NS = 1_772_000_040 * 10**9
SCHEMA = RecordSchema(
    "synthetic", "1", "sha256:1", (TensorColumn("x", Datatype.FP32),), (TensorColumn("logits", Datatype.FP32),)
)


def write_history(root: Path, records: int) -> int:
    """Archive files of random records; returns their bytes."""
    rng, encoder, total = np.random.default_rng(0), Encoder(), 0
    for number, start in enumerate(range(0, records, FILE_ROWS)):
        count = min(FILE_ROWS, records - start)
        path = file_path(folder_of("synthetic", "1"), "bench-" + "0" * 24, number + 1, number + 1, 0)
        writer, temporary, layouts = None, temporary_of(root / path), []
        for at in range(start, start + count, FRAME):
            n = min(FRAME, start + count - at)
            batch = _batch(rng, at, n)
            layout = encoder.stream(batch)
            schema = layout.arrow_schema()
            decoded = DecodedRecords(layout, pa.ipc.read_record_batch(encode(layout, schema, [batch]), schema))
            place = Place(source="bench", segment=number + 1, offset=at, sequence=at)
            known = [(0.5, 0)] * n
            table = table_of(decoded, place, Position(number + 1, at + n, at + 1), 0, known)
            writer = writer or open_writer(temporary, table.schema)
            writer.write_table(table, row_group_size=n)
            layouts = [layout]
        assert writer is not None
        head = _head(start, count, layouts)
        made = publish(
            root, path, temporary, writer, head, kind=FileKind.RECORDS, segments=(number + 1,) * 2, rows=count
        )
        total += made.bytes
    return total


def _batch(rng: np.random.Generator, start: int, n: int) -> RecordBatch:
    x, logits = (rng.standard_normal((n, k), dtype=np.float32) * 3 for k in (16, 10))
    return RecordBatch(
        schema=SCHEMA,
        ids=[b"%012d" % (start + i) for i in range(n)],
        time_ns=[START_NS + (start + i) * 100_000 for i in range(n)],
        variant="champion",
        outcome=Outcome.OK,
        queue_ns=[1000] * n,
        total_ns=[5000] * n,
        inputs=(Rows(x, (16,), 64),),
        outputs=(Rows(logits, (10,), 40),),
    )


def _head(start: int, count: int, layouts: list[Any]) -> dict[str, Any]:
    from monitoring.archive.columns import layout_json

    return {
        "format": 1,
        "model": "synthetic",
        "version": "1",
        "source": "bench",
        "first_ns": START_NS + start * 100_000,
        "last_ns": START_NS + (start + count) * 100_000,
        "first_sequence": start,
        "last_sequence": start + count,
        "last_end": [1, 0, start + count],
        "erased": 0,
        "layouts": [layout_json(layout) for layout in layouts],
    }


class Memory:
    """Largest resident bytes of this process and of those below it that run tasks, over time."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.5):
            sizes = [me.memory_info().rss]
            for child in me.children(recursive=True):
                try:
                    if "do_part" in " ".join(child.cmdline()) or "ray::" in child.name():
                        sizes.append(child.memory_info().rss)
                except psutil.Error:
                    continue
            self.samples.append((time.monotonic(), max(sizes)))

    def fifth(self, last: bool) -> float:
        """Largest MiB of the second fifth, or of the last: the first fifth is starting up."""
        n = max(1, len(self.samples) // 5)
        part = self.samples[-n:] if last else self.samples[n : 2 * n] or self.samples
        return max(size for _, size in part) / 2**20


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--json", type=Path, help="where the result is written; --quick alone writes none")
    args = parser.parse_args()
    records = args.records or (1_000_000 if args.quick else 10_000_000)
    folder = Path(tempfile.mkdtemp(prefix="rescore-"))
    try:
        started = time.monotonic()
        size = write_history(folder / "archive", records)
        wrote_s = time.monotonic() - started
        (folder / "records").mkdir()
        Registry(folder / "registry")
        request = RescoreRequest(start_ns=0, end_ns=(1 << 63) - 1)
        job = Job(request=request, registry=folder / "registry", records=folder / "records",
                  archive=folder / "archive", out=folder / "rescored", cases=CaseOptions())  # fmt: skip
        with Memory() as memory:
            started = time.monotonic()
            parts, total, _ = rescore(job, address=None, cpus=None, local=args.local)
            seconds = time.monotonic() - started
        assert total.records == records
        result = {
            "benchmark": "rescore",
            "machine": machine_facts(ROOT, ("ray", "pyarrow", "numpy")),
            "records": records,
            "archive_bytes": size,
            "parts": len(parts),
            "with_ray": not args.local,
            "write_seconds": round(wrote_s, 1),
            "seconds": round(seconds, 1),
            "records_per_second": round(records / seconds),
            "largest_process_mib_early": round(memory.fifth(last=False)),
            "largest_process_mib_late": round(memory.fifth(last=True)),
        }
        print(json.dumps({k: v for k, v in result.items() if k != "machine"}))
        store_result(result, "rescore", asked=args.json, quick=args.quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
