"""A process that writes a record log and says what it did, for tests that kill it.

It prints one line for each step, unbuffered: `s ID` before a request is counted and offered, `a ID` when `on_durable`
came. `lines` forks one child for each line number of the record log's code, and kills it with SIGKILL at that line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from monitoring.records.counters import Accounting
from monitoring.records.folders import Position, acknowledge
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import CaptureOptions, DropReason, Durability, Event, Feedback
from monitoring.records.writer import RecordLogWriter
from tests.support.records import check_frame, offer

INCARNATION = "0123456789abcdef01234567"


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def write_log(root: Path, durability: Durability, *, records: int = 14, quota_bytes: int = 4 << 30) -> None:
    """Append, roll, seal, reclaim, one record at a time, each waited for."""
    options = CaptureOptions(
        durability=durability, segment_bytes=9500, segment_age_s=3600, flush_interval_s=0.0, quota_bytes=quota_bytes
    )
    writer = RecordLogWriter(root, "r", options, incarnation=INCARNATION)
    writer.event(Event(kind="replica_started", time_ns=1))
    for i in range(records):
        record_id = f"r{i:06d}"
        say(f"s {record_id}")
        done = threading.Event()

        def durable(record_id: str = record_id, done: threading.Event = done) -> None:
            say(f"a {record_id}")
            done.set()

        offer(writer, [record_id], on_durable=durable)
        done.wait(10)
        if i == records // 2:
            writer.feedback(Feedback(record_id=record_id, model="digits", time_ns=2, label=1))
            acknowledge(writer.directory, Position(3, 0, 0))
    writer.close()
    say("closed")


def recover_log(root: Path) -> None:
    """What a monitor does with the log of a dead writer."""
    reader = RecordLogReader(root)
    for source in reader.sources():
        position = None
        for frame in reader.read(source, None, 1 << 30):
            position = frame.position
        reader.finalise(source)
        if position is not None:
            reader.acknowledge(source, position)
            reader.delete_segments(source, position)
    say("closed")


def load(root: Path, durability: Durability) -> None:
    """Offer as fast as it goes, until killed."""
    writer = RecordLogWriter(root, "r", CaptureOptions(durability=durability, segment_bytes=1 << 20))
    n = 0
    while True:
        ids = [f"n{n + k:09d}" for k in range(8)]
        n += len(ids)
        say(f"s {' '.join(ids)} {time.monotonic_ns()}")
        text = f"a {' '.join(ids)}"
        offer(writer, ids, on_durable=lambda text=text: say(text))
        time.sleep(0.0005)


def fill_disk(root: Path) -> None:
    """On a small file system: fill it under the writer, go on, make room, go on. Prints the facts as JSON."""
    options = CaptureOptions(durability=Durability.BEFORE_ANSWER, segment_bytes=64 << 10)
    writer = RecordLogWriter(root / "log", "r", options)
    answered = 0
    batches = 0

    def one() -> None:
        nonlocal batches
        done = threading.Event()
        offer(writer, [f"b{batches:06d}-{k}" for k in range(4)], on_durable=done.set)
        batches += 1
        nonlocal answered
        answered += done.wait(10)

    def slot() -> Accounting:
        return writer.accounting()["digits", "3"]

    for _ in range(20):
        one()
    before = slot()
    with (root / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass
    for _ in range(60):
        one()
    full = slot()
    for i in range(400):  # more slots than the counter file has room for
        writer.slot(f"model{i}", "1").received()
    (root / "ballast").unlink()
    for _ in range(20):
        one()
    healed = slot()
    writer.close()
    reader = RecordLogReader(root / "log")
    source = reader.sources()[0]
    frames = reader.read(source, None, 1 << 40)
    found = sorted(i for f in frames if f.kind == "records" for i in check_frame(f))
    account = reader.finalise(source)
    total = account.slots["digits", "3"]
    others = sum(a.requests for key, a in account.slots.items() if key != ("digits", "3"))
    say(
        json.dumps(
            {
                "offered": 4 * batches,
                "answered": 4 * answered,
                "unique": len(set(found)),
                "found": len(found),
                "before": before.captured,
                "dropped_while_full": full.dropped[DropReason.DISK_FULL],
                "captured_while_full": full.captured - before.captured,
                "captured_after": healed.captured - full.captured,
                "requests": total.requests,
                "captured": total.captured,
                "dropped": sum(total.dropped.values()),
                "in_flight": total.in_flight,
                "lost": total.lost_crash + total.lost_corrupt,
                "other_requests": others,
                "damages": [d.reason for d in reader.damages(source)],
            }
        )
    )


def kill_at_line(number: int) -> Callable[[], int]:
    """SIGKILL this process at the given executed line of the record log's code; the result tells the lines so far."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "/monitoring/records/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    return lambda: count


def fork_at_lines(root: Path, durability: Durability, job: str, numbers: list[int]) -> None:
    """One forked child a number, each with a root of its own; prints what each said, as JSON lines."""
    for number in numbers:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if not pid:
            os.dup2(write_end, 1)
            os.close(read_end)
            own = root / str(number)
            lines = kill_at_line(number)
            if job == "recover":
                recover_log(own)
            else:
                write_log(own, durability, quota_bytes=int(job))
            sys.settrace(None)
            say(f"lines {lines()}")
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            said = pipe.read().splitlines()
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"number": number, "killed": os.WIFSIGNALED(status), "said": said}), flush=True)


def main(arguments: list[str]) -> None:
    job, root, durability, *rest = arguments
    if job == "write":
        write_log(Path(root), Durability(durability), quota_bytes=int(rest[0]))
    elif job == "load":
        load(Path(root), Durability(durability))
    elif job == "fill":
        fill_disk(Path(root))
    elif job == "lines":
        fork_at_lines(Path(root), Durability(durability), rest[0], json.loads(sys.stdin.read()))
    else:
        raise SystemExit(f"unknown job {job}")


if __name__ == "__main__":
    main(sys.argv[1:])
