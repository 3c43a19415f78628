"""The canary: its share of the requests, sticky, and never an error that the champion could have spared the client."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from export.contracts.errors import InvalidRequest, ModelFailed, Overloaded
from export.contracts.traffic import ChallengerMode, Variant
from monitoring.records.record import CaptureOptions, Outcome
from serving.call import Call
from serving.evidence import Fallback
from serving.options import BatchOptions
from tests.support import packages as p
from tests.support.planes import Collected
from tests.support.trials import Trial, binary, images, version_of

CANARY = ChallengerMode.CANARY


def pair(folder: Path, **how: object) -> Trial:
    packages = [p.digits_like_package(folder), p.digits_like_package(folder, version="2", seed=7)]
    return Trial(folder, packages, **how)  # type: ignore[arg-type]


async def drain(reply: Collected, count: int) -> list[tuple[int, str]]:
    """Status and version of each answer."""
    await reply.wait(count)
    return [(status, version_of(body) if status == 200 else "") for _, status, _, body in reply.answers]


async def test_the_challenger_answers_its_share_and_every_answer_names_the_version_that_computed_it(
    tmp_path: Path,
) -> None:
    trial, reply = pair(tmp_path, capture=CaptureOptions()), Collected()
    trial.plan(CANARY, 25.0)
    n, x = 2000, images(1)
    for _ in range(n):
        trial.ask(reply, x)
        if len(reply.answers) % 64 == 0:
            await asyncio.sleep(0)
    answers = await drain(reply, n)
    count = Counter(answers)
    assert set(count) == {(200, "1"), (200, "2")}
    assert abs(count[200, "2"] - n / 4) <= 5 * math.sqrt(n * 0.25 * 0.75)
    truth = {"1": trial.champion_runtime, "2": trial.challenger_runtime}
    expected = {v: r.inner.run([x], [0])[0].tobytes() for v, r in truth.items()}
    for *_, body in reply.answers:
        got, want = (np.frombuffer(b, np.float32) for b in (body[-40:], expected[version_of(body)]))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert trial.challenger.stats.requests == {(Variant.CANARY, Outcome.OK): count[200, "2"]}
    assert trial.champion.stats.requests == {(Variant.CHAMPION, Outcome.OK): count[200, "1"]}
    assert trial.served.evidence is not None
    assert trial.served.evidence.canary_requests == count[200, "2"]
    await trial.close()
    accounts = trial.plane.writer.accounting()  # type: ignore[union-attr]
    assert {v: a.captured for (_, v), a in accounts.items() if v} == {"1": count[200, "1"], "2": count[200, "2"]}


@pytest.mark.parametrize("by", ["header", "id"])
async def test_a_client_stays_on_one_variant_and_a_larger_share_only_adds_clients(tmp_path: Path, by: str) -> None:
    trial, x = pair(tmp_path), images(1)
    clients = [b"client-%d" % i for i in range(300)]
    before: set[bytes] = set()
    for percent in (1.0, 5.0, 25.0, 100.0):
        trial.plan(CANARY, percent)
        reply = Collected()
        asked = [c for c in clients for _ in range(3)]
        for client in asked:
            if by == "header":
                trial.ask(reply, x, sticky=client)
            else:
                trial.ask(reply, x, id=client.decode())
        await reply.wait(len(asked))
        seen: dict[bytes, set[str]] = {}
        for entry, _, _, body in reply.answers:
            seen.setdefault(entry.call.sticky or entry.id, set()).add(version_of(body))
        assert all(len(versions) == 1 for versions in seen.values())
        diverted = {client for client, versions in seen.items() if versions == {"2"}}
        assert before <= diverted
        before = diverted
    assert before == set(clients)
    await trial.close()


async def test_a_request_that_names_a_version_is_not_diverted(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path), Collected()
    trial.plan(CANARY, 100.0)
    body, length = binary(images(1), outputs=[{"name": "logits", "parameters": {"binary_data": True}}])
    trial.plane.data.accept(Call(model="digits", version="1", header_length=length), body, reply)
    assert await drain(reply, 1) == [(200, "1")]
    assert list(trial.champion.stats.requests) == [(Variant.PINNED, Outcome.OK)]
    await trial.close()


async def test_what_the_challenger_fails_on_the_champion_answers_and_the_records_show_both(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path, capture=CaptureOptions()), Collected()
    trial.plan(CANARY, 100.0)
    trial.challenger_runtime.error = ModelFailed("planted")
    trial.ask(reply, images(1), id="a")
    assert await drain(reply, 1) == [(200, "1")]
    assert trial.served.evidence is not None
    assert trial.served.evidence.fallbacks[Fallback.FAILED] == 1
    assert trial.challenger_runtime.batches == [1], "the fault happened"
    await trial.close()
    seen = {(r.version, r.variant, str(r.outcome)): list(r.ids) for r in trial.recorded()}
    assert seen == {("2", "canary", "failed"): ["a"], ("1", "champion", "ok"): ["a"]}


async def test_a_challenger_that_fails_is_taken_out_within_four_requests_and_no_client_notices(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path), Collected()
    trial.plan(CANARY, 100.0)
    trial.challenger_runtime.error = ModelFailed("planted")
    for i in range(10):
        trial.ask(reply, images(1))
        await reply.wait(i + 1)
    assert await drain(reply, 10) == [(200, "1")] * 10
    assert len(trial.challenger_runtime.batches) == 4
    assert trial.kinds() == ["challenger_on_duty", "challenger_tripped"]
    assert "4 of 4 requests failed" in trial.events[1][2]["reason"]
    assert trial.served.canary is None
    trial.duty.arrange(trial.served)
    assert trial.served.canary is None, "the same revision does not put it back"
    trial.challenger_runtime.error = None
    trial.plan(CANARY, 100.0)
    reply = Collected()
    trial.ask(reply, images(1))
    assert await drain(reply, 1) == [(200, "2")], "a later revision does"
    await trial.close()


async def test_answers_that_are_not_finite_never_reach_a_client_and_trip_the_breaker(tmp_path: Path) -> None:
    packages = [p.digits_like_package(tmp_path), p.nan_package(tmp_path)]
    trial, reply = Trial(tmp_path, packages), Collected()
    trial.plan(CANARY, 100.0)
    for i in range(8):
        trial.ask(reply, images(2, seed=i))
        await reply.wait(i + 1)
    assert await drain(reply, 8) == [(200, "1")] * 8
    assert trial.served.evidence is not None
    assert trial.served.evidence.fallbacks[Fallback.NON_FINITE] == 4
    assert trial.kinds()[-1] == "challenger_tripped"
    await trial.close()


async def test_inputs_that_are_not_finite_are_not_held_against_the_challenger(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path), Collected()
    trial.plan(CANARY, 100.0)
    bad = np.full((1, 1, 8, 8), np.nan, np.float32)
    for i in range(12):
        trial.ask(reply, bad)
        await reply.wait(i + 1)
    assert await drain(reply, 12) == [(200, "2")] * 12
    assert trial.kinds() == ["challenger_on_duty"]
    await trial.close()


async def test_requests_that_the_champion_fails_on_too_are_not_held_against_the_challenger(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path), Collected()
    trial.plan(CANARY, 100.0)
    trial.challenger_runtime.error = trial.champion_runtime.error = ModelFailed("both")
    for i in range(12):
        trial.ask(reply, images(1))
        await reply.wait(i + 1)
    assert {status for status, _ in await drain(reply, 12)} == {500}
    assert trial.kinds() == ["challenger_on_duty"]
    await trial.close()


async def test_a_challenger_with_a_full_queue_costs_nobody_an_answer(tmp_path: Path) -> None:
    trial = pair(tmp_path, inline=False, batch=BatchOptions(queue_rows=2, max_rows=1))
    trial.challenger_runtime.sleep_s = 0.3
    trial.plan(CANARY, 100.0)
    reply = Collected()
    for _ in range(8):
        trial.ask(reply, images(1))
        await asyncio.sleep(0.02)
    count = Counter(await drain(reply, 8))
    assert set(count) == {(200, "1"), (200, "2")}
    assert trial.served.evidence is not None
    assert trial.served.evidence.fallbacks[Fallback.OVERLOADED] == count[200, "1"] > 0
    # negative control: the same load without the fallback is refused
    with pytest.raises(Overloaded):
        _pinned(trial, reply, 8)
    await trial.close()


def _pinned(trial: Trial, reply: Collected, count: int) -> None:
    body, length = binary(images(1))
    for _ in range(count):
        trial.plane.data.accept(Call(model="digits", version="2", header_length=length), body, reply)


async def test_a_challenger_of_another_signature_leaves_what_it_does_not_take_to_the_champion(tmp_path: Path) -> None:
    first = p.digits_like_package(tmp_path)
    signature = replace(p.DIGITS_SIGNATURE, inputs=(replace(p.DIGITS_INPUT, name="image"),))
    model = p.digits_like_model(3)
    model.graph.node[0].input[0] = "image"
    model.graph.input[0].name = "image"
    second = p.package_model(tmp_path, model, signature, name="digits", version="2")
    trial, reply = Trial(tmp_path, [first, second]), Collected()
    trial.plan(CANARY, 100.0)
    trial.ask(reply, images(1))
    assert await drain(reply, 1) == [(200, "1")]
    assert trial.served.evidence is not None
    assert trial.served.evidence.fallbacks[Fallback.INVALID] == 1
    body, length = binary(images(1), "image")
    with pytest.raises(InvalidRequest):  # the champion's signature is the contract
        trial.plane.data.accept(Call(model="digits", header_length=length), body, reply)
    await trial.close()


async def test_a_challenger_that_hangs_loses_its_requests_to_the_champion_within_two_seconds(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path, inline=False), Collected()
    trial.plan(CANARY, 100.0)
    trial.challenger_runtime.sleep_s = 5.0
    begun = monotonic()
    for _ in range(6):
        trial.ask(reply, images(1))
        await asyncio.sleep(0.01)
    assert await drain(reply, 6) == [(200, "1")] * 6
    assert 0.9 < monotonic() - begun < 3
    assert "running for more than 1 s" in trial.events[-1][2]["reason"]
    trial.ask(reply, images(1))
    assert (await drain(reply, 7))[-1] == (200, "1")
    trial.challenger_runtime.sleep_s = 0.0
    await trial.close()


async def test_missed_time_limits_count_when_the_champion_would_have_met_them(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path, inline=False), Collected()
    trial.plan(CANARY, 100.0)
    trial.challenger_runtime.sleep_s = 0.4
    for i in range(6):  # 50 µs: nobody could
        trial.ask(reply, images(1), parameters={"timeout": 50})
        await reply.wait(i + 1)
    assert trial.kinds() == ["challenger_on_duty"]
    while trial.kinds()[-1] != "challenger_tripped":
        trial.ask(reply, images(1), parameters={"timeout": 100_000})
        await reply.wait(len(reply.answers) + 1)
        assert len(reply.answers) < 14
    assert all(status == 504 for status, _ in await drain(reply, 10))
    await trial.close()


async def test_a_client_that_goes_away_takes_its_request_from_the_challenger_too(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path, inline=False), Collected()
    trial.plan(CANARY, 100.0)
    trial.challenger_runtime.sleep_s = 0.2
    trial.ask(reply, images(1))
    await asyncio.sleep(0.05)
    gone = trial.ask(reply, images(1))
    gone.cancelled = True
    await reply.wait(1)
    await asyncio.sleep(0.3)
    assert trial.challenger_runtime.batches == [1]
    assert trial.challenger.stats.requests[Variant.CANARY, Outcome.CANCELLED] == 1
    await trial.close()


async def test_after_a_promotion_what_the_old_challenger_still_holds_is_answered(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path, inline=False), Collected()
    trial.plan(CANARY, 100.0)
    trial.challenger_runtime.sleep_s = 0.2
    for _ in range(4):
        trial.ask(reply, images(1))
    await asyncio.sleep(0.05)
    trial.plan(ChallengerMode.NONE)
    trial.challenger.batcher.close()  # as if patience had ended: the queue is thrown away
    trial.ask(reply, images(1))
    statuses = await drain(reply, 5)
    assert {status for status, _ in statuses} == {200}
    await trial.close()


async def test_nothing_is_asked_of_the_share_while_no_canary_is_on(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path), Collected()
    for _ in range(5):
        trial.ask(reply, images(1), sticky=b"x")
    assert await drain(reply, 5) == [(200, "1")] * 5
    assert trial.challenger_runtime.batches == []
    assert trial.challenger.inspect is None
    assert trial.champion.mirror is None
    trial.plan(CANARY, 0.0)
    trial.ask(reply, images(1), sticky=b"x")
    assert (await drain(reply, 6))[-1] == (200, "1")
    await trial.close()


@pytest.mark.parametrize("error", [ModelFailed("planted"), RuntimeError("unexpected")])
async def test_a_failing_challenger_with_answers_gated_by_the_log_is_rescued_too(
    tmp_path: Path, error: Exception
) -> None:
    from monitoring.records.record import Durability

    trial = pair(tmp_path, capture=CaptureOptions(durability=Durability.BEFORE_ANSWER), inline=False)
    reply = Collected()
    trial.plan(CANARY, 100.0)
    trial.challenger_runtime.error = error
    for i in range(6):
        trial.ask(reply, images(1))
        await reply.wait(i + 1)
    assert await drain(reply, 6) == [(200, "1")] * 6
    await trial.close()
