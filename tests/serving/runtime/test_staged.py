"""Lanes, graphs and staged memory on the double: results equal to serial ones, whatever overlaps with what."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed
from export.contracts.signature import InputSpec, OutputSpec, Signature
from serving.runtime.base import DeviceLost, LoadFailed, OutOfMemory
from serving.runtime.buckets import bucket_of, buckets, sample_inputs
from serving.runtime.double import parse_double
from serving.runtime.host_streams import DoubleOptions, HostAccelerator
from serving.runtime.staged import GraphOptions, StagedRuntime

Array = np.ndarray[Any, Any]
SIGNATURE = Signature(
    inputs=(
        InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 5)),
        InputSpec(name="k", datatype=Datatype.INT64, shape=(-1,)),
    ),
    outputs=(
        OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 5)),
        OutputSpec(name="n", datatype=Datatype.INT64, shape=(-1,)),
    ),
)


def program(inputs: Sequence[Array]) -> list[Array]:
    x, k = inputs
    return [x * 2 + k[:, None].astype(np.float32), k + 1]


def runtime(
    *, lanes: int = 2, graphs: bool = True, max_rows: int = 8, delay: Any = None, run: Any = program, **double: Any
) -> StagedRuntime:
    device = HostAccelerator(run, 2, DoubleOptions(**double), delay=delay)
    options = GraphOptions(enabled=graphs, max_rows=max_rows, memory_bytes=1 << 30)
    made = StagedRuntime(device, SIGNATURE, kind="onnx", provider="test", lanes=lanes, graphs=options)
    made.prepare()
    return made


def batch(rows: int, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rows, 5), dtype=np.float32), rng.integers(-99, 99, rows)]


def gathered(made: StagedRuntime, rows: int, seed: int) -> list[Array]:
    """As serving does it: straight into the runtime's own memory, where it has some."""
    arrays = []
    for index, array in enumerate(batch(rows, seed)):
        buffer = made.buffer(index, array.shape)
        if buffer is not None:
            buffer[...] = array
        arrays.append(array if buffer is None else buffer)
    return arrays


@pytest.mark.parametrize("graphs", [True, False])
@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 11), min_size=1, max_size=24),
    lanes=st.integers(1, 4),
    seed=st.integers(0, 1 << 30),
    keep=st.booleans(),
)
def test_overlapping_batches_give_what_serial_ones_give(
    graphs: bool, sizes: list[int], lanes: int, seed: int, keep: bool
) -> None:
    shake = random.Random(seed)
    made = runtime(lanes=lanes, graphs=graphs, delay=lambda: time.sleep(shake.random() * 2e-3))

    def one(number: int) -> tuple[list[Array], list[Array]]:
        inputs = gathered(made, sizes[number], seed + number)
        return inputs if keep else [], made.run(inputs, (1, 0) if number % 2 else (0, 1))

    with ThreadPoolExecutor(lanes) as threads:
        results = list(threads.map(one, range(len(sizes))))
    for number, (inputs, answers) in enumerate(results):
        sent = batch(sizes[number], seed + number)
        y, n = program(sent)
        for answer, truth in zip(answers, (n, y) if number % 2 else (y, n), strict=True):
            np.testing.assert_array_equal(answer, truth)
            assert answer.flags.c_contiguous
        for held, array in zip(inputs, sent, strict=False):
            np.testing.assert_array_equal(held, array)  # nobody wrote into what a record may still hold
    made.close()


def test_a_buffer_that_is_changed_before_the_copy_spoils_the_answer() -> None:
    """The double shows the hazard that the arena prevents: without this, the property test above proves nothing."""
    waiting, go = threading.Event(), threading.Event()

    def hold() -> None:
        waiting.set()
        go.wait(5)

    device = HostAccelerator(program, 2, DoubleOptions(), delay=hold)
    lane = device.lane()
    host = np.ones((2, 5), np.float32)
    cell = lane.upload(host)
    waiting.wait(5)
    host[:] = 9  # too early
    go.set()
    lane.finish()
    assert (cell.value == 9).all()
    device.close()


def test_a_batch_is_copied_in_while_another_is_computed() -> None:
    copies, copied_beside = 0, threading.Event()

    def count() -> None:
        nonlocal copies
        copies += 1
        if copies == 4:  # two inputs of the first batch, two of the second
            copied_beside.set()

    def until_copied(inputs: Sequence[Array]) -> list[Array]:
        overlapped.append(copied_beside.wait(5))
        return program(inputs)

    overlapped: list[bool] = []
    made = runtime(lanes=2, graphs=False, delay=count, run=until_copied)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(made.run, [batch(2, n) for n in range(2)], [(0,)] * 2))
    assert overlapped == [True, True], "the first computation saw the second batch arrive"
    made.close()


def test_computations_never_overlap_on_one_device() -> None:
    inside, most = 0, 0

    def watched(inputs: Sequence[Array]) -> list[Array]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1
        return program(inputs)

    made = runtime(lanes=4, graphs=False, run=watched)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: made.run(batch(3, n), (0,)), range(20)))
    assert most == 1
    made.close()


def test_graphs_are_recorded_at_powers_of_two_and_at_the_largest_batch() -> None:
    seen: list[int] = []

    def watched(inputs: Sequence[Array]) -> list[Array]:
        seen.append(len(inputs[0]))
        return program(inputs)

    made = runtime(max_rows=12, run=watched)
    assert made.facts["graphs"] == "1,2,4,8,12"
    assert made.facts["graph_note"] == "all sizes"
    seen.clear()
    for rows in (1, 3, 9, 12, 13):
        (answer,) = made.run(batch(rows, rows), (0,))
        np.testing.assert_array_equal(answer, program(batch(rows, rows))[0])
    assert seen == [1, 4, 12, 12, 13], "padded to the bucket; what is larger than the largest runs as it is"
    made.close()


def test_a_recording_that_computes_something_else_is_not_used() -> None:
    calls = 0

    def drifting(inputs: Sequence[Array]) -> list[Array]:
        nonlocal calls
        calls += 1
        y, n = program(inputs)
        return [y + calls, n]

    made = runtime(run=drifting)
    assert made.facts["graphs"] == ""
    assert "failed" in str(made.facts["graph_note"])
    (answer,) = made.run(batch(3, 1), (1,))
    assert len(answer) == 3
    made.close()


def test_a_signature_with_open_shapes_runs_without_graphs() -> None:
    x = InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, -1))
    y = OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, -1))
    signature = Signature(inputs=(x,), outputs=(y,))
    device = HostAccelerator(lambda a: [a[0] + 1], 1, DoubleOptions())
    options = GraphOptions(enabled=True, max_rows=8, memory_bytes=1 << 30)
    made = StagedRuntime(device, signature, kind="onnx", provider="test", lanes=1, graphs=options)
    made.prepare()
    assert "open" in str(made.facts["graph_note"])
    for width in (3, 7):
        (answer,) = made.run([np.zeros((2, width), np.float32)], (0,))
        assert (answer == 1).all()
        assert answer.shape == (2, width)
    made.close()


@pytest.mark.parametrize(
    ("costs", "recorded", "note"),
    [
        ({8: 100, 4: 100, 2: 100, 1: 100}, "4,8", "2, 1 rows"),
        ({8: 900, 4: 100, 2: 10, 1: 10}, "1,2,4", "8 rows"),
        ({8: 10, 4: 10, 2: 10, 1: 10}, "1,2,4,8", "all sizes"),
    ],
)
def test_graphs_over_their_memory_budget_are_left_out(costs: dict[int, int], recorded: str, note: str) -> None:
    """And only those: a largest batch that takes too much does not cost the small ones their graphs."""
    device = HostAccelerator(program, 2, DoubleOptions())
    options = GraphOptions(enabled=True, max_rows=8, memory_bytes=250)
    made = StagedRuntime(device, SIGNATURE, kind="onnx", provider="test", lanes=2, graphs=options)

    def taken() -> int:
        return sum(costs[rows] for rows in {rows for track in made._idle for rows in track.graphs})

    device.memory_bytes = taken  # type: ignore[method-assign]
    made.prepare()
    assert made.facts["graphs"] == recorded
    assert note in str(made.facts["graph_note"])
    for rows in (1, 2, 4, 8):
        np.testing.assert_array_equal(made.run(batch(rows, 1), (0,))[0], program(batch(rows, 1))[0])
    made.close()


def test_a_size_that_does_not_fit_at_all_leaves_the_smaller_ones() -> None:
    made = runtime(max_rows=8, oom_above=4)
    assert made.facts["graphs"] == "1,2,4"
    assert made.healthy
    made.close()


def test_more_threads_than_lanes_wait_for_each_other() -> None:
    made = runtime(lanes=2, batch_s=0.002)
    with ThreadPoolExecutor(8) as threads:
        for number, (answer,) in enumerate(threads.map(lambda n: made.run(batch(2, n), (1,)), range(40))):
            np.testing.assert_array_equal(answer, program(batch(2, number))[1])
    made.close()


# ---- faults


def test_f09_a_batch_that_does_not_fit_is_refused_and_the_next_one_is_answered() -> None:
    made = runtime(graphs=False, oom_above=4)
    with pytest.raises(OutOfMemory) as caught:
        made.run(batch(5, 1), (0,))
    assert caught.value.http_status == 503
    assert made.healthy
    assert len(made.run(batch(4, 1), (0,))[0]) == 4
    made.close()


def test_f10_a_device_that_breaks_fails_one_batch_and_refuses_the_rest() -> None:
    made = runtime(graphs=False, lost_at=7)
    made.run(batch(3, 1), (0,))
    with pytest.raises(ModelFailed, match="the model raised"):
        made.run(batch(7, 1), (0,))
    assert not made.healthy
    with pytest.raises(DeviceLost) as caught:
        made.run(batch(3, 1), (0,))
    assert caught.value.http_status == 503
    made.close()


def test_what_a_program_raises_is_a_public_error_and_the_lane_works_on() -> None:
    def picky(inputs: Sequence[Array]) -> list[Array]:
        if len(inputs[0]) == 3:
            raise ValueError("/secret/path of a framework")
        return program(inputs)

    made = runtime(lanes=1, graphs=False, run=picky)
    for _ in range(3):
        with pytest.raises(ModelFailed, match=r"^the model raised an error"):
            made.run(batch(3, 1), (0,))
        assert len(made.run(batch(2, 1), (0,))[0]) == 2
    assert made.healthy
    made.close()


def test_close_while_a_batch_runs_lets_it_end() -> None:
    closed: list[float] = []
    device = HostAccelerator(program, 2, DoubleOptions(batch_s=0.1), close=lambda: closed.append(time.perf_counter()))
    options = GraphOptions(enabled=False, max_rows=8, memory_bytes=0)
    made = StagedRuntime(device, SIGNATURE, kind="onnx", provider="test", lanes=2, graphs=options)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(made.run, batch(2, 1), (0,))
        time.sleep(0.03)
        made.close()
        assert closed == []
        np.testing.assert_array_equal(running.result()[0], program(batch(2, 1))[0])
    assert len(closed) == 1
    made.close()
    assert len(closed) == 1
    with pytest.raises(ModelFailed, match="unloaded"):
        made.run(batch(2, 1), (0,))


# ---- settings and sizes


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ("double", DoubleOptions()),
        ("double:5ms", DoubleOptions(batch_s=0.005)),
        ("double:0.5ms+20us", DoubleOptions(batch_s=0.0005, row_s=2e-5)),
        ("double:5ms,oom_above=64,lost_at=7", DoubleOptions(batch_s=0.005, oom_above=64, lost_at=7)),
        ("double,lost_at=7", DoubleOptions(lost_at=7)),
    ],
)
def test_the_setting_of_the_double(setting: str, options: DoubleOptions) -> None:
    assert parse_double(setting) == options


@pytest.mark.parametrize(
    "setting", ["doubles", "double:5", "double:ms", "double:1.2.3ms", "double,speed=3", "double:5s"]
)
def test_another_setting_is_refused(setting: str) -> None:
    with pytest.raises(LoadFailed, match="the double is double"):
        parse_double(setting)


@given(st.integers(1, 300), st.integers(1, 300))
def test_every_batch_has_the_smallest_bucket_that_holds_it(rows: int, most: int) -> None:
    sizes = buckets(most)
    assert sizes[-1] == most
    assert sizes == sorted(set(sizes))
    fitting = [s for s in sizes if s >= rows]
    assert bucket_of(rows, most) == (min(fitting) if fitting else rows)


def test_samples_have_the_signatures_shapes_and_are_the_same_every_time() -> None:
    first, second = (sample_inputs(SIGNATURE, 3) for _ in range(2))
    assert first is not None
    assert second is not None
    assert [a.shape for a in first] == [(3, 5), (3,)]
    assert [a.tobytes() for a in first] == [a.tobytes() for a in second]
