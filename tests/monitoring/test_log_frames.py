"""What a cycle takes of the log: whoever stops at the budget knows that there is more."""

from __future__ import annotations

from pathlib import Path

from monitoring.log_frames import read_frames
from monitoring.records.reader import RecordLogReader
from monitoring.records.writer import CaptureOptions, RecordLogWriter
from tests.support.records import offer


def test_a_source_that_stopped_at_the_budget_is_behind_whatever_the_budget(tmp_path: Path) -> None:
    """The budget counts heads and padding; when what was taken did not, a source could be left unread to its end."""
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    for number in range(6):
        offer(writer, [f"id-{number}"])
        assert writer.flush(10)
    writer.close()
    with_reader = RecordLogReader(tmp_path)
    frames, behind = read_frames(with_reader, {}, 1 << 20)
    assert len(frames) >= 4, "positive control: there is something to stop between"
    assert not behind
    total = sum(frame.nbytes for frame in frames)
    for budget in range(1, total + 1):
        taken, behind = read_frames(RecordLogReader(tmp_path), {}, budget)
        assert behind or len(taken) == len(frames), budget
