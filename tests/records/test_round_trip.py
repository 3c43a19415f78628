"""What is offered is what is read, for every datatype and layout."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts.datatypes import Datatype
from monitoring.records.export import export_jsonl, export_parquet, tail
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import (
    CaptureOptions,
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
from monitoring.records.writer import RecordLogWriter
from tests.support.records import assert_conserved, names, offer

NUMERIC = [d for d in Datatype if d is not Datatype.BYTES]


def wire(elements: list[bytes]) -> bytes:
    return b"".join(len(e).to_bytes(4, "little") + e for e in elements)


@st.composite
def tensors(draw: st.DrawFn, datatype: Datatype, rows: list[int]) -> tuple[Any, list[Any]]:
    """A tensor of a batch, and each record's expected (shape, bytes or elements)."""
    row_shape = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    if datatype is Datatype.BYTES:
        elements = [
            draw(
                st.lists(
                    st.binary(max_size=5), min_size=math.prod((r, *row_shape)), max_size=math.prod((r, *row_shape))
                )
            )
            for r in rows
        ]
        shapes = [(r, *row_shape) for r in rows]
        return Ragged([wire(e) for e in elements], shapes), list(zip(shapes, elements, strict=True))
    if draw(st.booleans()):
        shapes = [(r, *row_shape) for r in rows]
    else:
        shapes = [(r, *draw(st.lists(st.integers(0, 3), max_size=2))) for r in rows]
    pieces = [draw(st.binary(min_size=(n := math.prod(s) * datatype.itemsize), max_size=n)) for s in shapes]
    expected = list(zip(shapes, pieces, strict=True))
    if all(s[1:] == row_shape for s in shapes):
        data: Any = b"".join(pieces)
        if draw(st.booleans()):
            data = np.frombuffer(data, datatype.numpy).reshape(sum(rows), *row_shape)
        return Rows(data, row_shape, math.prod(row_shape) * datatype.itemsize), expected
    return Ragged(pieces, shapes), expected


@st.composite
def batches(draw: st.DrawFn) -> tuple[RecordBatch, list[list[Any]], list[int]]:
    n = draw(st.integers(1, 5))
    many_rows = draw(st.booleans())
    rows = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)) if many_rows else [1] * n
    columns = [TensorColumn(f"t{i}é.in", draw(st.sampled_from(list(Datatype)))) for i in range(draw(st.integers(0, 3)))]
    drawn = [draw(tensors(c.datatype, rows)) for c in columns]
    split = draw(st.integers(0, len(columns)))
    schema = RecordSchema("m", draw(st.sampled_from(["1", "2"])), "d", tuple(columns[:split]), tuple(columns[split:]))

    def optional(strategy: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | st.lists(st.none() | strategy, min_size=n, max_size=n))

    batch = RecordBatch(
        schema=schema,
        ids=draw(
            st.lists(st.text(max_size=20).map(lambda s: s.encode()) | st.binary(max_size=9), min_size=n, max_size=n)
        ),
        time_ns=draw(st.lists(st.integers(0, 2**62), min_size=n, max_size=n)),
        variant=draw(st.sampled_from(["champion", "shadow"])),
        outcome=draw(st.sampled_from(list(Outcome))),
        queue_ns=draw(st.lists(st.integers(0, 2**50), min_size=n, max_size=n)),
        total_ns=draw(st.lists(st.integers(0, 2**31), min_size=n, max_size=n)),
        rows=rows if many_rows else None,
        inputs=tuple(t for t, _ in drawn[:split]),
        outputs=tuple(t for t, _ in drawn[split:]),
        error=optional(st.text(max_size=10)),
        params=optional(st.binary(max_size=10)),
        trace_ids=optional(st.binary(max_size=10)),
        tags=optional(st.binary(max_size=10)),
        probability=draw(st.sampled_from([1.0, 0.25])),
    )
    return batch, [e for _, e in drawn], rows


@settings(max_examples=120, deadline=None)
@given(offered=st.lists(batches(), min_size=1, max_size=5))
def test_every_record_comes_back_bit_for_bit(offered: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        writer = RecordLogWriter(root, "replica#1/ü", CaptureOptions(segment_bytes=4096))
        # A mark of its own in every record: the test must find each again although frames merge and re-order batches.
        expected: dict[int, tuple[RecordBatch, list[list[Any]], list[int], int]] = {}
        for batch, values, rows in offered:
            start = len(expected)
            batch.total_ns = [(start + k) * 1000 for k in range(len(batch.ids))]
            for k in range(len(batch.ids)):
                expected[start + k] = (batch, values, rows, k)
            writer.slot(batch.schema.model, batch.schema.version).received(len(batch.ids))
            writer.offer(batch)
        writer.close()
        reader = RecordLogReader(root)
        (source,) = reader.sources()
        seen: set[int] = set()
        for frame in reader.read(source, None, 1 << 60):
            records = frame.records()
            for i, mark in enumerate(records.total_us.tolist()):
                batch, values, rows, k = expected[mark]
                seen.add(mark)
                assert records.ids[i].encode("utf-8", "surrogateescape") == batch.ids[k]
                assert (records.version, records.variant, records.outcome) == (
                    batch.schema.version,
                    batch.variant,
                    batch.outcome,
                )
                assert records.time_ns[i] == batch.time_ns[k]
                assert records.queue_us[i] == min(batch.queue_ns[k] // 1000, 2**31 - 1)
                assert records.rows[i] == rows[k]
                assert records.probability[i] == batch.probability
                for column, found in (
                    (batch.error, records.error),
                    (batch.params, records.params),
                    (batch.trace_ids, records.trace_ids),
                    (batch.tags, records.tags),
                ):
                    assert found[i] == (None if column is None else column[k])
                views = [records.input(c.name) for c in batch.schema.inputs]
                views += [records.output(c.name) for c in batch.schema.outputs]
                for view, tensor in zip(views, values, strict=True):
                    shape, content = tensor[k]
                    assert view.shape(i) == shape
                    array = view.get(i)
                    assert array.shape == shape
                    if view.datatype is Datatype.BYTES:
                        assert array.ravel().tolist() == content
                    else:
                        assert array.tobytes() == content
                        if view.uniform is not None:
                            assert view.uniform[i : i + 1].tobytes() == content
        assert seen == set(expected)
        assert_conserved(reader.accounting(source).slots, requests=len(expected))
        assert verify(root).ok
        assert sum(1 for entry in tail(root, tensors=True) if json.dumps(entry, allow_nan=False)) == len(expected)
        assert sum(export_parquet(root, root / "parquet").values()) == len(expected)
        reader.close()


@pytest.mark.parametrize("datatype", NUMERIC)
def test_a_uniform_batch_is_read_without_a_copy(tmp_path: Path, datatype: Datatype) -> None:
    rng = np.random.default_rng(1)
    data = rng.integers(0, 2, (7, 2, 3)).astype(datatype.numpy)
    schema = RecordSchema("m", "1", "", (TensorColumn("x", datatype),))
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    rows = Rows(data, (2, 3), 6 * datatype.itemsize)
    writer.offer(
        RecordBatch(
            schema=schema,
            ids=[b"%d" % i for i in range(7)],
            time_ns=[0] * 7,
            variant="champion",
            outcome=Outcome.OK,
            queue_ns=[0] * 7,
            total_ns=[0] * 7,
            inputs=(rows,),
        )
    )
    writer.close()
    reader = RecordLogReader(tmp_path)
    (frame,) = reader.read(reader.sources()[0], None, 1 << 30)
    found = frame.records().input("x").uniform
    assert found is not None
    assert found.dtype == datatype.numpy
    assert np.array_equal(found, data)
    assert np.shares_memory(found, np.frombuffer(frame.payload, np.uint8))
    reader.close()


def test_a_lone_record_costs_less_than_two_kilobytes(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    sizes = []
    for record_id in ("first", "second", "third"):
        offer(writer, [record_id])
        assert writer.flush(5)
        sizes.append((writer.directory / "00000001.seg").stat().st_size)
    writer.close()
    assert sizes[2] - sizes[1] < 2000


def test_feedback_and_events_travel_the_same_log(tmp_path: Path) -> None:
    items = [
        Feedback(
            record_id="ü\udc80",
            model="m",
            time_ns=5,
            label=label,
            labels=("a", "b"),
            score=0.5,
            comment="\u2028",
            source="s",
        )
        for label in ("cat", 3, 2.5, None, 2**80)
    ]
    event = Event(
        kind="version_ready", time_ns=9, model="m", version="2", detail={"seconds": 1.5, "ok": True, "why": None}
    )
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions())
    told: list[int] = []
    for item in items:
        writer.feedback(item, told.append)
    writer.event(event)
    writer.close()
    reader = RecordLogReader(tmp_path)
    frames = list(reader.read(reader.sources()[0], None, 1 << 30))
    assert [i for f in frames if f.kind == "feedback" for i in f.feedback()] == items
    assert [f.event() for f in frames if f.kind == "event"] == [event]
    assert len(told) == len(items)
    account = reader.accounting(reader.sources()[0])
    assert (account.feedback, account.events, account.feedback_dropped) == (5, 1, 0)
    reader.close()


def test_reading_goes_on_where_it_stopped_also_in_another_process(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(segment_bytes=3000))
    for record_id in names(40):
        offer(writer, [record_id])
        assert writer.flush(5)
    writer.close()
    source = writer.directory.name
    position, found = None, []
    for _ in range(200):
        reader = RecordLogReader(tmp_path)  # a new one each time: nothing is remembered but the position
        frames = list(reader.read(source, position, 1))
        reader.close()
        if not frames:
            break
        assert len(frames) == 1
        found += frames[0].records().ids
        position = frames[0].position
    assert found == list(names(40))
    assert RecordLogReader(tmp_path).lag_bytes(source, position) < 1000


def test_a_living_log_is_followed_while_it_is_written(tmp_path: Path) -> None:
    writer = RecordLogWriter(tmp_path, "r", CaptureOptions(segment_bytes=20_000, flush_interval_s=0.001))
    reader = RecordLogReader(tmp_path)
    source = writer.directory.name
    position, found = None, []
    pending = iter([list(names(8, f"b{i}-")) for i in range(300)])
    for ids in pending:
        offer(writer, ids)
        for frame in reader.read(source, position, 1 << 20):
            found += frame.records().ids
            position = frame.position
    assert writer.flush(5)
    for frame in reader.read(source, position, 1 << 30):
        found += frame.records().ids
        position = frame.position
    assert found == [i for b in range(300) for i in names(8, f"b{b}-")]
    assert reader.damages(source) == ()
    assert reader.is_alive(source)
    writer.close()
    assert list(reader.read(source, position, 1 << 30)) == []
    assert reader.damages(source) == ()
    assert not reader.is_alive(source)
    reader.close()


def test_exports_hold_every_record(tmp_path: Path) -> None:
    root = tmp_path / "log"
    writer = RecordLogWriter(root, "r", CaptureOptions())
    offer(writer, list(names(30)))
    refused = RecordSchema("digits", "3", "sha256:0123")
    writer.slot("digits", "3").received()
    writer.offer(
        RecordBatch(
            schema=refused,
            ids=[b"bad"],
            time_ns=[1],
            variant="champion",
            outcome=Outcome.INVALID,
            queue_ns=[0],
            total_ns=[0],
            error=["input 'image' has 3 dimensions"],
        )
    )
    writer.close()
    assert export_jsonl(root, tmp_path / "out.jsonl") == 31
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted([*names(30), "bad"])
    (bad,) = [line for line in lines if line["id"] == "bad"]
    assert (bad["outcome"], bad["error"], bad["inputs"]) == ("invalid", "input 'image' has 3 dimensions", {})
    files = export_parquet(root, tmp_path / "parquet")
    assert sum(files.values()) == 31
    table = pq.read_table(tmp_path / "parquet" / next(n for n, rows in files.items() if rows == 30), partitioning=None)
    by_id = {line["id"]: line for line in lines}
    for row in table.to_pylist():
        assert row["in.image"] == by_id[row["id"]]["inputs"]["image"]["data"]
        assert row["in.image.shape"] == [1, 1, 4, 4]
    assert [entry["id"] for entry in tail(root, last=1)] == ["bad"]
