"""What the writer promises while everything works: bounds, sampling, accounts, ages, fences."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from monitoring.records.counters import read_counters
from monitoring.records.folders import Position, lock
from monitoring.records.log import DataFrame, SegmentLog
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import (
    CaptureOptions,
    DropReason,
    Durability,
    Event,
    Feedback,
    Outcome,
    Ragged,
    RecordBatch,
    RecordSchema,
    Rows,
    TensorColumn,
)
from monitoring.records.verify import verify
from monitoring.records.writer import Clock, LogInUse, RecordLogWriter
from tests.support.records import SCHEMA, assert_conserved, batch_of, names, offer, read_ids


def blob(n_bytes: int, record_id: bytes = b"blob") -> RecordBatch:
    schema = RecordSchema("digits", "3", "", (TensorColumn("blob", Datatype.UINT8),))
    return replace(
        batch_of(["x"]),
        schema=schema,
        ids=[record_id],
        inputs=(Rows(os.urandom(n_bytes), (n_bytes,), n_bytes),),
        outputs=(),
    )


class Stall:
    """A callback that keeps the writer thread busy until it is let go."""

    def __init__(self, writer: RecordLogWriter) -> None:
        self.entered, self.go = threading.Event(), threading.Event()
        writer.feedback(Feedback(record_id="stall", model="m", time_ns=0), self._hold)
        assert self.entered.wait(10)

    def _hold(self, _kept: bool) -> None:
        self.entered.set()
        self.go.wait(30)


# ---- fences (F29) --------------------------------------------------------------------------------------------------


def test_two_writers_never_share_a_folder(tmp_path: Path) -> None:
    incarnation = "0" * 24
    first = RecordLogWriter(tmp_path, "r", CaptureOptions(), incarnation=incarnation)
    with pytest.raises(LogInUse):
        RecordLogWriter(tmp_path, "r", CaptureOptions(), incarnation=incarnation)
    second = RecordLogWriter(tmp_path, "r", CaptureOptions())
    for i in range(50):
        offer(first, [f"a{i}"])
        offer(second, [f"b{i}"])
    first.close()
    second.close()
    assert first.directory != second.directory
    assert set(read_ids(tmp_path, first.directory.name)) == {f"a{i}" for i in range(50)}
    assert set(read_ids(tmp_path, second.directory.name)) == {f"b{i}" for i in range(50)}
    with pytest.raises(LogInUse):  # a dead writer's folder is not written to again either
        RecordLogWriter(tmp_path, "r", CaptureOptions(), incarnation=incarnation)
    assert not list(tmp_path.glob(".*")), "nothing half made stays behind"


def test_the_lock_says_who_lives(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    reader = RecordLogReader(tmp_path)
    assert reader.is_alive(writer.directory.name)
    with pytest.raises(BlockingIOError):
        lock(writer.directory)
    with pytest.raises(ValueError, match="lives"):
        reader.finalise(writer.directory.name)
    writer.close()
    assert not reader.is_alive(writer.directory.name)
    assert (writer.directory / "LOCK").exists(), "a lock file that stays behind means nothing"


def test_a_forked_child_leaves_the_log_to_its_parent(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    offer(writer, ["parent"])
    ours, childs = socket.socketpair()
    pid = os.fork()
    if not pid:
        ours.close()
        offer(writer, ["child"])
        writer.close()
        childs.send(b"x")
        childs.recv(1)  # lives longer than the parent's writer, and no longer than the test
        os._exit(0)
    childs.close()
    with ours:
        assert ours.recv(1) == b"x"
        writer.close()
        reader = RecordLogReader(tmp_path)
        assert not reader.is_alive(writer.directory.name), "the child does not keep the lock"
    os.waitpid(pid, 0)
    assert read_ids(tmp_path) == ["parent"]
    assert_conserved(reader.accounting(writer.directory.name).slots, requests=1)


# ---- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", list(Durability))
def test_a_full_buffer_drops_counts_and_answers(tmp_path: Path, durability: Durability) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(buffer_bytes=20_000, durability=durability))
    stall = Stall(writer)
    told: list[str] = []
    for record_id in names(200):
        offer(writer, [record_id], on_durable=lambda record_id=record_id: told.append(record_id))
    dropped = writer.accounting()["digits", "3"].dropped[DropReason.BUFFER_FULL]
    assert 100 < dropped < 200
    assert len(told) == dropped, "who was dropped is not kept waiting"
    stall.go.set()
    assert writer.flush(10)
    writer.close()
    assert sorted(told) == list(names(200))
    account = RecordLogReader(tmp_path).accounting(writer.directory.name)
    assert_conserved(account.slots, requests=200)
    assert len(read_ids(tmp_path)) == 200 - dropped


def test_past_the_quota_records_are_dropped_until_the_monitor_acknowledges(tmp_path: Path) -> None:
    quota = 100_000
    options = CaptureOptions(quota_bytes=quota, segment_bytes=20_000, flush_interval_s=0.0)
    writer = RecordLogWriter(tmp_path, "r", options)
    source = writer.directory.name

    def write(prefix: str) -> int:
        before = writer.accounting()["digits", "3"].captured
        for record_id in names(600, prefix):
            offer(writer, [record_id])
            if record_id.endswith("0"):
                assert writer.flush(10)
        assert writer.flush(10)
        return writer.accounting()["digits", "3"].captured - before

    writer.slot("digits", "3")
    first = write("a")
    account = writer.accounting()["digits", "3"]
    assert account.dropped[DropReason.QUOTA] == 600 - first > 100
    assert sum(p.stat().st_size for p in writer.directory.glob("*.seg")) <= quota
    writer.feedback(Feedback(record_id="a000000", model="digits", time_ns=1, label=1))
    assert writer.flush(10)
    assert read_counters(writer.directory).globals[3] == 0, "the reserve has room for feedback"  # type: ignore[union-attr]
    reader = RecordLogReader(tmp_path)
    read = list(reader.read(source, None, 1 << 40))
    reader.acknowledge(source, read[-1].position)
    time.sleep(1.1)  # the writer looks at the disk at most once a second when it is full
    second = write("b")
    assert second > 50
    assert sum(p.stat().st_size for p in writer.directory.glob("*.seg")) <= quota
    rest = list(reader.read(source, read[-1].position, 1 << 40))
    assert reader.damages(source) == (), "what retention deletes is not damage"
    writer.close()
    rest += reader.read(source, rest[-1].position, 1 << 40)
    assert sum(f.count for f in read + rest if f.kind == "records") == first + second
    assert verify(tmp_path).ok
    account = reader.finalise(source).slots["digits", "3"]
    assert account.captured == first + second, "deleted segments still count"
    assert_conserved({("digits", "3"): account}, requests=1200)


def test_a_living_monitor_keeps_capture_going_under_a_small_quota(tmp_path: Path) -> None:
    options = CaptureOptions(quota_bytes=150_000, segment_bytes=20_000, flush_interval_s=0.0)
    writer = RecordLogWriter(tmp_path, "r", options)
    reader, source, position, found = RecordLogReader(tmp_path), writer.directory.name, None, 0
    for i in range(150):
        offer(writer, list(names(8, f"{i}-")))
        assert writer.flush(10)
        for frame in reader.read(source, position, 1 << 40):
            position, found = frame.position, found + frame.count
        assert position is not None
        reader.acknowledge(source, position)
    writer.close()
    account = reader.finalise(source).slots["digits", "3"]
    assert found == account.captured == 1200
    assert not list(writer.directory.glob("00000001.seg")), "acknowledged segments went"
    reader.close()


def test_logs_of_dead_writers_count_against_the_quota_and_are_reclaimed(tmp_path: Path) -> None:
    options = CaptureOptions(quota_bytes=60_000, segment_bytes=20_000, flush_interval_s=0.0)
    dead = RecordLogWriter(tmp_path, "old", options)
    for i in range(20):
        offer(dead, list(names(8, f"{i}-")))
        assert dead.flush(10)
    dead.close()
    assert dead.accounting()["digits", "3"].captured == 160
    writer = RecordLogWriter(tmp_path, "new", options)
    reader = RecordLogReader(tmp_path)
    old = dead.directory.name
    *_, last = reader.read(old, None, 1 << 40)
    reader.acknowledge(old, last.position)
    for i in range(20):
        offer(writer, list(names(8, f"n{i}-")))
        assert writer.flush(10)
    assert writer.accounting()["digits", "3"].dropped[DropReason.QUOTA] > 0, "an unsettled log may not shrink"
    settled = reader.finalise(old)
    time.sleep(1.1)
    offer(writer, ["later", *names(20)])
    assert writer.flush(10)
    writer.close()
    assert "later" in read_ids(tmp_path, writer.directory.name)
    assert not (dead.directory / "00000001.seg").exists(), "the oldest segment of the dead writer went first"
    assert (writer.directory / "00000001.seg").exists()
    assert reader.accounting(old) == settled
    assert reader.retire(old)
    assert reader.sources() == (writer.directory.name,)


def test_a_record_over_the_largest_frame_is_dropped_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(max_frame_bytes=10_000))
    slot = writer.slot("digits", "3")
    for batch in (blob(20_000), blob(3_000, b"small")):
        slot.received()
        writer.offer(batch)
    many = batch_of(list(names(200)))  # too many for one frame: split, not dropped
    slot.received(200)
    writer.offer(many)
    writer.close()
    account = RecordLogReader(tmp_path).accounting(writer.directory.name).slots
    assert account["digits", "3"].dropped[DropReason.TOO_LARGE] == 1
    assert account["digits", "3"].captured == 201
    assert_conserved(account, requests=202)


def test_a_malformed_batch_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    good = [batch_of([f"g{i}"]) for i in range(6)]
    bad = [
        replace(batch_of(["b0"]), queue_ns=[1, 2]),
        replace(batch_of(["b1"]), inputs=(Rows(bytes(60), (1, 4, 4), 64),)),
        replace(batch_of(["b2"]), inputs=batch_of(["b2"]).outputs),
        replace(batch_of(["b3"]), inputs=(Ragged([b"abc"], [(1, 1, 4, 4)]),)),
        replace(batch_of(["b4"]), time_ns=["soon"]),  # type: ignore[list-item]
    ]
    told: list[int] = []
    stall = Stall(writer)
    for pair in zip(good, [*bad, batch_of(["b5"])], strict=True):
        for batch in pair:
            writer.slot("digits", "3").received()
            writer.offer(batch, lambda: told.append(1))
    stall.go.set()
    with caplog.at_level(logging.CRITICAL):
        writer.close()
    assert len(told) == 12
    assert sorted(read_ids(tmp_path)) == ["b5", *(f"g{i}" for i in range(6))]
    account = RecordLogReader(tmp_path).accounting(writer.directory.name).slots
    assert account["digits", "3"].dropped[DropReason.WRITE_ERROR] == 5
    assert_conserved(account, requests=12)


def test_a_closed_writer_drops_counts_and_answers(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    writer.close()
    writer.close()
    told: list[int] = []
    offer(writer, ["late"], on_durable=lambda: told.append(1))
    writer.feedback(Feedback(record_id="late", model="m", time_ns=0), lambda kept: told.append(2 + kept))
    writer.event(Event(kind="late", time_ns=0))
    assert told == [1, 2]
    assert writer.flush(1)
    assert_conserved(writer.accounting(), requests=1)


def test_a_callback_that_raises_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(durability=Durability.SYNCED))
    with caplog.at_level(logging.CRITICAL):
        offer(writer, ["one"], on_durable=lambda: 1 / 0)
        offer(writer, ["two"])
        writer.close()
    assert read_ids(tmp_path) == ["one", "two"]


# ---- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", [Durability.BEFORE_ANSWER, Durability.SYNCED])
def test_what_was_answered_is_already_in_the_file(tmp_path: Path, durability: Durability) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(durability=durability))
    for record_id in names(20):
        done = threading.Event()
        seen: list[str] = []

        def answered(done: threading.Event = done, seen: list[str] = seen) -> None:
            seen.extend(read_ids(tmp_path))
            done.set()

        offer(writer, [record_id], on_durable=answered)
        assert done.wait(10)
        assert seen[-1] == record_id
    writer.close()


def test_waiting_requests_share_one_write(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(durability=Durability.SYNCED))
    stall = Stall(writer)
    for record_id in names(500):
        offer(writer, [record_id])
    stall.go.set()
    writer.close()
    reader = RecordLogReader(tmp_path)
    frames = [f for f in reader.read(writer.directory.name, None, 1 << 40) if f.kind == "records"]
    assert len(frames) < 5
    assert sum(f.count for f in frames) == 500
    reader.close()


def test_async_records_reach_the_file_without_anybody_asking(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    offer(writer, ["alone"])
    deadline = time.monotonic() + 5
    while read_ids(tmp_path) != ["alone"]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    writer.close()


def test_a_segment_is_sealed_by_age_and_a_jumping_wall_clock_does_not_matter(tmp_path: Path) -> None:
    jumps = iter([0, 86_400, -86_400] * 1000)
    clock = Clock(wall_ns=lambda: time.time_ns() + next(jumps) * 10**9)
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(segment_age_s=0.2, flush_interval_s=0.0), clock=clock)
    for i in range(3):
        offer(writer, [f"r{i}"])
        assert writer.flush(5)
        time.sleep(0.4)
    assert len(list(writer.directory.glob("*.seg"))) == 3, "no early and no late seal"
    assert read_ids(tmp_path) == ["r0", "r1", "r2"]
    writer.close()
    assert verify(tmp_path).ok


# ---- sampling ------------------------------------------------------------------------------------------------------


def test_sampling_keeps_its_share_its_probability_and_all_that_failed(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(sample=0.25))
    for i in range(400):
        ids = list(names(10, f"{i}-"))
        batch = replace(batch_of(ids), keep=[k == 3 for k in range(10)], probability=0.5)
        writer.slot("digits", "3").received(10)
        writer.offer(batch)
    failed = batch_of(list(names(100, "failed")), outcome=Outcome.FAILED)
    writer.slot("digits", "3").received(100)
    writer.offer(failed)
    writer.close()
    found = read_ids(tmp_path)
    kept = [i for i in found if i.endswith("-000003")]
    assert len(kept) == 400, "what must be kept is kept"
    assert len([i for i in found if i.startswith("failed")]) == 100
    lucky = len(found) - 500
    assert abs(lucky - 900) < 5 * np.sqrt(3600 * 0.25 * 0.75)
    reader = RecordLogReader(tmp_path)
    probabilities: dict[float, int] = {}
    for frame in reader.read(writer.directory.name, None, 1 << 40):
        records = frame.records()
        for value, record_id in zip(records.probability.tolist(), records.ids, strict=True):
            probabilities[value] = probabilities.get(value, 0) + 1
            sure = record_id.endswith("-000003")
            assert value == (1.0 if record_id.startswith("failed") else 0.5 if sure else 0.125)
    assert probabilities == {1.0: 100, 0.5: 400, 0.125: lucky}
    account = reader.accounting(writer.directory.name).slots
    assert account["digits", "3"].sampled_out == 3600 - lucky
    assert_conserved(account, requests=4100)
    reader.close()


# ---- accounts ------------------------------------------------------------------------------------------------------


def test_the_counter_file_grows_and_keeps_every_slot_apart(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    slots = [writer.slot(f"model-{i}", "v" * (i % 65)) for i in range(700)]
    for i, slot in enumerate(slots):
        slot.received(i)
        slot.page[slot.base] += 1
    assert writer.slot("model-5", "vvvvv") is slots[5]
    found = RecordLogReader(tmp_path).accounting(writer.directory.name).slots
    for i in range(700):
        assert found[f"model-{i}", "v" * (i % 65)].requests == i + 1
    writer.close()


def test_accounts_are_kept_apart_by_model_and_version_and_for_unknown_models(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    for model, version, n in (("digits", "3", 5), ("digits", "4", 7), ("", "", 2)):
        schema = replace(SCHEMA, model=model, version=version)
        writer.slot(model, version).received(n)
        writer.offer(batch_of(list(names(n)), schema=schema))
    writer.slot("digits", "4").received(3)  # never offered: lost, as far as anybody can tell
    writer.close()
    slots = RecordLogReader(tmp_path).accounting(writer.directory.name).slots
    assert {key: a.captured for key, a in slots.items()} == {("", ""): 2, ("digits", "3"): 5, ("digits", "4"): 7}
    assert slots["digits", "4"].lost_crash == 3
    assert_conserved(slots, requests=17)


def test_segments_may_only_be_deleted_once_acknowledged_and_settled(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(segment_bytes=9000, flush_interval_s=0.0))
    for record_id in names(30):
        offer(writer, [record_id])
        assert writer.flush(5)
    reader, source = RecordLogReader(tmp_path), writer.directory.name
    end = Position(5, 0, 0)
    with pytest.raises(ValueError, match="acknowledged"):
        reader.delete_segments(source, end)
    reader.acknowledge(source, end)
    reader.acknowledge(source, Position(1, 0, 0))  # never goes back
    assert reader.acknowledged(source) == end
    writer.close()
    with pytest.raises(ValueError, match="settled"):
        reader.delete_segments(source, end)
    assert not reader.retire(source)
    settled = reader.finalise(source)
    assert reader.delete_segments(source, end) > 0
    assert not reader.retire(source), "some of it was not acknowledged"
    assert reader.accounting(source) == settled
    assert settled.slots["digits", "3"].captured == 30
    (writer.directory / "final.json").unlink()
    assert reader.finalise(source) == settled, "the headers remember what was deleted"
    assert verify(tmp_path).ok
    reader.close()


def test_row_shapes_without_end_do_not_make_streams_without_end(tmp_path: Path) -> None:
    schema = RecordSchema("m", "1", "", (TensorColumn("x", Datatype.UINT8),))
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    for n in range(1, 400):
        rows = Rows(bytes([n % 256]) * n, (n,), n)
        writer.slot("m", "1").received()
        writer.offer(replace(batch_of(["x"]), schema=schema, ids=[b"%d" % n], inputs=(rows,), outputs=()))
    writer.close()
    reader = RecordLogReader(tmp_path)
    frames = list(reader.read(writer.directory.name, None, 1 << 40))
    assert len({f.schema_message for f in frames}) < 70
    for frame in frames:
        records = frame.records()
        for i, record_id in enumerate(records.ids):
            n = int(record_id)
            assert np.array_equal(records.input("x").get(i), np.full((1, n), n % 256, np.uint8))
    assert sum(f.count for f in frames) == 399
    reader.close()


def test_feedback_that_the_disk_refuses_is_not_called_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    told: list[bool] = []
    writer.feedback(Feedback(record_id="before", model="m", time_ns=1), told.append)
    assert writer.flush(10)

    def full(self: SegmentLog, frame: DataFrame) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentLog, "_append", full)
        writer.feedback(Feedback(record_id="lost", model="m", time_ns=2), told.append)
        assert writer.flush(10)
    writer.feedback(Feedback(record_id="after", model="m", time_ns=3), told.append)
    writer.close()
    assert told == [True, False, True]
    reader = RecordLogReader(tmp_path)
    account = reader.accounting(reader.sources()[0])
    assert (account.feedback, account.feedback_dropped) == (2, 1)
