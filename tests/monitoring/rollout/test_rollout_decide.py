"""Evidence and decisions, without a database: what is promised holds for every stream, look and clock."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts import codec
from monitoring.rollout import betting
from monitoring.rollout.decide import Move, Now, decide
from monitoring.rollout.policy import Limit, Metric, RolloutPolicy, Step, StepKind
from monitoring.rollout.readings import readings
from monitoring.rollout.standing import Block, Counts, Pairs, Standing
from tests.support.rollout_world import QUICK

SECOND = 1_000_000_000
rates = st.floats(0.0, 1.0)


@given(
    a=rates, b=rates, champion=st.floats(0.001, 0.999), shift=st.floats(0.0, 0.3), n=st.tuples(*[st.integers(1, 3)] * 2)
)
@settings(max_examples=60, deadline=None)
def test_every_block_of_two_samples_is_an_e_variable(
    a: float, b: float, champion: float, shift: float, n: tuple[int, int]
) -> None:
    """Exactly, over all outcomes of a small block: under the null the expectation is at most one."""
    nb, na = n
    outcomes = [(kb, ka) for kb in range(nb + 1) for ka in range(na + 1)]
    block = np.array([[kb, nb, ka, na] for kb, ka in outcomes], float)
    known = np.full(len(outcomes), champion)
    chance = np.array(
        [
            math.comb(nb, kb) * b**kb * (1 - b) ** (nb - kb) * math.comb(na, ka) * a**ka * (1 - a) ** (na - ka)
            for kb, ka in outcomes
        ]
    )
    if b <= a + shift:
        mean = (chance[:, None] * np.exp(betting.two_worse(block, known, shift))).sum(axis=0)
        assert mean.max() <= 1 + 1e-5
    if b >= a + shift:
        mean = (chance[:, None] * np.exp(betting.two_safe(block, known, shift))).sum(axis=0)
        assert mean.max() <= 1 + 1e-5


@given(more=rates, less=rates, tolerance=st.floats(0.0, 0.3))
def test_a_pair_is_an_e_variable(more: float, less: float, tolerance: float) -> None:
    total = more + less
    more, less = (more / total, less / total) if total > 1 else (more, less)
    chances = np.array([more, 1 - more - less, less])
    worse = np.exp([betting.paired_worse(*row, tolerance) for row in np.eye(3)])
    safe = np.exp([betting.paired_safe(*row, tolerance) for row in np.eye(3)])
    if more - less <= tolerance:
        assert chances @ worse <= 1 + 1e-9
    if more - less >= tolerance:
        assert chances @ safe <= 1 + 1e-9


@given(rate=st.floats(0.01, 0.95), truth=rates)
def test_a_given_rate_is_an_e_variable(rate: float, truth: float) -> None:
    if truth <= rate:
        up = np.exp([betting.rate_above(1, 0, rate), betting.rate_above(0, 1, rate)])
        assert truth * up[0] + (1 - truth) * up[1] <= 1 + 1e-9
    if truth >= rate:
        down = np.exp([betting.rate_below(1, 0, rate), betting.rate_below(0, 1, rate)])
        assert truth * down[0] + (1 - truth) * down[1] <= 1 + 1e-9


counts = st.builds(
    lambda n, bad, m, worse: Counts(bad=min(bad, n), n=n, champion_bad=min(worse, m), champion_n=m),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 300),
    st.integers(0, 20),
)
pairs = st.builds(Pairs, more=st.integers(0, 3), same=st.integers(0, 300), less=st.integers(0, 3))


@st.composite
def looks(draw: st.DrawFn) -> tuple[Block, float, bool, str]:
    exposed = draw(st.integers(0, 6))
    block = Block(
        cursor=0,
        answered=exposed + draw(st.integers(0, 400)),
        exposed=exposed,
        shadowed=draw(st.integers(0, 400)),
        pairs=dict.fromkeys((Metric.ERRORS, Metric.INVALID, Metric.FLAGGED), draw(pairs)),
        compared=200,
        disagreed=draw(st.integers(0, 10)),
        counts=dict.fromkeys((Metric.ERRORS, Metric.INVALID, Metric.LATENCY, Metric.FLAGGED), draw(counts)),
    )
    return (
        block,
        draw(st.sampled_from([0.0, 0.5, 1.0, 5.0])),
        draw(st.booleans()),
        draw(st.sampled_from([""] * 9 + ["x"])),
    )


@given(stream=st.lists(looks(), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_no_step_is_skipped_and_none_passes_without_its_evidence(stream: list[tuple[Block, float, bool, str]]) -> None:
    standing, now_ns, at = Standing(), 0, -1
    for block, passed_s, paused, trouble in stream:
        now_ns += int(passed_s * SECOND)
        before = standing
        standing = standing.look(block, QUICK, now_ns, counts_time=not paused)
        assert standing.answered >= before.answered
        assert standing.exposed >= before.exposed
        assert standing.after >= before.after
        assert codec.from_plain(Standing, codec.to_plain(standing)) == standing, "it survives being stored"
        made = decide(QUICK, standing, Now(time_ns=now_ns, evidence_ns=now_ns, paused=paused, trouble=trouble))
        assert made.reason
        if trouble and standing.step >= 0:
            assert made.move is Move.ROLL_BACK
        if made.move in (Move.ADVANCE, Move.FINISH):
            assert not paused
            if at >= 0:
                step = QUICK.steps[at]
                assert standing.requests >= step.requests
                assert standing.served_ns >= step.dwell_s * SECOND
                found = {r.metric: r for r in readings(standing, QUICK)}
                assert all(found[metric].proved for metric in step.prove)
                assert not any(r.against for r in found.values())
        if made.move is Move.ADVANCE:
            at += 1
            standing = standing.enter(at, QUICK.steps[at].kind, at + 1, now_ns)
        elif made.move is not Move.HOLD:
            assert made.move is not Move.FINISH or at == len(QUICK.steps) - 1
            break


def test_old_evidence_never_leads_forward_and_always_back() -> None:
    standing = Standing(step=0, phase=StepKind.SHADOW, requests=10_000, served_ns=10**12, compared=5000,
                        pairs=dict.fromkeys(Metric, Pairs(same=5000)))  # fmt: skip
    fresh = Now(time_ns=10 * SECOND, evidence_ns=9 * SECOND)
    assert decide(QUICK, standing, fresh).move is Move.ADVANCE
    old = replace(fresh, evidence_ns=2 * SECOND)
    assert decide(QUICK, standing, old).move is Move.HOLD
    assert "behind" in decide(QUICK, standing, old).reason
    bad = replace(standing, pairs=standing.pairs | {Metric.ERRORS: Pairs(more=100, same=1000)})
    assert decide(QUICK, bad, old).move is Move.ROLL_BACK


def test_traffic_of_few_clients_does_not_pass_the_limit_of_exposure() -> None:
    standing = Standing(step=1, phase=StepKind.CANARY, answered=2000, exposed=400, requests=400)
    made = decide(QUICK, standing, Now(time_ns=0, evidence_ns=0))
    assert made.move is Move.ROLL_BACK
    assert "few clients" in made.reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": ()},
        {"steps": (Step(kind=StepKind.SHADOW),)},
        {"steps": (Step(kind=StepKind.CANARY, percent=1), Step(kind=StepKind.SHADOW), Step(kind=StepKind.CHAMPION))},
        {"steps": (*[Step(kind=StepKind.CANARY, percent=p) for p in (5, 1)], Step(kind=StepKind.CHAMPION))},
        {"alpha": 0.0},
        {"limits": (Limit(metric=Metric.ERRORS, tolerance=0.1, margin=0.2),)},
    ],
)
def test_policies_that_cannot_be_followed_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        RolloutPolicy(**wrong)  # type: ignore[arg-type]
