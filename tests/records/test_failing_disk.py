"""F22, F23: fsync fails, the disk is full. Inference goes on, every record is accounted for, and it heals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring.records.counters import Accounting
from monitoring.records.reader import RecordLogReader, SourceAccounting
from monitoring.records.record import DropReason, Durability
from tests.support.records import assert_conserved, check_frame

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]
CHILD = [sys.executable, "-B", "-m", "tests.support.record_child"]
HERE = Path(__file__).resolve().parents[2]


def write_with(
    tmp_path: Path, durability: Durability, *inject: str
) -> tuple[list[str], list[str], SourceAccounting, Accounting, int]:
    """Answered ids, ids in the log, the account, that of the model, and how often a call was made to fail."""
    root, trace = tmp_path / "log", tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=writev,fdatasync,ftruncate"]
    for item in inject:
        command += ["-e", f"inject={item}"]
    run = subprocess.run(
        [*command, *CHILD, "write", str(root), durability, str(4 << 30)],
        capture_output=True,
        text=True,
        cwd=HERE,
        check=True,
    )
    said = run.stdout.splitlines()
    assert said[-1] == "closed"
    reader = RecordLogReader(root)
    (source,) = reader.sources()
    found = [i for f in reader.read(source, None, 1 << 40) if f.kind == "records" for i in check_frame(f)]
    assert reader.damages(source) == ()
    account = reader.finalise(source)
    reader.close()
    assert_conserved(account.slots)
    answered = [line[2:] for line in said if line.startswith("a ")]
    assert len(answered) == 14, "every answer goes out, whatever the disk does"
    return answered, found, account, account.slots["digits", "3"], trace.read_text().count("(INJECTED)")


@pytest.mark.parametrize("when", [1, 2, 4, 7])
def test_after_a_failed_fsync_nothing_acknowledged_is_lost(tmp_path: Path, when: int) -> None:
    answered, found, account, total, injected = write_with(
        tmp_path, Durability.SYNCED, f"fdatasync:error=EIO:when={when}"
    )
    assert injected == 1
    assert account.poisoned == 1
    assert found == answered, "in order, none missing, none twice"
    assert sum(total.dropped.values()) == 0


def test_fsync_is_never_tried_again_on_the_same_file(tmp_path: Path) -> None:
    write_with(tmp_path, Durability.SYNCED, "fdatasync:error=EIO:when=3")
    lines = (tmp_path / "trace").read_text().splitlines()
    (at,) = (i for i, line in enumerate(lines) if "INJECTED" in line)
    later = next(i for i, line in enumerate(lines) if i > at and "fdatasync" in line)
    assert "ftruncate" in lines[at + 1], "the poisoned segment is cut back to what is certain"
    assert any("HCRLOG1" in line for line in lines[at + 1 : later]), "a new segment follows"


def test_a_disk_that_never_syncs_drops_and_counts(tmp_path: Path) -> None:
    answered, found, account, total, injected = write_with(tmp_path, Durability.SYNCED, "fdatasync:error=EIO:when=4+")
    assert injected > 5
    assert account.poisoned >= 5
    assert found == answered[: len(found)]
    assert total.dropped[DropReason.WRITE_ERROR] == 14 - len(found) > 0


@pytest.mark.parametrize("durability", list(Durability))
def test_a_full_disk_drops_what_does_not_fit_and_goes_on(tmp_path: Path, durability: Durability) -> None:
    answered, found, _, total, injected = write_with(tmp_path, durability, "writev:error=ENOSPC:when=5..7")
    assert injected == 3
    assert total.dropped[DropReason.DISK_FULL] == 3
    assert total.captured == 11
    assert found == [i for i in answered if i in set(found)]


def test_a_segment_that_cannot_be_cut_back_is_left_behind(tmp_path: Path) -> None:
    answered, found, _, total, injected = write_with(
        tmp_path, Durability.SYNCED, "writev:error=ENOSPC:when=5", "ftruncate:error=EIO:when=1+"
    )
    assert injected >= 2
    assert total.dropped[DropReason.DISK_FULL] == 1
    assert found == [i for i in answered if i in set(found)]
    assert len(found) == 13


@pytest.mark.parametrize("when", ["4+", "4..9"])
def test_what_was_given_up_and_cannot_be_cut_off_is_not_read(tmp_path: Path, when: str) -> None:
    answered, found, _, total, injected = write_with(
        tmp_path, Durability.SYNCED, f"fdatasync:error=EIO:when={when}", "ftruncate:error=EIO:when=1+"
    )
    assert injected > 8
    assert found == [i for i in answered if i in set(found)]
    assert total.captured == len(found)
    assert total.requests == 14
    assert total.dropped[DropReason.WRITE_ERROR] == 14 - len(found) > 0


def test_a_really_full_file_system_heals_when_room_returns(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"'
    inside = ["sh", "-c", script, "sh", str(place), *CHILD, "fill", str(place), "-"]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    run = subprocess.run(["unshare", "-rm", *inside], capture_output=True, text=True, cwd=HERE, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    facts = json.loads(run.stdout)
    assert facts["before"] == 80
    assert facts["dropped_while_full"] > 100, "the disk was really full"
    assert facts["captured_after"] == 80, "and it healed"
    assert facts["answered"] == facts["offered"] == facts["requests"] == 400
    assert facts["found"] == facts["unique"] == facts["captured"]
    assert facts["captured"] + facts["dropped"] == 400
    assert (facts["in_flight"], facts["lost"], facts["damages"]) == (0, 0, [])
    assert facts["other_requests"] == 400, "models without room for a slot share one, so that totals stay exact"
