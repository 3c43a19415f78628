"""Search for hyper-parameters within a training's budget: successive halving, here or by Ray Tune.

    def train(parameters):                     # a generator: one score after every epoch
        net = make(parameters["width"])
        for epoch in range(27):
            ...
            yield accuracy

    best = search(run, {"lr": LogUniform(low=1e-4, high=1e-1), "width": Choice(values=(16, 32, 64))}, train)

Which parameters are tried follows from the run's seed alone. Halving in this process goes rung by rung, so the same
request picks the same winner as long as the time does not run out; the result says whether it did.

References:
    Jamieson and Talwalkar (2016), Non-stochastic best arm identification and hyperparameter optimization (successive
    halving); Li et al. (2020), A system for massively parallel hyperparameter tuning (ASHA, as Ray Tune has it).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from export.training.search_space import Axis, Parameters, draw

if TYPE_CHECKING:
    from export.training.run import TrainingRun

Train: TypeAlias = Callable[[Parameters], Iterator[float]]
RESULT_FILE = "search.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One set of parameters, and how it went.

    Attributes:
        number: In the order in which they were drawn.
        scores: After every step, as far as it came; NaN and infinity count as the worst.
        problem: Why it broke off; "" where it did not.
    """

    number: int
    parameters: Parameters
    scores: tuple[float, ...] = ()
    problem: str = ""

    def score(self, sign: float) -> float:
        """The last score, larger is better; minus infinity where there is none."""
        last = sign * self.scores[-1] if self.scores and not self.problem else -math.inf
        return last if math.isfinite(last) else -math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search has found.

    Attributes:
        best: Of the trials that came furthest the one with the best last score; of equal ones the first.
        complete: Every rung was walked; otherwise the time ran out.
        seconds: That it took.
    """

    best: Trial
    trials: tuple[Trial, ...]
    complete: bool
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How to search.

    Attributes:
        trials: Sets of parameters that are drawn.
        rungs: Steps after which the trials are compared, growing; the last is how far the survivors go.
        keep: Of so many trials one goes on to the next rung.
        maximise: Larger scores are better.
    """

    trials: int = 27
    rungs: tuple[int, ...] = (1, 3, 9)
    keep: int = 3
    maximise: bool = True

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            ValueError: it cannot be followed.
        """
        if self.trials < 1 or self.keep < 2 or not self.rungs or self.rungs[0] < 1:
            raise ValueError("a search needs a trial, a first rung of at least 1, and keep of at least 2")
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs must grow: {self.rungs}")


@dataclass(kw_only=True)
class _Runner:
    """A trial under way."""

    trial: Trial
    steps: Iterator[float]
    scores: list[float] = field(default_factory=list)
    problem: str = ""

    def reach(self, step: int, over: Callable[[], bool]) -> bool:
        """Go on until so many steps are done; returns False where the time ran out before."""
        while len(self.scores) < step and not self.problem:
            if over():
                return False
            try:
                self.scores.append(float(next(self.steps)))
            except StopIteration:
                break
            except Exception as error:  # a set of parameters that does not work is an answer, too
                self.problem = f"{type(error).__name__}: {error}"[:200]
        return True

    def ended(self) -> Trial:
        return Trial(
            number=self.trial.number,
            parameters=self.trial.parameters,
            scores=tuple(self.scores),
            problem=self.problem,
        )


def halve(
    sets: Sequence[Parameters],
    train: Train,
    plan: Plan,
    *,
    budget_s: float,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[int, int, str], None] = lambda done, of, text: None,
) -> Found:
    """Successive halving in this process, one trial after the other, rung by rung.

    Args:
        sets: Parameters of the trials.
        train: Makes a generator of scores; generators of trials that wait stay in memory.
        plan: How to search.
        budget_s: No step begins after so many seconds; the step under way is ended.
        clock: Seconds that only go forward.
        say: Told `done, of, text` after every trial of a rung.

    Raises:
        ValueError: no trial gave a score.
    """
    started = clock()
    sign = 1.0 if plan.maximise else -1.0
    every = [_Runner(trial=Trial(number=i, parameters=s), steps=train(dict(s))) for i, s in enumerate(sets)]
    alive, complete = list(every), True
    for i, rung in enumerate(plan.rungs):
        for n, runner in enumerate(alive):
            complete = runner.reach(rung, lambda: clock() - started >= budget_s) and complete
            say(n + 1, len(alive), f"rung {i + 1} of {len(plan.rungs)}: trial {runner.trial.number}")
        if not complete:
            break
        alive.sort(key=lambda r: (-r.ended().score(sign), r.trial.number))
        survivors = alive[: max(1, len(alive) // plan.keep)] if rung != plan.rungs[-1] else alive
        for runner in alive[len(survivors) :]:
            _close(runner.steps)
        alive = survivors
    for runner in every:
        _close(runner.steps)
    trials = tuple(runner.ended() for runner in every)
    return Found(best=pick(trials, sign), trials=trials, complete=complete, seconds=clock() - started)


def pick(trials: Sequence[Trial], sign: float) -> Trial:
    """The best: the one that came furthest, then the better score, then the first.

    Raises:
        ValueError: no trial gave a score.
    """
    usable = [trial for trial in trials if math.isfinite(trial.score(sign))]
    if not usable:
        problems = sorted({trial.problem for trial in trials if trial.problem})
        raise ValueError(f"no trial gave a score: {'; '.join(problems)[:300] or 'the time was too short'}")
    return min(usable, key=lambda trial: (-len(trial.scores), -trial.score(sign), trial.number))


def search(
    run: TrainingRun,
    space: Mapping[str, Axis],
    train: Train,
    *,
    plan: Plan | None = None,
    share: float = 0.6,
    with_ray: bool = False,
) -> Parameters:
    """Search within a share of the run's budget, and say how it went: metrics, a note, the artefact `search.json`.

    Args:
        run: Of the trainer; its seed decides what is tried.
        space: What may be tried. Parameters that the request names are not searched for.
        train: Makes a generator of scores, one a step.
        plan: How to search; default: 27 trials, rungs 1, 3 and 9.
        share: Of the budget; the rest is for the training that follows.
        with_ray: Trials run side by side, by Ray Tune (`export.training.tune_search`).

    Returns:
        The best set of parameters, those of the request included.
    """
    plan = plan or Plan()
    fixed: Parameters = {name: value for name, value in run.request.parameters.items() if name in space}
    for name, value in fixed.items():
        run.parameter(name, cast(Any, value))  # it was asked for
    free = {name: axis for name, axis in space.items() if name not in fixed}
    sets = [fixed | one for one in draw(free, plan.trials, run.request.seed)] if free else [fixed]
    budget_s = run.request.budget_s * share
    if with_ray:
        from export.training.tune_search import tune

        found = tune(sets, train, plan, budget_s=budget_s, folder=run.output / "tune")
    else:
        found = halve(sets, train, plan, budget_s=budget_s, say=run.progress)
    (run.output / RESULT_FILE).write_text(json.dumps(_plain(found), indent=1), encoding="utf-8")
    run.artefact(RESULT_FILE, "what was tried")
    run.metric("search/best", found.best.scores[-1])
    ended = "" if found.complete else "; the time ran out"
    run.note(f"search: trial {found.best.number} of {len(found.trials)} is best, {found.best.parameters}{ended}")
    return dict(found.best.parameters)


def _plain(found: Found) -> dict[str, object]:
    trials = [
        {"number": t.number, "parameters": t.parameters, "scores": list(t.scores), "problem": t.problem}
        for t in found.trials
    ]
    return {"best": found.best.number, "complete": found.complete, "seconds": found.seconds, "trials": trials}


def _close(steps: Iterator[float]) -> None:
    close = getattr(steps, "close", None)
    if close is not None:
        close()
