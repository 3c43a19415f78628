"""F24: flipped bits, cut files, zero pages, swapped and deleted segments: never a wrong record, always noticed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from monitoring.records.frames import HEADER, MAGIC, padding
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import CaptureOptions, Ragged, RecordSchema, TensorColumn
from monitoring.records.scan import DamageKind, SegmentScan
from monitoring.records.verify import SourceReport, verify
from monitoring.records.writer import RecordLogWriter
from tests.support.records import assert_conserved, batch_of, check_frame, names, offer

IDS = list(names(12))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed log of three segments, four frames of one record each."""
    root = tmp_path_factory.mktemp("pristine")
    writer = RecordLogWriter(root, "r", CaptureOptions(segment_bytes=9500, flush_interval_s=0.0))
    for record_id in IDS:
        offer(writer, [record_id])
        assert writer.flush(5)
    writer.close()
    assert len(list(writer.directory.glob("*.seg"))) == 3
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "log")
    return tmp_path / "log"


def folder(root: Path) -> Path:
    return next(p for p in root.iterdir() if p.is_dir())


def segment(root: Path, number: int) -> Path:
    return folder(root) / f"{number:08d}.seg"


def frames_of(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(offset, end, kind), trusting the file."""
    at = len(MAGIC)
    while at < len(data):
        _, length, _, kind, *_ = HEADER.unpack_from(data, at)
        end = at + HEADER.size + length + padding(length)
        yield at, end, kind
        at = end


def inspect(root: Path) -> tuple[list[str], SourceReport]:
    """Ids that can be read, each checked against its values; and the report. The account always balances."""
    (folder(root) / "final.json").unlink(missing_ok=True)
    reader = RecordLogReader(root)
    (source,) = reader.sources()
    found = [i for f in reader.read(source, None, 1 << 60) if f.kind == "records" for i in check_frame(f)]
    reader.close()
    (report,) = verify(root).sources
    assert_conserved(report.accounting, requests=len(IDS))
    assert report.records == len(found)
    return found, report


def test_the_untouched_log_is_whole(root: Path) -> None:
    found, report = inspect(root)
    assert found == IDS
    assert report.ok
    assert report.damages == ()
    assert sum(a.lost_corrupt for a in report.accounting.values()) == 0


def check_flips(root: Path, bits: list[int]) -> None:
    path = segment(root, 2)
    original = path.read_bytes()
    starts = [(start, end, kind) for start, end, kind in frames_of(original)]
    reader = RecordLogReader(root)
    (source,) = reader.sources()
    in_two = [f.records().ids[0] for f in reader.read(source, None, 1 << 60) if f.position.segment == 2]
    records = [(start, end) for start, end, kind in starts if kind == 3]
    schema = next((start, end) for start, end, kind in starts if kind == 2)
    for bit in bits:
        flipped = bytearray(original)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        fresh = RecordLogReader(root)
        found = [i for f in fresh.read(source, None, 1 << 60) if f.kind == "records" for i in check_frame(f)]
        assert fresh.damages(source), f"bit {bit} was flipped and nothing was noticed"
        fresh.close()
        lost = {record_id for record_id, (a, b) in zip(in_two, records, strict=True) if a <= bit // 8 < b}
        if schema[0] <= bit // 8 < schema[1]:
            lost = set(in_two)  # without their schema the records of the segment cannot be read
        assert found == [i for i in IDS if i not in lost], f"bit {bit}"
    path.write_bytes(original)
    reader.close()


def test_a_flipped_bit_costs_its_frame_and_no_other(root: Path) -> None:
    size = segment(root, 2).stat().st_size
    check_flips(root, np.random.default_rng().choice(8 * size, 400, replace=False).tolist())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_flipped_bit_costs_its_frame_and_no_other(root: Path) -> None:
    size = segment(root, 2).stat().st_size
    check_flips(root, list(range(8 * size)))
    print(f"RESULT flips: {8 * size} bits")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_segment_cut_at_any_byte_is_noticed(root: Path, number: int) -> None:
    path = segment(root, number)
    original = path.read_bytes()
    ends = [end for _, end, _ in frames_of(original)]
    interesting = {e + d for e in ends for d in (-9, -1, 0, 1, 23, 24)} | set(range(0, len(original), 191))
    for size in sorted(s for s in interesting if s < len(original)):
        path.write_bytes(original[:size])
        found, report = inspect(root)
        assert not report.ok, f"cut to {size} bytes and nothing was noticed"
        kept = [i for i in IDS if i in set(found)]
        assert found == kept
        assert len(found) >= 8, "the other segments are readable"


@pytest.mark.parametrize("start", [0, 24, 4096])
def test_a_page_of_zeros_is_noticed(root: Path, start: int) -> None:
    path = segment(root, 2)
    data = bytearray(path.read_bytes())
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)
    found, report = inspect(root)
    assert len(found) >= 8
    assert not report.ok
    assert {d.kind for d in report.damages} & {DamageKind.CHECKSUM, DamageKind.FOREIGN}
    assert sum(a.lost_corrupt for a in report.accounting.values()) == len(IDS) - len(found)


def test_swapped_segments_are_refused(root: Path) -> None:
    one, two = segment(root, 1).read_bytes(), segment(root, 2).read_bytes()
    segment(root, 1).write_bytes(two)
    segment(root, 2).write_bytes(one)
    found, report = inspect(root)
    assert found == IDS[8:]
    assert [d.segment for d in report.damages if d.kind is DamageKind.FOREIGN] == [1, 2]
    assert "swapped" in " ".join(report.problems)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_deleted_segment_is_missed(root: Path, number: int) -> None:
    segment(root, number).unlink()
    found, report = inspect(root)
    assert found == IDS[: 4 * number - 4] + IDS[4 * number :]
    assert not report.ok
    if number < 3:
        assert [d.segment for d in report.damages] == [number]
    assert report.accounting["digits", "3"].lost_corrupt == 4


def test_a_segment_of_another_log_is_refused(root: Path, tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path / "other", "r", CaptureOptions(segment_bytes=9500, flush_interval_s=0.0))
    for record_id in names(12, "x"):
        offer(writer, [record_id])
        assert writer.flush(5)
    writer.close()
    shutil.copy(writer.directory / "00000002.seg", segment(root, 2))
    found, report = inspect(root)
    assert found == IDS[:4] + IDS[8:]
    assert any(d.kind is DamageKind.FOREIGN and d.segment == 2 for d in report.damages)


def test_an_older_copy_of_a_segment_is_noticed(root: Path) -> None:
    """A restored copy that is whole frames, only fewer: the next segment's header knows better."""
    path = segment(root, 2)
    data = path.read_bytes()
    *_, (third, _, _), (footer, _, _) = frames_of(data)
    path.write_bytes(data[:third])
    found, report = inspect(root)
    assert found == IDS[:7] + IDS[8:]
    assert any("are missing" in p for p in report.problems)
    path.write_bytes(data[:footer])
    found, report = inspect(root)
    assert found == IDS, "without its footer a segment is complete all the same"


def test_a_frame_written_over_the_next_one_is_noticed_and_read_once(root: Path) -> None:
    path = segment(root, 2)
    data = bytearray(path.read_bytes())
    (start, end, _), (start_of_next, end_of_next, _) = [f for f in frames_of(bytes(data)) if f[2] == 3][1:3]
    assert end - start == end_of_next - start_of_next
    data[start_of_next:end_of_next] = data[start:end]
    path.write_bytes(data)
    found, report = inspect(root)
    assert found == IDS[:6] + IDS[7:]
    assert {d.kind for d in report.damages} >= {DamageKind.REPEATED, DamageKind.MISSING}
    assert report.accounting["digits", "3"].lost_corrupt == 1


def test_a_damaged_counter_file_is_noticed_and_the_records_stay_readable(root: Path) -> None:
    path = folder(root) / "counters.bin"
    data = bytearray(path.read_bytes())
    data[20] ^= 4
    path.write_bytes(data)
    found, report = inspect(root)
    assert found == IDS
    assert any("counter file" in p for p in report.problems)


def test_a_renamed_log_folder_is_readable(root: Path) -> None:
    folder(root).rename(root / ("backup-" + "0" * 24))
    found, report = inspect(root)
    assert found == IDS
    assert report.ok


def test_records_made_of_a_log_do_not_fool_the_search_for_the_next_frame(root: Path) -> None:
    """Payload bytes that are frames of another log must not be taken for frames when the one around them is damaged."""
    foreign = segment(root, 1).read_bytes()
    target = root.parent / "nested"
    writer = RecordLogWriter(target, "r", CaptureOptions(flush_interval_s=0.0))
    offer(writer, ["before"])
    writer.flush(5)
    nested = RecordSchema("digits", "3", "sha256:0123", (TensorColumn("blob", Datatype.UINT8),))
    batch = replace(batch_of(["nested"]), schema=nested, inputs=(Ragged([foreign], [(1, len(foreign))]),), outputs=())
    writer.slot("digits", "3").received()
    writer.offer(batch)
    writer.flush(5)
    offer(writer, ["after"])
    writer.close()
    path = writer.directory / "00000001.seg"
    data = bytearray(path.read_bytes())
    at = data.index(foreign)
    data[at - 40] ^= 1
    data[at + len(foreign) // 2] ^= 1
    path.write_bytes(data)
    reader = RecordLogReader(target)
    (source,) = reader.sources()
    found = [i for f in reader.read(source, None, 1 << 60) for i in check_frame(f)]
    assert found == ["before", "after"]
    assert reader.damages(source)
    assert reader.finalise(source).slots["digits", "3"].lost_corrupt == 1
    reader.close()


def test_the_settled_account_survives_later_damage(root: Path) -> None:
    reader = RecordLogReader(root)
    (source,) = reader.sources()
    settled = reader.finalise(source)
    segment(root, 2).unlink()
    assert RecordLogReader(root).finalise(source) == settled
    stored = json.loads((folder(root) / "final.json").read_text())
    assert stored["final"] is True
    reader.close()


def test_readers_go_quietly_however_they_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python calls `__del__` also when the constructor failed, and after the module's names are gone, at exit."""
    with pytest.raises(TypeError):
        SegmentScan()  # type: ignore[call-arg]
    SegmentScan.__new__(SegmentScan).__del__()
    scan = SegmentScan(folder(root), int(min(folder(root).glob("*.seg")).stem), "")
    assert scan.open()
    fd = scan._fd
    os.fstat(fd)
    monkeypatch.setattr("monitoring.records.scan.os", None)  # as at exit
    scan.__del__()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)
