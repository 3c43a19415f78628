"""The double behind the data plane: answers, records and faults as a client and the monitor see them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring.records.record import CaptureOptions, Outcome
from serving.options import BatchOptions, RuntimeOptions
from serving.runtime.arena import _Block
from tests.serving.test_batching import accept, answered, assert_conserved, images, recorded
from tests.support.packages import digits_like_package
from tests.support.planes import Collected, Plane


def plane_on(folder: Path, device: str, *, capture: bool = False, max_rows: int = 8, graphs: bool = True) -> Plane:
    return Plane(
        folder,
        [digits_like_package(folder)],
        inline=False,
        depth=2,
        capture=CaptureOptions() if capture else None,
        batch=BatchOptions(max_rows=max_rows),
        runtime=RuntimeOptions(device=device, lanes=2, cuda_graphs=graphs),
    )


async def drive(plane: Plane, count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Send requests of one to three rows in waves, check every answer; what was sent by id."""
    reply, sent = Collected(), {}
    for number in range(count):
        x = images(1 + number % 3, seed=number)
        entry = accept(plane, reply, x, id=f"r{number}")
        sent[f"r{number}"] = x
        assert entry is not None
        if number % 8 == 7:
            await reply.wait(number - 4)
    await reply.wait(count)
    runtime = plane.runtimes["digits"].inner
    for entry, status, _, body in reply.answers:
        assert status == 200
        x = sent[entry.id_json.decode()]
        np.testing.assert_allclose(answered(body, 10), runtime.run([x], (0,))[0], rtol=1e-4, atol=1e-5)
    return sent


def spoiled_records(plane: Plane, sent: dict[str, np.ndarray[Any, Any]]) -> int:
    """Records whose input is not what the request with that id held."""
    seen, spoiled = 0, 0
    for records in recorded(plane.records):
        column = records.input("x")
        for row, name in enumerate(records.ids):
            seen += 1
            spoiled += not np.array_equal(column.get(row), sent[name])
    assert seen == len(sent)
    return spoiled


@pytest.mark.parametrize("together", [True, False], ids=["small ones copied", "each by itself"])
async def test_records_hold_what_was_sent_while_the_memory_is_used_again(tmp_path: Path, together: bool) -> None:
    plane = plane_on(tmp_path, "double:0.5ms", capture=True)
    if not together:
        plane.versions["digits"].capture._held = None  # small batches are lent to the log, as large ones are
    sent = await drive(plane, 240)
    facts = plane.runtimes["digits"].inner.facts  # type: ignore[attr-defined]
    plane.close()
    assert 0 < facts["pinned_bytes"] < 1 << 20, "far less than 240 requests: memory was used again"
    assert spoiled_records(plane, sent) == 0


async def test_without_the_guard_records_are_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the test above."""
    monkeypatch.setattr(_Block, "free", property(lambda self: True))
    plane = plane_on(tmp_path, "double:0.5ms", capture=True)
    plane.versions["digits"].capture._held = None
    sent = {}
    reply = Collected()
    for number in range(64):  # one after the other, so that only the record log still holds the memory
        sent[f"r{number}"] = images(1, seed=number)
        accept(plane, reply, sent[f"r{number}"], id=f"r{number}")
        await reply.wait(number + 1)
    plane.close()
    assert spoiled_records(plane, sent) > 0


async def test_f09_a_large_batch_that_runs_out_of_memory_is_answered_in_two_halves(tmp_path: Path) -> None:
    plane = plane_on(tmp_path, "double:1ms,oom_above=4", max_rows=8)
    reply = Collected()
    entries = [accept(plane, reply, images(2, seed=n)) for n in range(4)]
    await reply.wait(4)
    assert [status for _, status, *_ in reply.answers] == [200] * 4
    assert plane.runtimes["digits"].batches == [8, 4, 4], "positive control: the whole batch was tried"
    assert len(entries) == 4
    plane.close()


async def test_f09_what_does_not_fit_in_halves_is_503_for_that_batch_only(tmp_path: Path) -> None:
    plane = plane_on(tmp_path, "double:1ms,oom_above=4", max_rows=16, capture=True)
    reply = Collected()
    accept(plane, reply, images(10, seed=1))
    await reply.wait(1)
    (_, status, headers, body) = reply.answers[0]
    assert status == 503
    assert b"retry-after" in headers
    assert b"ran out of memory" in body
    accept(plane, reply, images(3, seed=2))
    await reply.wait(2)
    assert reply.answers[1][1] == 200
    plane.close()
    assert_conserved(plane, {Outcome.OK: 1, Outcome.REJECTED: 1})


async def test_f10_a_broken_device_fails_one_batch_and_no_other(tmp_path: Path) -> None:
    """What comes after the failing batch gets no answer here: the process ends, and another one is asked."""
    plane = plane_on(tmp_path, "double:1ms,lost_at=13", max_rows=16, graphs=False)
    watched, reply = plane.runtimes["digits"], Collected()
    accept(plane, reply, images(3))
    await reply.wait(1)
    accept(plane, reply, images(13))
    await reply.wait(2)
    for _ in range(5):
        accept(plane, reply, images(3))
    while len(watched.batches) < 3:  # the runtime was asked, and refused
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert [status for _, status, *_ in reply.answers] == [200, 500]
    assert not watched.inner.healthy
    plane.close()


async def test_a_second_batch_begins_beside_a_running_one_only_when_it_is_full(tmp_path: Path) -> None:
    """Computations of one device are in a row: a partial batch that starts early only makes batches smaller."""
    plane = plane_on(tmp_path, "double:150ms", max_rows=8, graphs=False)
    runtime, reply = plane.runtimes["digits"], Collected()
    runtime.batches.clear()
    accept(plane, reply, images(1))
    await asyncio.sleep(0.005)
    for n in range(5):
        accept(plane, reply, images(1, seed=n))
        await asyncio.sleep(0.001)
    assert runtime.batches == [1]
    await reply.wait(6)
    assert runtime.batches == [1, 5]
    for n in range(24):
        accept(plane, reply, images(1, seed=n))
    for _ in range(60):
        await asyncio.sleep(0.001)
        if len(runtime.batches) == 4:
            break
    assert runtime.batches == [1, 5, 8, 8], "full batches overlap"
    await reply.wait(30)
    plane.close()
