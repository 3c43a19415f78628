"""Batching and the end of a request's life: merge, split, deadlines, overload, clients gone, models that misbehave."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np
import pytest

from export.contracts.errors import Overloaded, Unavailable
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import CaptureOptions, Durability, Outcome
from serving.call import Call
from serving.entry import Entry
from serving.options import BatchOptions
from serving.stats import ReleaseReason
from tests.support.packages import digits_like_package, variable_length_package
from tests.support.planes import Collected, Plane
from tests.support.records import recorded


def binary(x: np.ndarray[Any, Any], **head: Any) -> tuple[bytes, bytes]:
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    text = json.dumps({"inputs": [tensor], **head}).encode()
    return text + x.tobytes(), str(len(text)).encode()


def accept(plane: Plane, reply: Collected, x: np.ndarray[Any, Any], model: str = "digits", **head: Any) -> Entry:
    body, length = binary(
        x, outputs=[{"name": head.pop("output", "logits"), "parameters": {"binary_data": True}}], **head
    )
    return plane.data.accept(Call(model=model, header_length=length), body, reply)


def answered(body: bytes, width: int) -> np.ndarray[Any, Any]:
    rows = json.loads(body[: body.index(b"]}]}") + 4] if b"]}]}" in body else body.split(b"}}]}")[0] + b"}}]}")
    shape = rows["outputs"][0]["shape"]
    return np.frombuffer(body[-4 * int(np.prod(shape)) :], "<f4").reshape(shape)


def images(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((count, 1, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("inline", [True, False])
async def test_each_request_gets_its_own_rows_back(tmp_path: Path, inline: bool) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=inline)
    runtime, reply = plane.runtimes["digits"], Collected()
    inputs = [images(1 + i % 4, seed=i) for i in range(50)]
    entries = [accept(plane, reply, x) for x in inputs]
    await reply.wait(50)
    truth = {id(e): runtime.inner.run([x], [0])[0] for e, x in zip(entries, inputs, strict=True)}
    for entry, status, _, body in reply.answers:
        assert status == 200
        np.testing.assert_allclose(answered(body, 10), truth[id(entry)], rtol=1e-4, atol=1e-5)
    assert sum(runtime.batches) == sum(len(x) for x in inputs)
    assert len(runtime.batches) < 10, "requests that wait together run together"
    plane.close()


async def test_a_request_larger_than_the_largest_batch_is_split_and_joined(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], batch=BatchOptions(max_rows=8))
    runtime, reply = plane.runtimes["digits"], Collected()
    x = images(21)
    accept(plane, reply, x)
    await reply.wait(1)
    np.testing.assert_allclose(answered(reply.answers[0][3], 10), runtime.inner.run([x], [0])[0], rtol=1e-4, atol=1e-5)
    assert runtime.batches == [8, 8, 5]
    plane.close()


async def test_a_batch_never_exceeds_its_rows_when_requests_fit(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], batch=BatchOptions(max_rows=8))
    reply = Collected()
    for i in range(20):
        accept(plane, reply, images(3, seed=i))
    await reply.wait(20)
    assert max(plane.runtimes["digits"].batches) <= 8
    assert plane.versions["digits"].stats.release[ReleaseReason.FULL] > 0
    plane.close()


async def test_different_shapes_wait_in_different_queues(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [variable_length_package(tmp_path)])
    reply = Collected()
    widths = [3, 5, 3, 5, 3]
    for width in widths:
        accept(plane, reply, np.full((1, width), float(width), np.float32), model="varlen", output="sum")
    await reply.wait(5)
    assert sorted(plane.runtimes["varlen"].batches) == [2, 3]
    sums = sorted(float(np.frombuffer(body[-4:], "<f4")[0]) for *_, body in reply.answers)
    assert sums == [9.0, 9.0, 9.0, 25.0, 25.0]
    plane.close()


async def test_urgent_requests_overtake_waiting_ones(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False)
    plane.runtimes["digits"].sleep_s = 0.05
    reply = Collected()
    accept(plane, reply, images(1))
    await asyncio.sleep(0.01)  # runs
    normal = [accept(plane, reply, images(1)) for _ in range(3)]
    urgent = accept(plane, reply, images(1), parameters={"priority": 1})
    await reply.wait(5)
    order = [entry for entry, *_ in reply.answers]
    assert order.index(urgent) < min(order.index(e) for e in normal)
    plane.close()


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False, batch=BatchOptions(queue_rows=4, max_rows=2))
    plane.runtimes["digits"].sleep_s = 0.1
    reply = Collected()
    for _ in range(4):
        accept(plane, reply, images(1))
    with pytest.raises(Overloaded) as caught:
        accept(plane, reply, images(1))
    assert caught.value.retry_after_s >= 1
    await reply.wait(4)
    accept(plane, reply, images(1))  # there is room again
    await reply.wait(5)
    assert [status for _, status, *_ in reply.answers] == [200] * 5
    plane.close()


async def test_a_passed_deadline_is_answered_while_the_model_still_runs(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False, capture=CaptureOptions())
    runtime = plane.runtimes["digits"]
    runtime.sleep_s = 0.6
    reply = Collected()
    begun = perf_counter()
    running = accept(plane, reply, images(1), parameters={"timeout": 100_000})
    await asyncio.sleep(0.02)
    waiting = accept(plane, reply, images(1), parameters={"timeout": 100_000})
    await reply.wait(2)
    assert perf_counter() - begun < 0.4
    assert {id(e) for e, status, *_ in reply.answers if status == 504} == {id(running), id(waiting)}
    await asyncio.sleep(0.7)
    assert len(reply.answers) == 2, "nothing is answered twice"
    assert runtime.batches == [1], "a request that waited past its deadline never reaches the model"
    stats = plane.versions["digits"].stats
    assert {k[1]: v for k, v in stats.requests.items()} == {Outcome.DEADLINE: 2}
    plane.close()
    assert_conserved(plane, {Outcome.DEADLINE: 2})


async def test_a_client_that_is_gone_never_reaches_the_model(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], capture=CaptureOptions())
    reply = Collected()
    gone = accept(plane, reply, images(1))
    kept = accept(plane, reply, images(2))
    gone.cancelled = True
    await reply.wait(1)
    assert reply.answers[0][0] is kept
    assert plane.runtimes["digits"].batches == [2]
    plane.close()
    assert_conserved(plane, {Outcome.OK: 1, Outcome.CANCELLED: 1})


@pytest.mark.parametrize("inline", [True, False])
async def test_a_model_that_raises_fails_its_batch_and_nothing_else(tmp_path: Path, inline: bool) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=inline, capture=CaptureOptions())
    runtime, reply = plane.runtimes["digits"], Collected()
    runtime.error = RuntimeError("secret /etc/passwd")
    for _ in range(3):
        accept(plane, reply, images(1))
    await reply.wait(3)
    runtime.error = None
    accept(plane, reply, images(1))
    await reply.wait(4)
    assert [status for _, status, *_ in reply.answers] == [500, 500, 500, 200]
    assert all(b"secret" not in body for *_, body in reply.answers)
    plane.close()
    assert_conserved(plane, {Outcome.OK: 1, Outcome.FAILED: 3})


async def test_rows_in_must_equal_rows_out(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)])
    plane.runtimes["digits"].lose_rows = 1
    reply = Collected()
    accept(plane, reply, images(3))
    await reply.wait(1)
    _, status, _, body = reply.answers[0]
    assert status == 500
    assert b"2 rows for 3 rows" in body
    plane.close()


async def test_non_finite_outputs_spoil_only_their_own_request(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], capture=CaptureOptions())
    good, bad = images(1), np.full((1, 1, 8, 8), np.float32(3e38))
    answers = await asyncio.gather(
        *(
            plane.data.infer(Call(model="digits", header_length=length), body)
            for body, length in (binary(x) for x in (good, bad, good))
        )
    )
    assert [a.status for a in answers] == [200, 500, 200]
    assert b"logits" in answers[1].body
    plane.close()
    assert_conserved(plane, {Outcome.OK: 2, Outcome.FAILED: 1})


async def test_a_closed_version_answers_what_waits_and_takes_nothing_more(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False)
    plane.runtimes["digits"].sleep_s = 0.05
    reply = Collected()
    accept(plane, reply, images(1))
    await asyncio.sleep(0.01)
    accept(plane, reply, images(1))
    plane.versions["digits"].batcher.close()
    await reply.wait(1)
    with pytest.raises(Unavailable):
        accept(plane, reply, images(1))
    await reply.wait(2)
    assert sorted(status for _, status, *_ in reply.answers) == [200, 503]


async def test_batches_overlap_when_the_runtime_takes_several_at_once(tmp_path: Path) -> None:
    took, package = {}, digits_like_package(tmp_path)
    for depth in (1, 3):
        plane = Plane(
            tmp_path / str(depth),
            [package],
            inline=False,
            depth=depth,
            batch=BatchOptions(max_rows=2),
        )
        runtime, reply = plane.runtimes["digits"], Collected()
        runtime.sleep_s = 0.1
        begun = perf_counter()
        inputs = [images(1, seed=i) for i in range(12)]
        entries = [accept(plane, reply, x) for x in inputs]
        await asyncio.sleep(0.05)
        batcher = plane.versions["digits"].batcher
        assert batcher.running == depth
        assert 0 < batcher.busy_since_ns < perf_counter_ns() - 40_000_000
        assert not batcher.idle
        await reply.wait(12)
        took[depth] = perf_counter() - begun
        truth = {id(e): runtime.inner.run([x], [0])[0] for e, x in zip(entries, inputs, strict=True)}
        for entry, status, _, body in reply.answers:
            assert status == 200
            np.testing.assert_allclose(answered(body, 10), truth[id(entry)], rtol=1e-4, atol=1e-5)
        assert runtime.batches == [2] * 6
        assert batcher.idle
        assert batcher.busy_since_ns == 0
        plane.close()
    assert took[3] < 0.75 * took[1], "six batches of 0.1 s: three at a time"


async def test_a_full_batch_does_not_wait_until_the_one_before_is_answered(tmp_path: Path) -> None:
    """While the loop answers it holds the interpreter, which a thread needs in order to begin."""
    model_s, answers_s = 0.02, 0.01
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False, batch=BatchOptions(max_rows=4))
    plane.runtimes["digits"].sleep_s = model_s
    batcher = plane.versions["digits"].batcher
    finish = batcher._finish

    def slowly(*batch: Any) -> None:
        until = perf_counter() + answers_s
        while perf_counter() < until:
            pass
        finish(*batch)

    batcher._finish = slowly
    reply = Collected()
    for i in range(80):
        accept(plane, reply, images(1, seed=i))
    await reply.wait(80)
    assert plane.runtimes["digits"].batches.count(4) >= 19
    cycle_s = 4 * batcher.gate.pace.row_ns / 1e9  # from the end of a batch to the end of the next
    assert model_s < cycle_s < model_s + 0.8 * sys.getswitchinterval()  # after which the thread gets it in any case
    plane.close()


async def test_deadlines_hold_for_every_batch_under_way(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False, depth=2, batch=BatchOptions(max_rows=1))
    plane.runtimes["digits"].sleep_s = 0.5
    reply = Collected()
    begun = perf_counter()
    for _ in range(3):
        accept(plane, reply, images(1), parameters={"timeout": 80_000})
    await reply.wait(3)
    assert perf_counter() - begun < 0.4
    assert [status for _, status, *_ in reply.answers] == [504] * 3
    await asyncio.sleep(0.6)
    assert plane.runtimes["digits"].batches == [1, 1], "the third waited past its deadline"
    assert len(reply.answers) == 3
    plane.close()


@pytest.mark.parametrize("durability", list(Durability))
async def test_an_answer_waits_for_its_record_when_the_settings_promise_that(
    tmp_path: Path, durability: Durability
) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], capture=CaptureOptions(durability=durability))
    body, length = binary(images(1), id="named")
    answer = await plane.data.infer(Call(model="digits", header_length=length), body)
    assert answer.status == 200
    if durability is not Durability.ASYNC:  # read before anything is flushed or closed
        assert [r.ids for r in recorded(plane.records)] == [["named"]]
    plane.close()
    records = recorded(plane.records)
    assert [r.ids for r in records] == [["named"]]
    np.testing.assert_array_equal(records[0].input("x").get(0), images(1))
    assert records[0].output("embedding").get(0).shape == (1, 64)


def assert_conserved(plane: Plane, outcomes: dict[Outcome, int]) -> None:
    """Every request is in the log once, with its outcome, and the account closes."""
    found: dict[str, int] = {}
    for records in recorded(plane.records):
        found[str(records.outcome)] = found.get(str(records.outcome), 0) + len(records.ids)
    assert found == {str(k): v for k, v in outcomes.items()}
    reader = RecordLogReader(plane.records)
    for source in reader.sources():
        account = reader.accounting(source)
        assert account.slots
        assert all(slot.in_flight == 0 for slot in account.slots.values())
