"""The search of `export.training.search` by Ray Tune: trials side by side, as many as the cluster has CPUs for.

Tune's ASHA compares trials as they come in, so which of them are stopped early depends on their speed; what is tried,
and how the winner is picked among those that came furthest, does not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.training.search import Found, Plan, Train, Trial, pick
from export.training.search_space import Parameters

SCORE, NUMBER = "score", "trial"


def tune(
    sets: Sequence[Parameters],
    train: Train,
    plan: Plan,
    *,
    budget_s: float,
    folder: Path,
    cpus: float = 1.0,
) -> Found:
    """Run the trials on the Ray cluster that there is, or on a local one.

    Args:
        sets: Parameters of the trials.
        train: Makes a generator of scores; it travels to the workers.
        plan: How to search.
        budget_s: Tune stops every trial after so many seconds.
        folder: For Tune's own files; must be reachable by all nodes.
        cpus: Of a trial.

    Raises:
        ValueError: no trial gave a score.
    """
    from ray import tune as ray_tune
    from ray.tune.schedulers import ASHAScheduler

    most, sign = plan.rungs[-1], 1.0 if plan.maximise else -1.0

    def trainable(config: dict[str, Any]) -> None:
        steps = train(dict(sets[config[NUMBER]]))
        for _, score in zip(range(most), steps, strict=False):
            ray_tune.report({SCORE: float(score)})

    scores: dict[int, list[float]] = {}

    class Collect(ray_tune.Callback):
        """Keeps every score as it comes in: Tune's own files may be switched off."""

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **more: Any) -> None:
            """A step of a trial is done."""
            scores.setdefault(int(trial.config[NUMBER]), []).append(float(result[SCORE]))

    started = time.monotonic()
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(trainable, {"cpu": cpus}),
        param_space={NUMBER: ray_tune.grid_search(list(range(len(sets))))},
        tune_config=ray_tune.TuneConfig(
            metric=SCORE,
            mode="max" if plan.maximise else "min",
            scheduler=ASHAScheduler(max_t=most, grace_period=plan.rungs[0], reduction_factor=plan.keep),
            time_budget_s=budget_s,
        ),
        run_config=ray_tune.RunConfig(
            name="search", storage_path=str(folder.absolute()), verbose=0, callbacks=[Collect()]
        ),
    )
    results = tuner.fit()
    problems: dict[int, str] = {}
    for result in (results[i] for i in range(len(results))):
        if result.error is not None and result.config is not None:
            problems[result.config[NUMBER]] = type(result.error).__name__
    trials = tuple(
        Trial(number=i, parameters=dict(one), scores=tuple(scores.get(i, ())), problem=problems.get(i, ""))
        for i, one in enumerate(sets)
    )
    seconds = time.monotonic() - started
    complete = any(len(trial.scores) >= most for trial in trials)
    return Found(best=pick(trials, sign), trials=trials, complete=complete, seconds=seconds)
