"""Segments become Parquet: nothing is lost, nothing is there twice, whoever is killed when."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.datatypes import Datatype
from monitoring import schema as t
from monitoring.archive import compact as compact_module
from monitoring.archive.catalogue import list_files
from monitoring.archive.compact import Compactor
from monitoring.archive.files import archived
from monitoring.archive.read import archived_sources, read_frames, read_groups
from monitoring.archive_options import ArchiveOptions
from monitoring.batches import Place
from monitoring.cycle import Loop, Refetch, make_loop
from monitoring.ingest import Ingest
from monitoring.ingest_rows import read_cursors
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import CaptureOptions, Outcome, Ragged, RecordBatch, RecordSchema, Rows, TensorColumn
from monitoring.records.writer import RecordLogWriter
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain

NOW = ArchiveOptions(enabled=True, file_bytes=100_000, age_s=0.0, interval_s=0.01)


def consumed(folder: Path, **day: object) -> Loop:
    """A log of many small segments, read by a monitor that archives nothing."""
    options = {"seconds": 30, "rate": 20, "shift_from": 15, "seed": 4} | day
    w.day(folder / "records", **options, capture={"segment_bytes": 40_000})  # type: ignore[arg-type]
    store = Store(f"sqlite:///{folder / 'monitor.db'}")
    loop = make_loop(w.options(folder, batch_bytes=60_000), store, w.catalogue(folder / "ref"))
    drain(loop)
    return loop


def compactor(loop: Loop) -> Compactor:
    return Compactor(loop.store, loop.options.records_root, loop.options.archive_root, NOW)


def compact(loop: Loop) -> None:
    one = compactor(loop)
    while one.turn():
        pass


def everything(root: Path) -> list[tuple[object, ...]]:
    """All that is read from a log, frame by frame, as plain values."""
    reader = RecordLogReader(root)
    found = [plain(f) for source in reader.sources() for f in reader.read(source, None, 1 << 62)]
    reader.close()
    return found


def everything_archived(root: Path) -> list[tuple[object, ...]]:
    return [plain(f) for source in archived_sources(root) for f in read_frames(root, source)]


def plain(frame: object) -> tuple[object, ...]:
    head = (frame.source, frame.position, frame.kind, frame.count)  # type: ignore[attr-defined]
    if frame.kind != "records":  # type: ignore[attr-defined]
        return (*head, frame.feedback() if frame.kind == "feedback" else frame.event())  # type: ignore[attr-defined]
    records = frame.records()  # type: ignore[attr-defined]
    tensors = [
        (n, v.shape(i), v.raw(i))
        for n, v in [(n, records.input(n)) for n in records.input_names]
        + [(n, records.output(n)) for n in records.output_names]
        for i in range(len(records))
    ]
    columns = [np.asarray(getattr(records, c)).tolist() for c in
               ("time_ns", "rows", "queue_us", "compute_us", "total_us", "probability")]  # fmt: skip
    texts = [records.ids, records.error, records.params, records.trace_ids, records.tags]
    return (*head, repr(records.layout), repr(columns), repr(texts), tensors)


def test_what_is_read_from_the_archive_is_what_the_log_held(tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    before = everything(tmp_path / "records")
    assert len(before) > 60
    compact(loop)
    after = everything_archived(tmp_path / "archive")
    assert sorted(after, key=repr) == sorted(before, key=repr)
    assert [f[1] for f in after] == [f[1] for f in sorted(after, key=lambda f: (f[0], f[1]))]
    assert RecordLogReader(tmp_path / "records").sources() == (), "the whole log of dead writers has gone"
    with loop.store.read() as connection:
        files = list_files(connection)
    assert {f.path for f in files} == {f.path for f in archived(tmp_path / "archive")}
    assert len(files) >= 4
    for file in files:
        data = (tmp_path / "archive" / file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    loop.store.close()


def test_replay_from_the_archive_is_replay_from_the_log(tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    wanted = w.snapshot(loop.store)
    compact(loop)
    store = Store(f"sqlite:///{tmp_path / 'second.db'}")
    fresh = make_loop(loop.options, store, w.catalogue(tmp_path / "ref"))
    ingest = Ingest(fresh.baselines, loop.options, Refetch(loop.options, loop.store))
    for source in archived_sources(tmp_path / "archive"):
        with store.read() as connection:
            cursors = read_cursors(connection)
        prepared = ingest.prepare(list(read_frames(tmp_path / "archive", source)), cursors)
        with store.write() as connection:
            ingest.commit(connection, prepared)
    fresh.roster.finish(fresh)
    got = w.snapshot(store)
    assert len(wanted["cases"]) > 20
    for table in ("records", "windows", "window_samples", "cases", "case_tensors", "feedback", "events", "versions"):
        assert got[table] == wanted[table], table
    store.close()
    loop.store.close()


def test_a_record_that_left_the_log_is_found_in_the_archive(tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    fetch = Refetch(loop.options, loop.store)
    with loop.store.read() as connection:
        rows = list(connection.execute(sa.select(t.records).order_by(t.records.c.seq)).mappings())
    places = [Place(**{k: row[k] for k in ("source", "segment", "offset", "sequence")}) for row in rows[::37]]
    before = [fetch(p).ids for p in places]  # type: ignore[union-attr]
    compact(loop)
    again = Refetch(loop.options, loop.store)
    assert [again(p).ids for p in places] == before  # type: ignore[union-attr]
    assert Refetch(loop.options)(places[0]) is None, "without the catalogue nobody finds it: the log has let it go"
    loop.store.close()


def test_duckdb_reads_the_archive(tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    compact(loop)
    with loop.store.read() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(t.records))
    found = duckdb.sql(
        f'select count(*), count(distinct id), min(len("in.x")), max(len("out.logits")), min(model) from '
        f"read_parquet('{tmp_path}/archive/model=*/**/*.parquet', union_by_name = true, hive_partitioning = false)"
    ).fetchall()
    assert found == [(count, count, 64, 10, "digits")]
    loop.store.close()


def test_a_living_writer_keeps_its_last_segment(tmp_path: Path) -> None:
    replica = w.Replica(tmp_path / "records", segment_bytes=60_000)
    d = w.digits()
    for i in range(20):
        ids = [f"{i}-{k}" for k in range(20)]
        replica.offer(w.batch(d.images[:20], ids, [(w.START_S + i) * w.SECOND + k for k in range(20)]))
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    loop = make_loop(w.options(tmp_path), store, w.catalogue(tmp_path / "ref"))
    drain(loop)
    before = everything(tmp_path / "records")
    compact(loop)
    log, archive = everything(tmp_path / "records"), everything_archived(tmp_path / "archive")
    assert archive
    assert log
    assert archive + log == before
    replica.close()
    drain(loop)
    compact(loop)
    assert everything_archived(tmp_path / "archive")[: len(before)] == before
    accounts = store.accounting()
    assert sum(a.unexplained for a in accounts) == 0
    assert sum(a.lost + a.corrupt for a in accounts) == 0
    store.close()


class Killed(Exception):
    """Stands for SIGKILL at one place."""


@pytest.mark.parametrize("step", ["before_rename", "before_commit", "after_commit"])
def test_killed_between_any_two_steps_nothing_is_lost_or_there_twice(step: str, tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    before = everything(tmp_path / "records")
    one = compactor(loop)

    class Stops(Compactor):
        def _release(self, *args: object, **kwargs: object) -> None:
            if step == "after_commit" and args[2]:
                raise Killed
            super()._release(*args, **kwargs)  # type: ignore[arg-type]

    one = Stops(loop.store, loop.options.records_root, loop.options.archive_root, NOW)
    with pytest.MonkeyPatch.context() as patch:
        if step == "before_rename":
            patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(Killed()))
        if step == "before_commit":
            patch.setattr(compact_module, "add_files", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            one.turn()
    assert everything(tmp_path / "records") == before, "no segment goes before its copy is committed"
    compact(loop)
    assert sorted(everything_archived(tmp_path / "archive"), key=repr) == sorted(before, key=repr)
    assert not list((tmp_path / "archive").rglob("*.tmp"))
    loop.store.close()


def test_files_that_nobody_names_are_swept_after_an_hour(tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    compact(loop)
    kept = archived(tmp_path / "archive")
    stray = tmp_path / "archive" / "frames" / "r9-000000000000000000000000-00000001-00000001-0.parquet"
    shutil.copy(tmp_path / "archive" / kept[0].path, stray)
    assert compactor(loop).sweep() == 0, "somebody may be about to name it"
    old = Compactor(loop.store, loop.options.records_root, loop.options.archive_root, NOW, wall=lambda: 9e9)
    assert old.sweep() == 1
    assert archived(tmp_path / "archive") == kept
    loop.store.close()


def test_a_damaged_segment_stays_and_the_ones_before_it_go(tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    source = RecordLogReader(tmp_path / "records").sources()[0]
    numbers = sorted((tmp_path / "records" / source).glob("*.seg"))
    data = bytearray(numbers[3].read_bytes())
    data[5000] ^= 1
    numbers[3].write_bytes(data)
    compact(loop)
    left = sorted((tmp_path / "records" / source).glob("*.seg"))
    assert left == numbers[3:]
    loop.store.close()


KINDS = [d for d in Datatype if d not in (Datatype.BYTES,)]


def test_every_datatype_and_odd_records_survive(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    writer = RecordLogWriter(tmp_path / "records", "r", CaptureOptions())
    for number, datatype in enumerate(KINDS):
        schema = RecordSchema("m", "1", "d", (TensorColumn("x", datatype), TensorColumn("s", Datatype.BYTES)), ())
        if datatype is Datatype.BOOL:
            x = rng.integers(0, 2, (6, 3)).astype(bool)
        else:
            x = rng.integers(0, 256, 6 * 3 * datatype.itemsize, np.uint8).view(datatype.numpy).reshape(6, 3)
            if datatype.is_float:
                x = np.nan_to_num(x.astype(np.float64), posinf=1, neginf=1).astype(datatype.numpy)
        texts = [b"\x00\x00\x00\x00", b"\x02\x00\x00\x00\xff\x00" + b"\x01\x00\x00\x00a", b"\x03\x00\x00\x00abc"]
        batch = RecordBatch(
            schema=schema,
            ids=[b"\xff\xfe" + bytes([number + 1]), f"ü{number}".encode(), b"plain%d" % number],
            time_ns=[10 * number + k for k in range(3)],
            variant="champion",
            outcome=Outcome.OK,
            queue_ns=[1000] * 3,
            total_ns=[5000] * 3,
            rows=[1, 3, 2],
            inputs=(Rows(x, (3,), 3 * x.itemsize), Ragged(texts, [(1,), (2,), (1,)])),
            params=[None, b'{"a":1}', None],
            tags=[b"t", None, None],
            probability=0.25,
        )
        writer.slot("m", "1").received(3)
        writer.offer(batch)
        assert writer.flush(5.0)
    writer.close()
    before = everything(tmp_path / "records")
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    loop = make_loop(w.options(tmp_path), store, w.catalogue(tmp_path / "ref"))
    drain(loop)
    compact(loop)
    assert everything_archived(tmp_path / "archive") == before
    groups = [r for f in archived(tmp_path / "archive") if f.kind == "records"
              for _, r in read_groups(tmp_path / "archive" / f.path)]  # fmt: skip
    assert sum(map(len, groups)) == 3 * len(KINDS)
    store.close()
