"""The search: which settings to try next, which of two is better, and when to stop. Pure; somebody else measures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from deploy.loadtest.orders import Mode
from deploy.loadtest.results import Goal, Level
from deploy.loadtest.session import at_percentile, meets

_BETTER = 1.03  # what another candidate must be better by to be preferred: less is noise
_GAIN = 1.05  # more callers are worth a try as long as they bring this much more
_MOST_CALLERS = 512
_FAR_BEHIND = 0.8
_GRID = (64, 16, 4, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """Settings to try; the fields are those of `export.contracts.manifest.Execution`."""

    max_batch_rows: int
    intra_op_threads: int
    instances: int

    @property
    def cost(self) -> int:
        """What it takes of the machine: of two that are equally fast, the cheaper one is better."""
        return max(1, self.intra_op_threads) * self.instances


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A candidate and its best level: the most load within the goal, or the least load where none was.

    Attributes:
        level: None: the server did not come up with these settings; `why` says the reason.
    """

    candidate: Candidate
    level: Level | None
    within: bool
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What may be tried.

    Attributes:
        most_rows: The package's largest batch.
        cores: Of this machine.
        batched: The model has a batch dimension.
    """

    most_rows: int
    cores: int
    batched: bool = True


Measure = Callable[[Candidate], Awaitable[Trial]]


@dataclass(kw_only=True)
class Search:
    """Coordinate descent from one thread in one process: batch, threads, instances, then the batch again, finer.

    Args:
        bounds: What may be tried.
        mode: Closed loop: the most throughput within the goal wins. Open loop: the least latency at the given rate.
        goal: The latency that must be kept.
        measure: Tries a candidate.
        time_left: Whether another candidate may be tried.
    """

    bounds: Bounds
    mode: Mode
    goal: Goal
    measure: Measure
    time_left: Callable[[], bool]
    trials: list[Trial] = field(default_factory=list)
    best: Trial | None = None

    async def run(self) -> Trial | None:
        """Search; the best trial, or None when nothing came up at all."""
        start = Candidate(max_batch_rows=self.bounds.most_rows, intra_op_threads=1, instances=1)
        await self._try([start])
        for rows in self._smaller_batches():
            if not await self._try([replace(start, max_batch_rows=rows)]) and self._last_far_behind():
                break
        for threads in self._powers(self.bounds.cores):
            if self.best is None or not await self._try([replace(self.best.candidate, intra_op_threads=threads)]):
                break
        for instances in self._powers(self.bounds.cores):
            if self.best is None:
                break
            candidate = replace(self.best.candidate, instances=instances)
            if candidate.cost > self.bounds.cores or not await self._try([candidate]):
                break
        if self.best is not None:
            rows = self.best.candidate.max_batch_rows
            near = [n for n in (rows // 2, rows * 2) if 1 <= n <= self.bounds.most_rows]
            await self._try([replace(self.best.candidate, max_batch_rows=n) for n in near])
        return self.best

    async def _try(self, candidates: list[Candidate]) -> bool:
        """Measure candidates that were not measured yet; whether one of them is the best now."""
        improved = False
        for candidate in candidates:
            if any(t.candidate == candidate for t in self.trials) or (self.trials and not self.time_left()):
                continue
            trial = await self.measure(candidate)
            self.trials.append(trial)
            if is_better(trial, self.best, self.mode, self.goal):
                self.best, improved = trial, True
        return improved

    def _smaller_batches(self) -> list[int]:
        """Batch sizes below the largest, falling: a coarse grid."""
        return [n for n in _GRID if n < self.bounds.most_rows] if self.bounds.batched else []

    def _last_far_behind(self) -> bool:
        """Whether the last trial was so much worse than the best that going on in its direction makes no sense."""
        last, best = self.trials[-1].level, self.best.level if self.best else None
        return last is not None and best is not None and last.throughput < _FAR_BEHIND * best.throughput

    def _powers(self, most: int) -> list[int]:
        """2, 4, 8 ... and `most` itself."""
        powers = [2**n for n in range(1, 12) if 2**n < most]
        return [*powers, most] if most > 1 else []


def is_better(trial: Trial, than: Trial | None, mode: Mode, goal: Goal) -> bool:
    """Whether a trial beats another: within the goal first, then by more than noise, then by costing less."""
    if trial.level is None:
        return False
    if than is None or than.level is None:
        return True
    if trial.within != than.within:
        return trial.within
    if trial.within and mode is Mode.CONCURRENCY:
        gain = trial.level.throughput / max(than.level.throughput, 1e-9)
    else:
        mine, other = at_percentile(trial.level, goal.percentile), at_percentile(than.level, goal.percentile)
        gain = (other or 0.0) / mine if mine else 0.0
    if trial.candidate.cost < than.candidate.cost:
        return gain > 1 / _BETTER
    return gain > _BETTER


async def most_callers(
    measure: Callable[[int], Awaitable[Level]], goal: Goal, *, start: int, time_left: Callable[[], bool]
) -> tuple[Level, bool]:
    """The level with the most throughput within the goal: up in factors of four, then between the last two.

    Args:
        measure: Loads the server with so many callers.
        goal: What must be kept.
        start: Callers to begin with.
        time_left: Whether another level may be tried.

    Returns:
        The level, and whether it keeps the goal; when none does, the one with the fewest callers.
    """
    callers, upper = start, 0
    level = await measure(callers)
    while not meets(level, goal) and callers > 1 and time_left():
        upper, callers = callers, max(1, callers // 4)
        level = await measure(callers)
    if not meets(level, goal):
        return level, False
    best = level
    while not upper and callers < _MOST_CALLERS and time_left():
        callers *= 4
        level = await measure(callers)
        if not meets(level, goal) or level.throughput < best.throughput * _GAIN:
            upper = callers
        if meets(level, goal) and level.throughput > best.throughput:
            best = level
    if upper // 2 > best.value and time_left():
        level = await measure(upper // 2)
        if meets(level, goal) and level.throughput > best.throughput:
            best = level
    return best, True
