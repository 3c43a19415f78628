"""The shadow: runs on what the champion answered, afterwards; compared, recorded, bounded, never in the way."""

from __future__ import annotations

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed
from export.contracts.signature import InputSpec, OutputRole, OutputSpec, Signature
from export.contracts.traffic import ChallengerMode, Variant
from monitoring.records.record import CaptureOptions, Outcome
from serving.answer import BatchOutputs
from serving.comparison import Comparator, InputMap
from serving.evidence import Difference, Evidence, ShadowResult
from serving.options import BatchOptions, ChallengerOptions
from serving.runtime.base import Array
from tests.support import packages as p
from tests.support.planes import Collected
from tests.support.trials import Trial, images, version_of

SHADOW = ChallengerMode.SHADOW
QUICK = ChallengerOptions(shadow_delay_ms=1.0, shadow_time_share=1.0)


def pair(folder: Path, *, seed: int = 7, **how: Any) -> Trial:
    packages = [p.digits_like_package(folder), p.digits_like_package(folder, version="2", seed=seed)]
    return Trial(folder, packages, **{"challenger": QUICK, **how})


def evidence_of(trial: Trial) -> Evidence:
    assert trial.served.evidence is not None
    return trial.served.evidence


async def settled(trial: Trial, offered: int) -> Evidence:
    """Wait until every offered request has met its end; they are all accounted for."""
    evidence = evidence_of(trial)
    for _ in range(1000):
        if not evidence.waiting and sum(evidence.shadow.values()) == offered:
            return evidence
        await asyncio.sleep(0.01)
    raise AssertionError(f"{evidence.waiting} wait, {evidence.shadow} of {offered}")


async def test_the_shadow_runs_on_every_answered_request_and_clients_only_hear_the_champion(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path, capture=CaptureOptions()), Collected()
    trial.plan(SHADOW)
    inputs = [images(1 + i % 3, seed=i) for i in range(60)]
    for i, x in enumerate(inputs):
        trial.ask(reply, x, id=f"r{i}")
        if i % 7 == 0:
            await asyncio.sleep(0.005)
    await reply.wait(60)
    assert {version_of(body) for *_, body in reply.answers} == {"1"}
    evidence = await settled(trial, 60)
    assert evidence.shadow[ShadowResult.COMPARED] == 60
    # the same arithmetic by hand
    rows = np.concatenate(inputs)
    a, b = (r.inner.run([rows], [0])[0] for r in (trial.champion_runtime, trial.challenger_runtime))
    assert evidence.rows == len(rows)
    assert evidence.different[Difference.ARGMAX] == int((a.argmax(1) != b.argmax(1)).sum()) > 0
    assert evidence.max_abs_difference == pytest.approx(float(np.abs(a - b).max()), rel=1e-4)
    assert evidence.different[Difference.NON_FINITE] == evidence.different[Difference.SHAPE] == 0
    assert evidence.passes < 60, "batches of the champion are joined"
    assert trial.challenger.stats.requests == {(Variant.SHADOW, Outcome.OK): 60}
    assert trial.challenger.stats.success_count == 0, "no client was answered by it"
    await trial.close()
    records: dict[str, dict[str, Any]] = {"champion": {}, "shadow": {}}
    for batch in trial.recorded():
        for i, record_id in enumerate(batch.ids):
            records[batch.variant][record_id] = batch.output("logits").get(i)
        assert (batch.input_names == ()) == (batch.variant == "shadow"), "the champion's record holds the inputs"
    assert records["champion"].keys() == records["shadow"].keys() == {f"r{i}" for i in range(60)}
    for i, x in enumerate(inputs):
        start = sum(len(before) for before in inputs[:i])
        np.testing.assert_allclose(records["shadow"][f"r{i}"], b[start : start + len(x)], rtol=1e-4, atol=1e-5)


async def test_equal_weights_agree_on_every_row(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path, seed=0), Collected()
    trial.plan(SHADOW)
    for i in range(20):
        trial.ask(reply, images(2, seed=i))
    await reply.wait(20)
    evidence = await settled(trial, 20)
    assert evidence.rows == 40
    assert not any(evidence.different.values())
    assert evidence.max_abs_difference < 1e-5
    await trial.close()


async def test_a_shadow_that_takes_long_never_delays_an_answer_and_gives_way_when_its_queue_is_full(
    tmp_path: Path,
) -> None:
    few = ChallengerOptions(shadow_delay_ms=1.0, shadow_queue_rows=8, shadow_time_share=1.0)
    trial, reply = pair(tmp_path, challenger=few), Collected()
    trial.challenger_runtime.sleep_s = 0.5
    trial.plan(SHADOW)
    times = []
    for i in range(40):
        begun = asyncio.get_running_loop().time()
        trial.ask(reply, images(1))
        await reply.wait(i + 1)
        times.append(asyncio.get_running_loop().time() - begun)
        await asyncio.sleep(0.005)
    assert max(times) < 0.3, "nobody waited for a pass of half a second"
    assert all(status == 200 for _, status, *_ in reply.answers)
    trial.challenger_runtime.sleep_s = 0.0
    evidence = await settled(trial, 40)
    assert evidence.shadow[ShadowResult.DROPPED_FULL] > 0
    assert evidence.shadow[ShadowResult.COMPARED] + evidence.shadow[ShadowResult.DROPPED_FULL] == 40
    assert evidence.slower_passes > 0
    await trial.close()


async def test_the_shadow_rests_until_it_has_earned_back_what_it_spent(tmp_path: Path) -> None:
    thrifty = ChallengerOptions(shadow_delay_ms=1.0, shadow_queue_rows=16, shadow_time_share=0.001)
    trial, reply = pair(tmp_path, challenger=thrifty), Collected()
    trial.plan(SHADOW)
    begun = asyncio.get_running_loop().time()
    for i in range(200):
        trial.ask(reply, images(1))
        await reply.wait(i + 1)
        await asyncio.sleep(0.001)
    elapsed = asyncio.get_running_loop().time() - begun
    evidence = evidence_of(trial)
    assert sum(evidence.shadow.values()) + evidence.waiting == 200
    assert 1 <= evidence.passes <= 3 + elapsed * 1000 / 100, "a pass spends at least 0.1 ms, and a thousand times that"
    assert evidence.shadow[ShadowResult.DROPPED_FULL] > 100
    await trial.close()
    assert evidence.waiting == 0


async def test_a_champion_with_a_backlog_is_not_burdened(tmp_path: Path) -> None:
    trial = pair(tmp_path, inline=False, batch=BatchOptions(max_rows=2))
    reply = Collected()
    trial.champion_runtime.sleep_s = 0.02
    trial.plan(SHADOW)
    for _ in range(20):
        trial.ask(reply, images(1))
    await reply.wait(20)
    evidence = await settled(trial, 20)
    assert evidence.shadow[ShadowResult.DROPPED_BUSY] >= 10
    assert evidence.shadow[ShadowResult.COMPARED] >= 2, "the last ones left no backlog"
    await trial.close()


@pytest.mark.parametrize("error", [ModelFailed("planted"), RuntimeError("unexpected")])
async def test_a_shadow_that_fails_is_counted_and_recorded_and_nobody_notices(tmp_path: Path, error: Exception) -> None:
    trial, reply = pair(tmp_path, capture=CaptureOptions()), Collected()
    trial.challenger_runtime.error = error
    trial.plan(SHADOW)
    for i in range(10):
        trial.ask(reply, images(1))
        await reply.wait(i + 1)
    assert {(s, version_of(b)) for _, s, _, b in reply.answers} == {(200, "1")}
    evidence = await settled(trial, 10)
    assert evidence.shadow[ShadowResult.FAILED] == 10
    await trial.close()
    kinds = [(b.variant, str(b.outcome), len(b)) for b in trial.recorded() if b.variant == "shadow"]
    assert sum(n for _, outcome, n in kinds if outcome == "failed") == 10


async def test_nan_in_the_shadow_is_seen(tmp_path: Path) -> None:
    trial = Trial(tmp_path, [p.digits_like_package(tmp_path), p.nan_package(tmp_path)], challenger=QUICK)
    reply = Collected()
    trial.plan(SHADOW)
    trial.ask(reply, images(5))
    await reply.wait(1)
    evidence = await settled(trial, 1)
    assert evidence.different[Difference.NON_FINITE] == 5
    assert evidence.max_abs_difference == 0.0
    await trial.close()


async def test_only_the_share_is_mirrored_and_only_what_the_plan_routed(tmp_path: Path) -> None:
    from serving.call import Call
    from tests.support.trials import binary

    trial, reply = pair(tmp_path), Collected()
    trial.plan(SHADOW, 20.0)
    for i in range(1000):
        trial.ask(reply, images(1), sticky=b"client-%d" % i)
        if i % 50 == 0:
            body, length = binary(images(1))
            trial.plane.data.accept(Call(model="digits", version="1", header_length=length), body, reply)
            await asyncio.sleep(0.005)
    await reply.wait(1020)
    evidence = await settled(trial, 1000)
    compared = evidence.shadow[ShadowResult.COMPARED]
    assert abs(compared - 200) <= 5 * math.sqrt(1000 * 0.2 * 0.8)
    assert evidence.rows == compared
    await trial.close()


async def test_a_challenger_with_other_inputs_is_not_run(tmp_path: Path) -> None:
    other = InputSpec(name="image", datatype=Datatype.FP32, shape=(-1, 1, 8, 8))
    model = p.digits_like_model(3)
    model.graph.node[0].input[0] = model.graph.input[0].name = "image"
    signature = Signature(inputs=(other,), outputs=p.DIGITS_SIGNATURE.outputs)
    second = p.package_model(tmp_path, model, signature, name="digits", version="2")
    trial, reply = Trial(tmp_path, [p.digits_like_package(tmp_path), second], challenger=QUICK), Collected()
    trial.plan(SHADOW)
    trial.ask(reply, images(1))
    await reply.wait(1)
    evidence = await settled(trial, 1)
    assert evidence.shadow[ShadowResult.DROPPED_INCOMPATIBLE] == 1
    assert trial.challenger_runtime.batches == []
    await trial.close()


async def test_withdrawing_the_shadow_drops_what_waits_and_lets_the_pass_end(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path), Collected()
    trial.challenger_runtime.sleep_s = 0.3
    trial.plan(SHADOW)
    trial.ask(reply, images(1))
    await reply.wait(1)
    await asyncio.sleep(0.1)
    evidence = evidence_of(trial)
    trial.ask(reply, images(1))
    await reply.wait(2)
    assert not trial.challenger.idle, "a pass is under way: it must not be unloaded"
    trial.plan(ChallengerMode.NONE)
    assert trial.champion.mirror is None
    trial.ask(reply, images(1))
    await reply.wait(3)
    await asyncio.sleep(0.5)
    assert evidence.shadow[ShadowResult.COMPARED] == 1
    assert evidence.shadow[ShadowResult.DROPPED_CLOSED] == 1
    assert evidence.waiting == 0
    assert trial.challenger.idle
    await trial.close()


async def test_requests_that_name_the_challenger_take_turns_with_its_shadow(tmp_path: Path) -> None:
    from serving.call import Call
    from tests.support.trials import binary

    trial, reply = pair(tmp_path, inline=False), Collected()
    runtime, running, most = trial.challenger_runtime, [0], [0]
    run, lock = runtime.inner.run, threading.Lock()

    class Counting:
        concurrency = 1

        def run(self, inputs: Any, outputs: Any) -> list[Array]:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            threading.Event().wait(0.01)
            try:
                return run(inputs, outputs)
            finally:
                with lock:
                    running[0] -= 1

        def close(self) -> None: ...

    runtime.inner = Counting()  # type: ignore[assignment]
    trial.plan(SHADOW)
    for _ in range(30):
        trial.ask(reply, images(1))
        body, length = binary(images(1))
        trial.plane.data.accept(Call(model="digits", version="2", header_length=length), body, reply)
        await asyncio.sleep(0.005)
    await reply.wait(60)
    await settled(trial, 30)
    assert most == [1]
    await trial.close()


async def test_steps_of_the_same_challenger_add_up_and_a_new_one_begins_anew(tmp_path: Path) -> None:
    trial, reply = pair(tmp_path), Collected()
    trial.plan(SHADOW, 50.0)
    first = evidence_of(trial)
    trial.plan(SHADOW, 100.0)
    assert evidence_of(trial) is first
    trial.ask(reply, images(1))
    await reply.wait(1)
    await settled(trial, 1)
    trial.plan(ChallengerMode.CANARY, 1.0)
    assert evidence_of(trial) is not first
    assert trial.served.shadow is None
    assert trial.challenger.idle
    trial.plan(ChallengerMode.NONE)
    assert trial.served.evidence is None
    await trial.close()


FLOATS = st.sampled_from([0.0, 1.0, -1.0, 2.5, float("nan"), float("inf"), -float("inf")])


@settings(max_examples=200, deadline=None)
@given(data=st.data(), rows=st.integers(1, 6), classes=st.integers(1, 4))
def test_a_comparison_equals_a_naive_one(data: st.DataObject, rows: int, classes: int) -> None:
    matrix = st.lists(st.lists(FLOATS, min_size=classes, max_size=classes), min_size=rows, max_size=rows)
    a, b = (np.array(data.draw(matrix), np.float32) for _ in range(2))
    cut = data.draw(st.integers(1, rows))
    role = OutputRole.LOGITS
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1)),),
        outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, classes), role=role),),
    )
    parts = [(BatchOutputs(signature.outputs, [x], len(x), True), None) for x in (a[:cut], a[cut:]) if len(x)]
    result = Comparator(signature, signature).compare(parts, BatchOutputs(signature.outputs, [b], rows, True), rows)
    gaps = [abs(float(x) - float(y)) for x, y in zip(a.flat, b.flat, strict=True) if np.isfinite(x) and np.isfinite(y)]
    assert result.max_abs_difference == pytest.approx(max(gaps, default=0.0))
    spoiled = {i for i, j in np.ndindex(a.shape) if np.isfinite(a[i, j]) and not np.isfinite(b[i, j])}
    assert result.different[Difference.NON_FINITE] == len(spoiled)

    def best(row: Any) -> int:
        return max(range(classes), key=lambda i: (-math.inf if math.isnan(row[i]) else row[i], -i))

    assert result.different[Difference.ARGMAX] == sum(best(x) != best(y) for x, y in zip(a, b, strict=True))


def test_inputs_are_found_by_name_and_refused_by_shape() -> None:
    def spec(name: str, *shape: int) -> InputSpec:
        return InputSpec(name=name, datatype=Datatype.FP32, shape=shape)

    output = (OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 1)),)
    champion = Signature(inputs=(spec("a", -1, -1), spec("b", -1, 3)), outputs=output)
    swapped = Signature(inputs=(spec("b", -1, 3), spec("a", -1, 5)), outputs=output)
    fitting = InputMap(champion, swapped)
    a5, a6, b = np.zeros((2, 5)), np.zeros((2, 6)), np.zeros((2, 3))
    assert fitting.fits([a5, b])
    assert not fitting.fits([a6, b])
    assert [x is y for x, y in zip(fitting.pick([a5, b]), [b, a5], strict=True)] == [True, True]
    assert not InputMap(champion, Signature(inputs=(spec("c", -1, 3),), outputs=output)).fits([a5, b])
    assert InputMap(champion, Signature(inputs=(spec("b", -1, 3),), outputs=output)).fits([a6, b])
