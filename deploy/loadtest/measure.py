"""One level of load: windows until three in a row agree, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from deploy.loadtest.control import Control
from deploy.loadtest.histogram import Histogram, curve
from deploy.loadtest.orders import Mode
from deploy.loadtest.results import CURVE_PERCENTS, Latency, Level, WindowResult
from deploy.loadtest.statistics import Counters, split_between
from deploy.loadtest.windows import Window, together
from deploy.loadtest.workers import Load, Workers

_AGREEING = 3  # windows in a row
_BUSY_CPU = 0.9
_KEPT_UP = 0.97
_STARVED = 0.2
_SLOWER = 3.0
_LATE_US = 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stability:
    """When windows agree, as Triton's perf_analyzer decides it.

    Attributes:
        share: How far each of three windows may be from their mean, in throughput and in latency, 0 to 1.
        percentile: Which latency is watched.
        most: Windows at most; then the level is called not stable.
        least: Windows at least.
    """

    share: float = 0.1
    percentile: float = 95.0
    most: int = 10
    least: int = _AGREEING


@dataclass(kw_only=True)
class _Seen:
    """What came in so far."""

    windows: list[Window] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    readings: list[Counters | None] = field(default_factory=list)


Progress = Callable[[int, WindowResult], None]


async def measure(
    workers: Workers, control: Control, load: Load, stability: Stability, *, rows: int, progress: Progress
) -> Level:
    """Load the server at one level until it is stable, or not any more worth waiting for.

    Ctrl-C (a cancellation) ends the level early; what was measured by then comes back, marked as interrupted.

    Args:
        workers: Idle generator processes.
        control: Asked for statistics between the windows.
        load: The level.
        stability: When to stop.
        rows: Batch rows of a request.
        progress: Told each window's number and figures.
    """
    seen = _Seen()
    stable = interrupted = False
    try:
        await workers.begin(load)
        await asyncio.sleep(load.warm_up_s)
        seen.readings.append(await asyncio.to_thread(control.counters))
        while not stable and len(seen.windows) < stability.most:
            window, seconds = await workers.window()
            seen.windows.append(window)
            seen.seconds.append(seconds)
            seen.readings.append(await asyncio.to_thread(control.counters))
            progress(len(seen.windows), _summary(window, seconds, stability.percentile))
            stable = len(seen.windows) >= stability.least and is_stable(seen.windows, seen.seconds, stability)
    except asyncio.CancelledError:
        interrupted = True
    ended = await workers.stop()
    level = conclude(
        load, seen.windows, seen.seconds, ended.windows, seen.readings, stability, rows, stable, interrupted
    )
    return replace(level, answered_in_all=ended.answered, failed_in_all=ended.failed)


def is_stable(windows: Sequence[Window], seconds: Sequence[float], stability: Stability) -> bool:
    """Whether the last three windows agree in throughput and in the watched percentile."""
    last = windows[-_AGREEING:]
    if len(last) < _AGREEING or any(not w.answered for w in last):
        return False
    rates = [w.answered / s for w, s in zip(last, seconds[-_AGREEING:], strict=True)]
    latencies = [w.latency.percentile(stability.percentile) for w in last]
    return all(
        abs(value - sum(values) / len(values)) <= stability.share * sum(values) / len(values)
        for values in (rates, latencies)
        for value in values
    )


def conclude(
    load: Load,
    windows: Sequence[Window],
    seconds: Sequence[float],
    by_start: Sequence[Window],
    readings: Sequence[Counters | None],
    stability: Stability,
    rows: int,
    stable: bool,
    interrupted: bool,
) -> Level:
    """The level's figures: of the last three windows when they are stable, of all when they are not.

    In an open loop the latencies are those of the requests that were *meant to leave* in these windows, also when they
    were answered later or not at all. In a closed loop they are those of the requests that ended in them.
    """
    number = len(windows)
    first = number - _AGREEING if stable else 0
    span = slice(first, number)
    length = sum(seconds[span])
    ended = together(windows[span])
    counted = together(by_start[span]) if load.mode is Mode.RATE and len(by_start) >= number else ended
    throughput = ended.answered / length if length else 0.0
    split = split_between(readings[first], readings[number]) if len(readings) > number else None
    level = Level(
        mode=load.mode,
        value=load.value,
        stable=stable,
        interrupted=interrupted,
        seconds=round(length, 4),
        throughput=round(throughput, 3),
        rows_per_s=round(throughput * rows, 3),
        errors=dict(sorted(counted.errors.items())),
        latency=latency_of(counted.latency),
        lag_p99_us=_us(ended.lag, 99) if ended.lag.count else None,
        generator_cpu=round(ended.cpu_share, 3),
        generator_starved=round(ended.starved_share, 3),
        received_bytes_per_s=round(ended.received_bytes / length) if length else 0.0,
        server=split,
        windows=tuple(_summary(w, s, stability.percentile) for w, s in zip(windows, seconds, strict=True)),
        curve=tuple((p, round(ns / 1e3, 2)) for p, ns in curve(counted.latency, CURVE_PERCENTS)),
    )
    return replace(level, notes=notes(level, windows[:first], stability))


def notes(level: Level, earlier: Sequence[Window], stability: Stability) -> tuple[str, ...]:
    """What one must know to read a level's figures."""
    found = []
    if level.interrupted:
        found.append("interrupted: figures of what was measured until then")
    elif not level.stable:
        found.append(
            f"not stable: no {_AGREEING} of {len(level.windows)} windows in a row were within {stability.share:.0%} of "
            "their mean; figures of all of them"
        )
    if level.failed:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in level.errors.items())
        found.append(f"{level.failed} requests failed: {reasons}")
    if level.generator_cpu > _BUSY_CPU:
        found.append(f"the generator used {level.generator_cpu:.0%} of a core: it may be the bottleneck (--workers)")
    if level.generator_starved > _STARVED:
        found.append(
            f"the generator had to wait for a core more than {_STARVED:.0%} of the time: "
            "the machine has too few for the load and all else that runs"
        )
    late = level.lag_p99_us
    if late is not None and late > _LATE_US and late > 0.1 * (level.latency.p50_us or 0.0):
        found.append(f"the generator sent up to {late / 1e3:.1f} ms late (p99): part of the latency is its own")
    if level.mode is Mode.RATE and level.throughput < _KEPT_UP * level.value:
        found.append(f"the server did not keep up: {level.throughput:,.0f} of {level.value:,.0f} requests/s")
    worst = max((w.latency.max / 1e3 for w in earlier if w.latency.count), default=0.0)
    if level.latency.max_us and worst > _SLOWER * level.latency.max_us:
        found.append(f"before it was stable, requests took up to {worst / 1e3:,.1f} ms")
    return tuple(found)


def latency_of(histogram: Histogram) -> Latency:
    """The usual percentiles, those that the number of requests can tell."""
    count = histogram.count
    if not count:
        return Latency(count=0)
    return Latency(
        count=count,
        mean_us=round(histogram.mean / 1e3, 2),
        min_us=round(histogram.min / 1e3, 2),
        p50_us=_us(histogram, 50),
        p90_us=_us(histogram, 90),
        p95_us=_us(histogram, 95),
        p99_us=_us(histogram, 99),
        p999_us=_us(histogram, 99.9),
        max_us=round(histogram.max / 1e3, 2),
    )


def _us(histogram: Histogram, percent: float) -> float:
    return round(histogram.percentile(percent) / 1e3, 2)


def _summary(window: Window, seconds: float, percentile: float) -> WindowResult:
    some = window.latency.count > 0
    return WindowResult(
        throughput=round(window.answered / seconds, 3) if seconds else 0.0,
        errors=window.errors.total(),
        at_us=_us(window.latency, percentile) if some else None,
        max_us=round(window.latency.max / 1e3, 2) if some else None,
    )
