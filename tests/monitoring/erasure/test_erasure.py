"""After an erasure nothing of a record is left anywhere: every file of the state and the database are searched."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.archive.catalogue import list_files
from monitoring.archive.files import archived
from monitoring.archive_options import ArchiveOptions
from monitoring.cycle import Loop, make_loop
from monitoring.erasure import rows as rows_module
from monitoring.erasure.duty import Eraser
from monitoring.erasure.requests import ErasureState, digest_of, find_erasure, request_erasure
from monitoring.records.record import Feedback
from monitoring.records.verify import verify
from monitoring.report_shelf import Report, ReportShelf, ReportState
from monitoring.rescore import RescoreRequest, plan, rescore_part
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain

ID = "customer-4711-planted"
COMMENT = "Mrs Planted lives in Plantedstreet"
MARK = np.float32(0.5431276).tobytes()  # a value that only the planted image has


def state(folder: Path, *, archive: bool) -> tuple[Loop, w.Replica]:
    """A monitor that has read a log in which a record, a case and a comment are planted."""
    d = w.digits()
    replica = w.Replica(folder / "records", segment_bytes=30_000)
    for i in range(16):
        ids = [f"{i}-{k}" for k in range(12)]
        images = w.turned(d.images[:12]).copy()
        if i == 5:
            ids[4] = ID
            images[4].reshape(-1)[:3] = np.frombuffer(MARK * 3, np.float32)
        replica.offer(w.batch(images, ids, [(w.START_S + i) * w.SECOND + k for k in range(12)]))
        if i == 9:
            replica.feedback(
                Feedback(
                    record_id=ID,
                    model="digits",
                    time_ns=(w.START_S + 20) * w.SECOND,
                    label="planted-label",
                    score=None,
                    comment=COMMENT,
                ),
                Feedback(record_id="5-1", model="digits", time_ns=(w.START_S + 20) * w.SECOND, label="one"),
            )
    store = Store(f"sqlite:///{folder / 'monitor.db'}")
    options = w.options(
        folder, archive=ArchiveOptions(enabled=archive, file_bytes=40_000, age_s=0.0, interval_s=0.01), sample_rows=500
    )
    loop = make_loop(options, store, w.catalogue(folder / "ref"))
    drain(loop)
    return loop, replica


def search(folder: Path, *needles: bytes) -> list[str]:
    """Files below a folder that hold one of the needles; Parquet is read, because it is compressed."""
    import pyarrow.parquet as pq

    from monitoring.samples import WindowSample

    found = []
    for path in folder.rglob("*"):
        if not path.is_file() or path.is_relative_to(folder / "ref"):
            continue
        data = path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            data += repr(table.to_pylist()).encode()
            for name in table.column_names:
                if name.startswith("input:"):  # of a data set
                    data += b"".join(table[name].to_pylist())
                if name.startswith("in."):
                    data += np.concatenate(
                        [np.zeros(0, np.float32), *map(np.float32, table[name].to_pylist())]
                    ).tobytes()
        if any(needle in data for needle in needles):
            found.append(path.relative_to(folder).as_posix())
    for db in folder.glob("*.db"):
        store = sa.create_engine(f"sqlite:///{db}")
        with store.connect() as c:
            for (blob,) in c.execute(sa.select(t.window_samples.c.data)):
                if any(needle in WindowSample.decode(blob).values.tobytes() for needle in needles):
                    found.append("window sample")
        store.dispose()
    return found


def erase(loop: Loop, *ids: str, model: str | None = None) -> str:
    with loop.store.write() as connection:
        return request_erasure(connection, ids, model=model, author="test", now_ns=time.time_ns()).id


def find(loop: Loop, identity: str):  # its type is the function's
    with loop.store.read() as connection:
        return find_erasure(connection, identity)


@pytest.mark.parametrize("archive", [False, True])
def test_nothing_is_left_of_an_erased_record_and_everything_of_the_others(tmp_path: Path, archive: bool) -> None:
    loop, replica = state(tmp_path, archive=archive)
    replica.close()
    drain(loop)
    request = RescoreRequest(start_ns=0, end_ns=1 << 62)
    roots = (loop.options.records_root, loop.options.archive_root)
    for part in plan(*roots, request):
        rescore_part(part, request, loop.baselines, loop.options.cases, roots, tmp_path / "rescored" / request.id)
    shelf = ReportShelf(tmp_path / "reports")
    for number, second in enumerate((w.START_S, w.START_S + 3600)):
        start, end = (f"{np.datetime64(s, 's')}.000Z" for s in (second, second + 60))
        report = Report(id=f"{number:020x}", model="digits", version="1", start=start, end=end,
                        state=ReportState.DONE, created_at=start)  # fmt: skip
        shelf.write(report)
        (shelf.folder(report.id) / "report.html").write_text(f"<p>{0.5431276}</p>")
    needles = (ID.encode(), COMMENT.encode(), b"planted-label", MARK)
    before = search(tmp_path, *needles)
    assert any(p.endswith(".parquet" if archive else ".seg") for p in before), "positive control"
    assert {"monitor.db", "window sample"} <= {p.removesuffix("-wal") for p in before}
    assert any(p.startswith("rescored/") for p in before)
    accounts, windows = loop.store.accounting(), loop.store.windows("digits")
    records = sum(1 for _ in range(16 * 12))

    identity = erase(loop, ID)
    assert Eraser(loop.store, loop.options).turn() is False
    done = find(loop, identity)
    assert done.state is ErasureState.DONE
    assert done.counts["records"] == 1
    assert done.counts["feedback"] == 1
    assert done.counts["rescored"] == 1
    assert done.counts["reports"] == 1
    assert done.counts["archive_files" if archive else "log_frames"] >= 2
    assert search(tmp_path, *needles) == []
    assert [r.id for r in shelf.newest()] == [f"{1:020x}"]

    with loop.store.read() as connection:
        left = connection.scalar(sa.select(sa.func.count()).select_from(t.records))
        digests = list(connection.scalars(sa.select(t.erasure_items.c.digest)))
        files = {f.path for f in list_files(connection)}
    assert left == records - 1
    assert digests == [digest_of(ID)]
    assert loop.store.feedback("digits", "5-1"), "the feedback beside it stays"
    assert loop.store.accounting() == accounts, "the account still knows that there was a record"
    assert [(x.requests, x.rows) for x in loop.store.windows("digits")] == [(x.requests, x.rows) for x in windows]
    assert verify(tmp_path / "records").ok
    assert {f.path for f in archived(tmp_path / "archive")} == files
    loop.store.close()


def test_what_a_replica_still_writes_waits_until_it_is_sealed(tmp_path: Path) -> None:
    loop, replica = state(tmp_path, archive=False)
    late = "planted-late"
    replica.offer(w.batch(w.digits().images[:1], [late], [(w.START_S + 60) * w.SECOND]))
    drain(loop)
    identity = erase(loop, late)
    eraser = Eraser(loop.store, loop.options)
    eraser.turn()
    waiting = find(loop, identity)
    assert waiting.state is ErasureState.PENDING
    assert "segment_age_s" in waiting.reason
    assert not loop.store.records(late), "gone from the database at once"
    assert search(tmp_path / "records", late.encode())
    replica.close()
    drain(loop)
    eraser.turn()
    assert find(loop, identity).state is ErasureState.DONE
    assert search(tmp_path, late.encode()) == []
    loop.store.close()


def test_a_record_that_the_monitor_has_not_read_yet_does_not_come_back(tmp_path: Path) -> None:
    loop, replica = state(tmp_path, archive=False)
    replica.offer(w.batch(w.digits().images[:1], ["planted-unread"], [(w.START_S + 60) * w.SECOND]))
    replica.close()
    identity = erase(loop, "planted-unread")
    eraser = Eraser(loop.store, loop.options)
    eraser.turn()
    assert find(loop, identity).state is ErasureState.PENDING
    drain(loop)
    eraser.turn()
    assert find(loop, identity).state is ErasureState.DONE
    assert search(tmp_path, b"planted-unread") == []
    loop.store.close()


def test_only_the_named_model_is_touched_and_ids_in_other_tables_are_replaced(tmp_path: Path) -> None:
    loop, replica = state(tmp_path, archive=False)
    replica.close()
    drain(loop)
    with loop.store.write() as connection:
        row = {"source": "s", "sequence": 1, "time_ns": 1, "kind": "k", "model": "digits", "version": "1"}
        connection.execute(t.events.insert().values(**row, detail={"about": ID}))
    Eraser(loop.store, loop.options).turn()
    identity = erase(loop, ID, model="another")
    Eraser(loop.store, loop.options).turn()
    assert find(loop, identity).state is ErasureState.DONE
    assert loop.store.records(ID), "another model's record of that name was meant"
    erase(loop, ID)
    Eraser(loop.store, loop.options).turn()
    with loop.store.read() as connection:
        found = [d for d in connection.scalars(sa.select(t.events.c.detail)) if "about" in d]
    assert found == [{"about": "erased:" + digest_of(ID)[:16]}]
    assert json.dumps(found)
    loop.store.close()


def test_every_table_says_what_becomes_of_a_record_in_it() -> None:
    """A new table with bytes, or with a record's id, must be named where the erasure is described."""
    known = {*rows_module.DELETED, *rows_module.CASCADES, *rows_module.SAMPLES, *rows_module.OWN, *rows_module.SCRUBBED,
             *rows_module.PEOPLE, *rows_module.EMPTIED}  # fmt: skip
    assert {table.name for table in t.metadata.sorted_tables} <= known, (
        "say in monitoring/erasure/rows.py what an erasure does to this table"
    )
