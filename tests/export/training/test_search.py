"""Search for hyper-parameters: what is tried, who survives, who wins, and that the budget is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.training.search import Found, Plan, halve, search
from export.training.search_space import Choice, Integers, LogUniform, Parameters, Uniform, draw
from tests.support.training_request import said_run

SPACE = {"lr": LogUniform(low=1e-4, high=1e-1), "width": Choice(values=(16, 32, 64)), "depth": Integers(low=1, high=4),
         "drop": Uniform(low=0.0, high=0.5)}  # fmt: skip


class Clock:
    """Time that passes only where a step says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def curves(parameters: Parameters) -> Iterator[float]:
    """Learning curves that end where the learning rate says, best at 0.01."""
    end = 1.0 - abs(math.log10(float(parameters["lr"])) + 2.0) / 4
    for step in range(100):
        yield end * (1 - 0.5 ** (step + 1))


def test_the_same_seed_draws_the_same_sets_and_none_twice():
    first = draw(SPACE, 40, seed=3)
    assert first == draw(SPACE, 40, seed=3)
    assert first != draw(SPACE, 40, seed=4)
    assert len({json.dumps(one, sort_keys=True) for one in first}) == 40
    assert all(1e-4 <= one["lr"] <= 1e-1 and one["width"] in (16, 32, 64) for one in first)  # type: ignore[operator]
    assert len(draw({"width": Choice(values=(1, 2))}, 9, seed=0)) == 2


def test_two_thirds_are_given_up_at_every_rung_and_the_best_set_wins():
    sets = draw(SPACE, 27, seed=0)
    found = halve(sets, curves, Plan(rungs=(1, 3, 9)), budget_s=1e9)
    assert sorted((len(trial.scores) for trial in found.trials), reverse=True) == [9] * 3 + [3] * 6 + [1] * 18
    best = min(sets, key=lambda one: abs(math.log10(float(one["lr"])) + 2.0))
    assert found.best.parameters == best
    assert found.complete
    assert halve(sets, curves, Plan(rungs=(1, 3, 9)), budget_s=1e9).best == found.best


def test_smaller_is_better_where_the_plan_says_so():
    sets: list[Parameters] = [{"loss": 3.0}, {"loss": 1.0}, {"loss": 2.0}]
    found = halve(sets, lambda p: iter([float(p["loss"])] * 9), Plan(maximise=False, rungs=(1, 2)), budget_s=1e9)
    assert found.best.parameters == {"loss": 1.0}


def test_equal_scores_are_won_by_the_first():
    found = halve([{"n": i} for i in range(9)], lambda p: iter([0.5] * 9), Plan(), budget_s=1e9)
    assert found.best.number == 0


def test_no_step_begins_after_the_budget_and_what_there_is_counts():
    clock, begun = Clock(), []

    def train(parameters: Parameters) -> Iterator[float]:
        for _ in range(100):
            begun.append(clock.now)
            clock.now += 1.0
            yield float(parameters["n"])

    found = halve([{"n": i} for i in range(9)], train, Plan(rungs=(1, 3, 9)), budget_s=12.0, clock=clock)
    assert max(begun) < 12.0
    assert clock.now == 12.0
    assert not found.complete
    assert (found.best.number, len(found.best.scores)) == (8, 3)  # 9 steps for all, 2 more for the best, 1 for the next


def test_trials_that_break_or_diverge_lose_and_do_not_stop_the_others():
    def train(parameters: Parameters) -> Iterator[float]:
        yield {"bad": math.nan}.get(str(parameters["kind"]), 0.1)
        if parameters["kind"] == "raises":
            raise RuntimeError("out of memory")
        yield {"bad": math.nan}.get(str(parameters["kind"]), 0.2)

    found = halve([{"kind": k} for k in ("bad", "raises", "good")], train, Plan(rungs=(2,)), budget_s=1e9)
    assert found.best.parameters == {"kind": "good"}
    assert found.trials[1].problem == "RuntimeError: out of memory"
    with pytest.raises(ValueError, match="no trial gave a score: RuntimeError: out of memory"):
        halve([{"kind": "raises"}], train, Plan(rungs=(2,)), budget_s=1e9)


def test_generators_of_those_given_up_are_closed_at_once():
    closed: list[int] = []

    def train(parameters: Parameters) -> Iterator[float]:
        try:
            while True:
                yield -float(parameters["n"])
        finally:
            closed.append(int(parameters["n"]))

    halve([{"n": i} for i in range(9)], train, Plan(rungs=(1, 3)), budget_s=1e9)
    assert sorted(closed) == list(range(9))
    assert set(closed[:6]) == set(range(3, 9))


def test_a_run_is_told_and_keeps_what_its_request_says(tmp_path: Path):
    run, lines = said_run(tmp_path, parameters={"width": 32}, budget_s=50.0)
    best = search(run, SPACE, curves, plan=Plan(trials=9, rungs=(1, 3)))
    assert best["width"] == 32
    events = [json.loads(line) for line in lines]
    assert any(e["event"] == "metric" and e["name"] == "search/best" for e in events)
    assert any(e["event"] == "artefact" and e["path"] == "search.json" for e in events)
    written = json.loads((run.output / "search.json").read_text())
    assert len(written["trials"]) == 9
    assert written["trials"][written["best"]]["parameters"] == best
    again, _ = said_run(tmp_path / "again", parameters={"width": 32}, budget_s=50.0)
    assert search(again, SPACE, curves, plan=Plan(trials=9, rungs=(1, 3))) == best


@pytest.mark.parametrize("plan", [{"trials": 0}, {"rungs": ()}, {"rungs": (3, 1)}, {"keep": 1}, {"rungs": (0, 1)}])
def test_plans_that_cannot_be_followed_are_refused(plan: dict[str, object]):
    with pytest.raises(ValueError, match=r"search needs|rungs"):
        Plan(**plan)  # type: ignore[arg-type]


def test_what_was_found_is_frozen():
    found = halve([{"n": 1}], lambda p: iter([1.0]), Plan(rungs=(1,)), budget_s=1e9)
    assert isinstance(found, Found)
    with pytest.raises(AttributeError):
        found.complete = False  # type: ignore[misc]
