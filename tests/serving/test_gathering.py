"""Records of small batches that are held and handed over together: nothing is lost, changed or late."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring.records.record import CaptureOptions, Durability, RecordBatch
from serving.gathering import HELD_S, ROWS, Gathering
from tests.serving.test_batching import accept, answered, images
from tests.support.packages import digits_like_package
from tests.support.planes import Collected, Plane
from tests.support.records import recorded


class Offered:
    """What reaches the writer, in batches."""

    def __init__(self, plane: Plane) -> None:
        writer = plane.writer
        assert writer is not None
        self.batches: list[RecordBatch] = []
        self.inner = writer.offer
        writer.offer = self.offer  # type: ignore[method-assign]

    def offer(self, batch: RecordBatch, on_durable: Any = None) -> None:
        self.batches.append(batch)
        self.inner(batch, on_durable)

    @property
    def sizes(self) -> list[int]:
        return [len(batch.ids) for batch in self.batches]


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    made = Plane(tmp_path, [digits_like_package(tmp_path)], capture=CaptureOptions())
    yield made
    made.close()


def in_the_log(plane: Plane) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int, int]]:
    """By id: input, logits, row count and compute time in microseconds; in the order of the log."""
    found = {}
    for batch in recorded(plane.records):
        x, logits = batch.input("x"), batch.output("logits")
        for row, name in enumerate(batch.ids):
            assert name not in found, "nothing is in the log twice"
            found[name] = (x.get(row), logits.get(row), len(x.get(row)), int(batch.compute_us[row]))
    return found


async def send(plane: Plane, rows: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
    """One request after the other, of these many rows; checks the answers. Inputs by id."""
    sent, reply = {}, Collected()
    for number, count in enumerate(rows):
        sent[f"r{number}"] = images(count, seed=number)
        accept(plane, reply, sent[f"r{number}"], id=f"r{number}")
        await reply.wait(number + 1)
    assert [answered(body, 10).shape[0] for *_, body in reply.answers] == list(rows)
    return sent


async def test_every_record_has_its_own_rows_whatever_the_batches_were(plane: Plane) -> None:
    offered = Offered(plane)
    rows = [1, 1, 3, 2, 40, 1, 5, 1, 1, 33, 7, *[1] * 100]
    sent = await send(plane, rows)
    expected = {name: plane.runtimes["digits"].inner.run([x], (0,))[0] for name, x in sent.items()}
    plane.close()
    found = in_the_log(plane)
    assert set(found) == set(sent), "all of them"
    for name, x in sent.items():
        np.testing.assert_array_equal(found[name][0], x)
        np.testing.assert_allclose(found[name][1], expected[name], rtol=1e-4, atol=1e-5)
        assert found[name][2] == len(x)
        assert found[name][3] > 0
    assert sum(offered.sizes) == len(rows)
    assert max(offered.sizes) > 1, "the positive control: some were handed over together"
    assert len(offered.sizes) < len(rows) / 2


async def test_what_is_held_is_handed_over_soon_without_another_request(plane: Plane) -> None:
    offered = Offered(plane)
    await send(plane, [1])
    assert offered.sizes == [], "the positive control: it is held"
    async with asyncio.timeout(20):
        while not offered.batches:
            await asyncio.sleep(HELD_S)
    assert offered.sizes == [1]
    await asyncio.sleep(3 * HELD_S)
    assert offered.sizes == [1], "and once"


async def test_a_close_leaves_nothing_behind_and_the_account_is_exact(plane: Plane) -> None:
    await send(plane, [1, 2, 1])
    plane.close()
    assert plane.writer is not None
    account = plane.writer.accounting()["digits", "1"]
    assert (account.requests, account.captured, account.in_flight) == (3, 3, 0)
    assert len(in_the_log(plane)) == 3


async def test_requests_with_more_to_record_go_by_themselves(plane: Plane) -> None:
    offered, reply = Offered(plane), Collected()
    for number in range(6):
        extra = {"parameters": {"camera": "left"}} if number == 3 else {}
        accept(plane, reply, images(1, seed=number), id=f"r{number}", **extra)
        await reply.wait(number + 1)
    plane.close()
    assert sorted(in_the_log(plane)) == [f"r{n}" for n in range(6)]
    alone = [batch for batch in offered.batches if batch.params is not None]
    assert [batch.ids for batch in alone] == [[b"r3"]]


async def test_a_refusal_does_not_overtake_what_was_answered_before_it(plane: Plane) -> None:
    offered = Offered(plane)
    await send(plane, [1, 1])
    plane.runtimes["digits"].error = ValueError("broken")
    reply = Collected()
    accept(plane, reply, images(1), id="failed")
    await reply.wait(1)
    assert [list(batch.ids) for batch in offered.batches] == [[b"r0", b"r1"], [b"failed"]]


@pytest.mark.parametrize("durability", [Durability.BEFORE_ANSWER, Durability.SYNCED])
async def test_nothing_is_held_that_somebody_waits_for(tmp_path: Path, durability: Durability) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], capture=CaptureOptions(durability=durability))
    offered = Offered(plane)
    await send(plane, [1, 1, 1])
    assert offered.sizes == [1, 1, 1]
    plane.close()


async def test_large_rows_are_lent_and_not_copied(plane: Plane) -> None:
    version = plane.versions["digits"]
    assert plane.writer is not None

    def made(row_bytes: int) -> Gathering:
        return Gathering(plane.writer, version.capture.schema, [((row_bytes,), row_bytes)], [0], [])  # type: ignore[arg-type]

    assert made(100).small > made(8 << 10).small > made(64 << 10).small
    assert made(64 << 10).small <= 1, "an image of 64 KiB is never copied"
    assert 2 * made(1).small <= ROWS
