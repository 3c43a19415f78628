"""Erasing from a sealed segment: the bytes are gone, everything else stays where it was and verifies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitoring.records.decode import DecodedRecords
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import CaptureOptions, Feedback
from monitoring.records.rewrite import rewrite_segment
from monitoring.records.verify import verify
from monitoring.records.writer import RecordLogWriter
from tests.support.records import SCHEMA, batch_of, check_frame

PLANTED = "planted-7f3a"


def written(root: Path) -> str:
    """A closed log of several segments, with a planted record and a planted comment in the middle."""
    writer = RecordLogWriter(root, "r1", CaptureOptions(segment_bytes=6000))
    for i in range(30):
        ids = [f"r{i:03d}-{k}" for k in range(8)]
        if i == 14:
            ids[3] = PLANTED
        writer.slot(SCHEMA.model, SCHEMA.version).received(8)
        writer.offer(batch_of(ids))
        writer.feedback(Feedback(record_id=ids[3], model="digits", time_ns=i, comment=f"about {ids[3]}"))
        assert writer.flush(5.0)
    writer.close()
    return RecordLogReader(root).sources()[0]


def without(records: DecodedRecords) -> DecodedRecords:
    stay = np.flatnonzero([i != PLANTED for i in records.ids])
    return records.take(stay)


def erase(root: Path, source: str) -> int:
    numbers = [int(p.stem) for p in (root / source).glob("*.seg")]
    return sum(rewrite_segment(root, source, n, without, lambda f: f.record_id != PLANTED) for n in numbers)


def frames(root: Path, source: str) -> list[tuple[object, str, int]]:
    reader = RecordLogReader(root)
    found = [(f.position, f.kind, f.count) for f in reader.read(source, None, 1 << 60)]
    reader.close()
    return found


def test_what_was_erased_is_nowhere_and_everything_else_is_where_it_was(tmp_path: Path) -> None:
    source = written(tmp_path)
    before = frames(tmp_path, source)
    sizes = {p.name: p.stat().st_size for p in (tmp_path / source).glob("*.seg")}
    assert len(sizes) > 5
    grep = [p for p in (tmp_path / source).iterdir() if PLANTED.encode() in p.read_bytes()]
    assert grep, "positive control: it was there"
    assert erase(tmp_path, source) == 2
    assert not [p for p in (tmp_path / source).iterdir() if PLANTED.encode() in p.read_bytes()]
    assert {p.name: p.stat().st_size for p in (tmp_path / source).glob("*.seg")} == sizes
    assert frames(tmp_path, source) == before, "positions and counts stay: nothing that points into the log moves"
    read = RecordLogReader(tmp_path).read(source, None, 1 << 60)
    ids = [i for f in read if f.kind == "records" for i in check_frame(f)]
    assert len(ids) == 30 * 8 - 1
    report = verify(tmp_path)
    assert report.ok, report
    (account,) = (a for s in report.sources for a in s.accounting.values() if a.requests)
    assert (account.requests, account.captured, account.lost_corrupt, account.lost_crash) == (240, 240, 0, 0)


def test_inputs_can_leave_the_log_and_the_rest_still_reads(tmp_path: Path) -> None:
    source = written(tmp_path)

    def no_inputs(records: DecodedRecords) -> DecodedRecords:
        layout = records.layout.without(inputs=True, outputs=False)
        if layout == records.layout:
            return records
        return DecodedRecords(layout, records.batch.select(layout.arrow_schema().names))

    numbers = [int(p.stem) for p in (tmp_path / source).glob("*.seg")]
    assert sum(rewrite_segment(tmp_path, source, n, no_inputs) for n in numbers) == 30
    assert sum(rewrite_segment(tmp_path, source, n, no_inputs) for n in numbers) == 0, "twice is once"
    for frame in RecordLogReader(tmp_path).read(source, None, 1 << 60):
        if frame.kind == "records":
            records = frame.records()
            assert (records.input_names, records.output_names) == ((), ("logits", "embedding"))
            assert records.output("logits").uniform is not None
    assert erase(tmp_path, source) == 2, "and a record can still be erased"
    assert verify(tmp_path).ok


@pytest.mark.parametrize("bit", [5, 40, 300])
def test_a_rewritten_frame_is_still_checked(tmp_path: Path, bit: int) -> None:
    source = written(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / source).glob("*.seg")}
    erase(tmp_path, source)
    path, *_ = (p for p in (tmp_path / source).glob("*.seg") if p.read_bytes() != before[p.name])
    data = bytearray(path.read_bytes())
    first = next(i for i, (a, b) in enumerate(zip(data, before[path.name], strict=True)) if a != b)
    data[first + bit] ^= 4
    path.write_bytes(data)
    assert not verify(tmp_path).ok


def test_a_kill_between_write_and_rename_leaves_the_old_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path)
    before = frames(tmp_path, source)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        erase(tmp_path, source)
    monkeypatch.undo()
    assert frames(tmp_path, source) == before
    assert verify(tmp_path).ok
    assert erase(tmp_path, source) == 2
