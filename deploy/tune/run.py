"""Tuning a package: find it, try settings on real servers, write the best ones into a new version."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.errors import CommandError, Missing, Refused, UsageError
from deploy.loadtest.measure import measure
from deploy.loadtest.orders import Mode
from deploy.loadtest.results import Goal, Level
from deploy.loadtest.session import Plan, at_percentile, make_load, make_setup, meets, open_subject, worker_count
from deploy.loadtest.workers import Workers
from deploy.tune.search import Bounds, Candidate, Search, Trial, most_callers
from deploy.tune.servers import NotServed, serving
from export.contracts.manifest import NAME_PATTERN, Execution
from export.package import Package, read_package
from export.registry import Registry
from export.retune import write_retuned
from serving.options import ServingOptions

_RESERVE_S = 4.0  # what another candidate takes at least; less left is no time left

Tell = Callable[[Trial, bool], None]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What was found.

    Attributes:
        best: The settings that were chosen; within the goal or not.
        version: The version that was written; None when nothing was.
        figures: What the best settings were measured with.
    """

    model: str
    measured_version: str
    goal: Goal
    best: Execution
    within: bool
    callers_or_rate: float
    figures: dict[str, float]
    trials: tuple[Trial, ...]
    version: str | None = None
    digest: str | None = None


def find_package(what: str, registry: Registry) -> Package:
    """The package that `MODEL`, `MODEL@VERSION` or a folder names; a model alone means its champion, or the newest.

    Raises:
        Missing: there is none.
    """
    if os.sep in what or Path(what).is_dir():
        if not Path(what).is_dir():
            raise Missing(f"there is no package folder '{what}'")
        return read_package(Path(what))
    model, _, version = what.partition("@")
    versions = registry.versions(model)
    if not versions:
        raise Missing(f"'{what}' is neither a package folder nor a model in the registry")
    plan = registry.plan(model)
    chosen = version or (plan.champion if plan and plan.champion else versions[-1])
    return registry.package(model, registry.resolve(model, chosen))


def tuned_version(package: Package, asked: str | None, registry: Registry) -> str:
    """The name of the version to write.

    Raises:
        UsageError: it cannot be a version.
        Refused: it exists.
    """
    base = package.manifest.version.removesuffix("-tuned")
    name = asked or f"{base}-tuned"
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"--as {name}: 1-64 of letters, digits, '_', '-', '.'")
    taken = set(registry.versions(package.manifest.name)) | {package.manifest.version}
    if name not in taken:
        return name
    if asked:
        raise Refused(f"version '{name}' of '{package.manifest.name}' exists already", "--as names another one")
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


async def tune(package: Package, base: ServingOptions, plan: Plan, goal: Goal, *, budget_s: float, tell: Tell) -> Tuned:
    """Search within a time budget.

    Args:
        package: What to tune.
        base: The settings' serving options.
        plan: How to load; its levels are callers, one of them unless to be searched, or one rate.
        goal: The latency to keep.
        budget_s: Seconds for all trials; the first one is always finished.
        tell: Told each trial, and whether it is the best now.

    Raises:
        CommandError: no settings work at all.
    """
    deadline = time.monotonic() + budget_s
    manifest = package.manifest
    bounds = Bounds(
        most_rows=manifest.max_batch_rows if manifest.signature.batched else 1,
        cores=len(os.sched_getaffinity(0)),
        batched=manifest.signature.batched,
    )
    with tempfile.TemporaryDirectory(prefix="hct-", ignore_cleanup_errors=True) as name:
        registry = Registry(Path(name) / "registry")
        stored = registry.add(package.dir)
        registry.promote(manifest.name, stored.manifest.version, author="hardcase tune")

        def time_left() -> bool:
            return time.monotonic() + _RESERVE_S < deadline

        async def attempt(candidate: Candidate) -> Trial:
            start = int(search.best.level.value) if search.best and search.best.level else 4
            trial = await _attempt(candidate, base, registry.root, plan, goal, start, time_left)
            tell(trial, search.best is None)
            return trial

        search = Search(bounds=bounds, mode=plan.mode, goal=goal, measure=attempt, time_left=time_left)
        best = await search.run()
    if best is None or best.level is None:
        raise CommandError(f"no settings work: {search.trials[0].why}")
    return Tuned(
        model=manifest.name,
        measured_version=manifest.version,
        goal=goal,
        best=Execution(
            max_batch_rows=best.candidate.max_batch_rows,
            intra_op_threads=best.candidate.intra_op_threads,
            instances=best.candidate.instances,
        ),
        within=best.within,
        callers_or_rate=best.level.value,
        figures=figures_of(best.level, goal),
        trials=tuple(search.trials),
    )


async def _attempt(
    candidate: Candidate,
    base: ServingOptions,
    registry: Path,
    plan: Plan,
    goal: Goal,
    start: int,
    time_left: Callable[[], bool],
) -> Trial:
    """Start servers with a candidate's settings and load them."""
    try:
        async with serving(base, registry, candidate) as targets:
            first, *more = targets
            opening = open_subject(first, plan, *more)
            async with Workers(make_setup(opening, plan), worker_count(plan)) as workers:

                async def at(value: float) -> Level:
                    load, rows = make_load(plan, value), opening.payloads[0].rows
                    level = await measure(
                        workers, opening.control, load, plan.stability, rows=rows, progress=lambda *_: None
                    )
                    if level.interrupted:
                        raise KeyboardInterrupt
                    return level

                if len(plan.levels) == 1:
                    level = await at(plan.levels[0])
                    within = meets(level, goal)
                else:
                    level, within = await most_callers(at, goal, start=start, time_left=time_left)
            opening.control.close()
    except NotServed as error:
        return Trial(candidate=candidate, level=None, within=False, why=error.message)
    return Trial(candidate=candidate, level=level, within=within)


def figures_of(level: Level, goal: Goal) -> dict[str, float]:
    """What goes into the provenance's metrics."""
    figures = {
        "tune_requests_per_s": level.throughput,
        "tune_callers" if level.mode is Mode.CONCURRENCY else "tune_rate": level.value,
        f"tune_p{goal.percentile:g}_ms": (at_percentile(level, goal.percentile) or 0.0) / 1e3,
    }
    return {name: round(value, 4) for name, value in figures.items()}


def write(tuned: Tuned, package: Package, registry: Registry, version: str) -> Tuned:
    """Write the settings into the registry as a new version; nothing is served by that alone.

    Raises:
        AdmissionRefused, RegistryError, PackageError: the registry does not take it.
    """
    from deploy.packaging import admit_and_add

    with tempfile.TemporaryDirectory(prefix="hct-") as name:
        made = write_retuned(
            package,
            Path(name) / "package",
            version=version,
            execution=tuned.best,
            metrics=tuned.figures,
            how=f"hardcase tune for p{tuned.goal.percentile:g} within {tuned.goal.limit_us / 1e3:g} ms",
        )
        added = admit_and_add(registry, made.dir)
    return replace(tuned, version=version, digest=added.digest)
