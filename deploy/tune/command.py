"""`hardcase tune` from its options to its output."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from deploy.cli.context import Invocation, console, print_json
from deploy.errors import Refused
from deploy.loadtest.measure import Stability
from deploy.loadtest.results import Goal, level_label
from deploy.loadtest.session import Plan, at_percentile
from deploy.loadtest.table import duration
from deploy.tune.run import Tuned, find_package, tune, tuned_version, write
from deploy.tune.search import Trial
from deploy.wiring import serving_options

_WINDOW_S = 0.4
_WARM_UP_S = 0.3
_STABILITY = Stability(share=0.1, most=5, least=3)


def run_tune(
    invocation: Invocation,
    what: str,
    plan: Plan,
    goal: Goal,
    *,
    budget_s: float,
    version: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Search, show, write.

    Raises:
        Missing: there is no such package.
        Refused: no settings keep the goal, or the version exists.
    """
    registry = invocation.registry
    package = find_package(what, registry)
    name = tuned_version(package, version, registry)
    plan = replace(
        plan,
        model=package.manifest.name,
        version=None,
        stability=replace(_STABILITY, percentile=goal.percentile),
        window_s=_WINDOW_S,
        warm_up_s=_WARM_UP_S,
    )
    tell = _Teller(goal, quiet=as_json, budget_s=budget_s)
    base = serving_options(invocation.settings, invocation.paths)
    with tell:
        tuned = asyncio.run(tune(package, base, plan, goal, budget_s=budget_s, tell=tell.trial))
    if tuned.within and not dry_run:
        tuned = write(tuned, package, registry, name)
    if as_json:
        print_json(tuned)
    else:
        _show(tuned, plan)
    if not tuned.within:
        limit = duration(goal.limit_us)
        raise Refused(
            f"no settings keep p{goal.percentile:g} within {limit}; nothing was written",
            "the best that was found is above: a longer --latency-target, or a faster machine",
        )


class _Teller:
    """A line a trial on standard error, and a status line that shows that it goes on."""

    def __init__(self, goal: Goal, *, quiet: bool, budget_s: float) -> None:
        self._goal = goal
        self._console = console(stderr=True)
        self._quiet = quiet
        self._status = self._console.status(f"trying settings for at most {budget_s:.0f} s ...")

    def __enter__(self) -> _Teller:
        if self._console.is_terminal:
            self._status.start()
        elif not self._quiet:
            self._console.print("trying settings ...")
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def trial(self, trial: Trial, first: bool) -> None:
        """One more."""
        if not self._quiet:
            self._console.print("  " + "   ".join(_cells(trial, self._goal)))


def _show(tuned: Tuned, plan: Plan) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("batch", "threads", "instances", "load", "req/s", f"p{tuned.goal.percentile:g}", ""):
        table.add_column(column, justify="left" if column == "" else "right", no_wrap=True)
    for trial in tuned.trials:
        candidate, level = trial.candidate, trial.level
        chosen = (candidate.max_batch_rows, candidate.intra_op_threads, candidate.instances) == (
            tuned.best.max_batch_rows,
            tuned.best.intra_op_threads,
            tuned.best.instances,
        )
        cells = (
            str(candidate.max_batch_rows),
            str(candidate.intra_op_threads),
            str(candidate.instances),
            level.label if level else "-",
            f"{level.throughput:,.0f}" if level else "-",
            duration(at_percentile(level, tuned.goal.percentile)) if level else "-",
            trial.why
            or ", ".join(word for word, on in (("best", chosen), ("over the target", not trial.within)) if on),
        )
        table.add_row(*(Text(c, style="bold green" if chosen else "") for c in cells))
    out = console()
    out.print(table)
    load = level_label(plan.mode, tuned.callers_or_rate)
    best = tuned.best
    out.print(
        f"{tuned.model}: batches of {best.max_batch_rows}, {best.intra_op_threads} thread(s), {best.instances} "
        f"instance(s): {tuned.figures['tune_requests_per_s']:,.0f} requests/s at {load}. The load came from this "
        f"machine's {len(os.sched_getaffinity(0))} cores, too."
    )
    if tuned.version is not None:
        out.print(f"Written as version {tuned.version}; `hardcase deploy {tuned.model}@{tuned.version}` serves it.")


def _cells(trial: Trial, goal: Goal) -> tuple[str, ...]:
    c, level = trial.candidate, trial.level
    settings = f"batch {c.max_batch_rows:>4}  threads {c.intra_op_threads}  instances {c.instances}"
    if level is None:
        return (settings, trial.why)
    at = duration(at_percentile(level, goal.percentile))
    verdict = "" if trial.within else "over the target"
    return (settings, f"{level.throughput:>9,.0f} req/s", f"{level.label:>12}", f"p{goal.percentile:g} {at}", verdict)
