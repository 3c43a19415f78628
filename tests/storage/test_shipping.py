"""The record log of one machine read on another: every record once, every account exact, killed anywhere."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.shipping.keys import mark
from deploy.shipping.receiver import Receiver
from deploy.shipping.shipper import Shipper
from export.storage.objects import MemoryStore, ObjectStore, StorageUnavailable
from monitoring.records.folders import AS_OF_FILE, as_of_ns, list_sources
from monitoring.records.reader import Position, RecordLogReader
from monitoring.records.record import CaptureOptions
from monitoring.records.writer import RecordLogWriter
from tests.support.bucket import Harm, Proxy, store
from tests.support.records import SCHEMA, check_frame, names, offer


class Monitor:
    """Reads as the monitor does: from where it stands, acknowledging what it has."""

    def __init__(self, root: Path) -> None:
        self.reader, self.ids = RecordLogReader(root), list[str]()
        self.ends: dict[str, Position] = {}

    def read(self) -> None:
        for source in self.reader.sources():
            for frame in self.reader.read(source, self.ends.get(source), 1 << 40):
                if frame.kind == "records":
                    self.ids += check_frame(frame)
                self.ends[source] = frame.position
            if source in self.ends:
                self.reader.acknowledge(source, self.ends[source])

    def account(self):  # type: ignore[no-untyped-def]
        (source,) = self.reader.sources()
        return self.reader.accounting(source).slots[SCHEMA.model, SCHEMA.version]


def writer(root: Path, **options: object) -> RecordLogWriter:
    return RecordLogWriter(root, "replica", CaptureOptions(durability="before_answer", **options))  # type: ignore[arg-type]


def everything(ids: list[str]) -> Callable[[list[str]], None]:
    def check(found: list[str]) -> None:
        assert sorted(found) == sorted(ids)

    return check


def test_a_living_log_arrives_as_it_grows_and_ends_with_its_writer(tmp_path: Path):
    here, there, made = tmp_path / "here", tmp_path / "there", MemoryStore()
    shipper, receiver, monitor = Shipper(here, made, "n1"), Receiver(there, made), Monitor(there)
    log, ids = writer(here, segment_bytes=20_000), list(names(300, "a"))
    for start in range(0, 300, 50):
        offer(log, ids[start : start + 50])
        log.flush(5.0)
        shipper.round()
        receiver.round()
        monitor.read()
        assert monitor.ids == ids[: start + 50]
        assert monitor.reader.is_alive(monitor.reader.sources()[0])
        assert not monitor.reader.damages(monitor.reader.sources()[0])
    assert monitor.account().requests == 300
    (source,) = list_sources(here)
    assert len(list((here / source).glob("*.seg"))) == 1  # what has arrived is gone here
    assert len(list((there / source).glob("*.seg"))) > 1
    log.close()
    shipper.round()
    shipper.round()
    assert list_sources(here) == ()
    receiver.round()
    monitor.read()
    account = monitor.reader.finalise(source)
    assert account.clean
    assert account.final
    assert monitor.ids == ids
    assert monitor.account().captured == monitor.account().requests == 300
    receiver.round()  # what was consumed leaves the bucket
    assert sum(o.size_bytes for o in made.list("records/") if "/p/" in o.key) < 200  # a footer, which is no data
    assert monitor.reader.retire(source)
    receiver.round()
    assert list(made.list("records/")) == []
    assert shipper.leave()
    assert list(made.list("nodes/")) == []
    receiver.close()


class Breaking(MemoryStore):
    """Fails at one call, before or after it took effect, as a killed process or a lost acknowledgement would."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.after = False
        self.broke = 0

    def _step(self, act: Callable[[], object]):  # type: ignore[no-untyped-def]
        if self.left is None:
            return act()
        self.left -= 1
        if self.left:
            return act()
        self.left, self.broke = None, self.broke + 1
        if self.after:
            act()
        raise StorageUnavailable("killed")

    def put(self, key: str, content: bytes | Path) -> None:
        self._step(lambda: MemoryStore.put(self, key, content))

    def get(self, key: str):  # type: ignore[no-untyped-def]
        return self._step(lambda: MemoryStore.get(self, key))

    def delete(self, key: str) -> None:
        self._step(lambda: MemoryStore.delete(self, key))


@pytest.mark.parametrize(
    ("after", "stride"),
    [
        (False, 13),
        (True, 11),
        pytest.param(False, 1, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.slow),
    ],
)
def test_stopped_at_any_call_everything_arrives_once(tmp_path: Path, after: bool, stride: int):
    broke, number = True, 0
    while broke:
        number += stride
        here, there, made = tmp_path / f"h{number}", tmp_path / f"t{number}", Breaking()
        made.left, made.after = number, after
        ids, monitor = list(names(40, f"r{number}")), Monitor(there)
        log = writer(here, segment_bytes=3_000)
        shipper, receiver = Shipper(here, made, "n"), Receiver(there, made)
        for turn in range(8):
            if turn < 4:
                offer(log, ids[turn * 10 : turn * 10 + 10])
                log.flush(5.0)
            elif turn == 4:
                log.close()
            try:
                shipper.round()
            except StorageUnavailable:  # the process is gone: another one begins
                shipper = Shipper(here, made, "n")
            try:
                receiver.round()
            except StorageUnavailable:
                receiver.close()
                receiver = Receiver(there, made)
            monitor.read()
        broke = made.broke > 0  # the positive control: the last run is the first that had fewer calls
        assert monitor.ids == ids, number
        account = monitor.account()
        assert (account.requests, account.captured, account.in_flight) == (40, 40, 0), number
        (source,) = monitor.reader.sources()
        assert not monitor.reader.damages(source)
        assert monitor.reader.accounting(source).clean
        receiver.close()
    assert number > 15


def test_a_killed_writer_is_settled_to_the_record(tmp_path: Path):
    here, there, made = tmp_path / "here", tmp_path / "there", MemoryStore()
    log, ids = writer(here), list(names(30, "k"))
    offer(log, ids)
    log.flush(5.0)
    log.slot(SCHEMA.model, SCHEMA.version).received(7)  # counted, never written
    shipper, receiver, monitor = Shipper(here, made, "n"), Receiver(there, made), Monitor(there)
    shipper.round()
    (source,) = list_sources(here)
    fds = [int(f) for f in os.listdir("/proc/self/fd")]
    held = [f for f in fds if os.path.realpath(f"/proc/self/fd/{f}") == str(here / source / "LOCK")]
    fcntl.flock(held[0], fcntl.LOCK_UN)  # what a SIGKILL does to the lock
    for _ in range(3):
        shipper.round()
        receiver.round()
    monitor.read()
    assert monitor.ids == ids
    account = monitor.account()
    assert (account.requests, account.captured, account.lost_crash) == (37, 30, 7)
    receiver.close()


def test_a_machine_that_never_comes_back_is_given_up_with_an_exact_account(tmp_path: Path):
    here, there, made, now = tmp_path / "here", tmp_path / "there", MemoryStore(), [0.0]
    log, ids = writer(here), list(names(20, "m"))
    shipper = Shipper(here, made, "lost", wall_ns=lambda: 1000)
    receiver, monitor = Receiver(there, made, lost_after_s=60, clock=lambda: now[0]), Monitor(there)
    offer(log, ids)
    log.flush(5.0)
    shipper.round()
    receiver.round()
    assert as_of_ns(there, 5000) == 1000
    offer(log, list(names(5, "later")))  # never sent: the machine burns
    now[0] = 59
    receiver.round()
    (source,) = monitor.reader.sources()
    assert monitor.reader.is_alive(source)
    now[0] = 61
    receiver.round()
    monitor.read()
    assert not monitor.reader.is_alive(source)
    assert monitor.ids == ids
    assert monitor.account().captured == monitor.account().requests == 20
    assert as_of_ns(there, 5000) == 5000  # nobody waits for it
    # it was only unplugged: it is told, and what comes late is not taken
    assert made.exists(mark(source, "closed"))
    log.flush(5.0)
    late = Shipper(here, made, "lost")
    late.round()
    receiver.round()
    monitor.read()
    assert monitor.ids == ids
    log.close()
    receiver.close()


def test_the_monitor_knows_up_to_when_it_has_everything(tmp_path: Path):
    there, made = tmp_path / "there", MemoryStore()
    for node, time_ns in (("a", 500), ("b", 300)):
        where = [f"{node}:30000"]
        Shipper(tmp_path / node, made, node, wall_ns=lambda t=time_ns: t, targets=lambda w=where: w).round()  # type: ignore[misc]
    receiver = Receiver(there, made)
    receiver.round()
    assert (there / AS_OF_FILE).read_bytes() == b"300"
    assert receiver.targets == ("a:30000", "b:30000")
    assert as_of_ns(tmp_path / "nowhere", 7) == 7
    receiver.close()


def test_through_a_real_server_that_does_harm(tmp_path: Path, proxy: Proxy):
    made: ObjectStore = store(f"http://127.0.0.1:{proxy.port}", secrets.token_hex(4), attempts=3)
    here, there = tmp_path / "here", tmp_path / "there"
    shipper, receiver, monitor = Shipper(here, made, "n"), Receiver(there, made), Monitor(there)
    log, ids = writer(here, segment_bytes=10_000), list(names(200, "s"))
    for turn, harm in enumerate((Harm.ERROR, Harm.LOSE_ACK, Harm.CUT_UPLOAD, Harm.TRUNCATE, Harm.FLIP)):
        offer(log, ids[turn * 40 : turn * 40 + 40])
        log.flush(5.0)
        proxy.harm(harm, method="GET" if harm in (Harm.TRUNCATE, Harm.FLIP) else "PUT")
        shipper.round()
        receiver.round()
        monitor.read()
    log.close()
    for _ in range(3):
        shipper.round()
        receiver.round()
    monitor.read()
    assert set(proxy.done) == {Harm.ERROR, Harm.LOSE_ACK, Harm.CUT_UPLOAD, Harm.TRUNCATE, Harm.FLIP}
    assert monitor.ids == ids
    assert (monitor.account().requests, monitor.account().captured) == (200, 200)
    receiver.close()
