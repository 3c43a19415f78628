"""`hardcase bench`, without its options and its output: servers one after the other, level by level."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol as Interface

from deploy.loadtest.arrivals import Arrivals
from deploy.loadtest.control import Control, HttpControl, ServerFacts, choose_encoding
from deploy.loadtest.http_wire import Encoding
from deploy.loadtest.measure import Stability, measure
from deploy.loadtest.orders import Mode, Protocol, Setup
from deploy.loadtest.parsing import Target
from deploy.loadtest.results import Goal, Level, Subject, WindowResult
from deploy.loadtest.tensors import Fill, Payload, from_file, made_up
from deploy.loadtest.workers import Load, Workers

_DISTINCT = 32  # different requests that take turns, so that no cache of the server answers them all
_PREPARED_BYTES = 48 << 20  # ... but not more bytes than this
_OVER_GOAL = 2  # levels in a row over the goal after which a sweep goes no further
GOOD_ERROR_SHARE = 0.001  # a level with more failed requests than this is never the best one


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to measure, and how; the options of the command.

    Attributes:
        levels: Callers or requests a second, in the order of the sweep.
        encoding: None chooses the better one that the server knows.
        workers: Generator processes; 0 takes half of the cores.
    """

    model: str
    version: str | None = None
    mode: Mode = Mode.CONCURRENCY
    levels: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    arrivals: Arrivals = Arrivals.POISSON
    batch: int = 1
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fill: Fill = Fill.RANDOM
    input_data: Path | None = None
    encoding: Encoding | None = None
    outputs: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    window_s: float = 1.0
    warm_up_s: float = 1.0
    timeout_s: float = 10.0
    stability: Stability = field(default_factory=Stability)
    goal: Goal | None = None
    workers: int = 0
    connections: int = 1024
    seed: int = 1


class Watcher(Interface):
    """Told how it goes."""

    def subject(self, subject: Subject, facts: ServerFacts) -> None:
        """A server is about to be measured."""
        ...

    def level(self, load: Load) -> None:
        """A level begins."""
        ...

    def window(self, number: int, window: WindowResult) -> None:
        """A window has ended."""
        ...

    def measured(self, level: Level) -> None:
        """A level has ended."""
        ...


class Quiet:
    """A watcher that does not care."""

    def subject(self, subject: Subject, facts: ServerFacts) -> None:
        """Nothing."""

    def level(self, load: Load) -> None:
        """Nothing."""

    def window(self, number: int, window: WindowResult) -> None:
        """Nothing."""

    def measured(self, level: Level) -> None:
        """Nothing."""


async def run(
    targets: Sequence[Target], plan: Plan, watcher: Watcher | None = None
) -> tuple[tuple[Subject, ...], bool]:
    """Measure every target.

    Returns:
        What was found, and whether Ctrl-C came before the end.

    Raises:
        CommandError: a server cannot be measured; what was found before is lost, which is nothing in the usual case
            that it is wrong from the start: all servers are asked before the first is loaded.
    """
    watcher = watcher or Quiet()
    openings = [await asyncio.to_thread(open_subject, target, plan) for target in targets]
    found: list[Subject] = []
    try:
        for opening in openings:
            subject, interrupted = await measure_subject(opening, plan, watcher)
            found.append(subject)
            if interrupted:
                return tuple(found), True
    finally:
        for opening in openings:
            opening.control.close()
    return tuple(found), False


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A server that answers and has the model: everything that is needed to load it."""

    targets: tuple[Target, ...]
    control: Control
    facts: ServerFacts
    subject: Subject
    payloads: tuple[Payload, ...]
    encoding: Encoding


def open_subject(target: Target, plan: Plan, *more: Target) -> Opening:
    """Ask a server what it is, and send it a first request.

    Args:
        target: The server.
        plan: What to send.
        more: Further instances of the same server, which share the load.

    Raises:
        CommandError: it cannot be measured; the text says why and what to do.
    """
    control = make_control(target, plan)
    facts = control.facts()
    payloads = make_payloads(facts, plan)
    encoding = choose_encoding(plan.encoding, facts, payloads) if target.protocol is Protocol.HTTP else Encoding.BINARY
    control.try_once(payloads[0], encoding, plan.outputs)
    subject = Subject(
        name=target.name,
        address=target.address,
        protocol=target.protocol,
        server=facts.server,
        model=plan.model,
        version=plan.version or facts.version,
        encoding=encoding if target.protocol is Protocol.HTTP else "raw",
    )
    return Opening(
        targets=(target, *more),
        control=control,
        facts=facts,
        subject=subject,
        payloads=tuple(payloads),
        encoding=encoding,
    )


def make_control(target: Target, plan: Plan) -> Control:
    """The way to ask a server."""
    if target.protocol is Protocol.HTTP:
        return HttpControl(target, plan.model, plan.version, plan.headers)
    from deploy.loadtest.grpc_control import GrpcControl

    return GrpcControl(target, plan.model, plan.version, plan.headers)


def make_payloads(facts: ServerFacts, plan: Plan) -> list[Payload]:
    """The inputs of the requests.

    Raises:
        UsageError: shapes are missing, or the file does not fit.
    """
    if plan.input_data is not None:
        return from_file(plan.input_data, facts.inputs, batch=plan.batch)
    first = made_up(facts.inputs, batch=plan.batch, shapes=plan.shapes, fill=plan.fill, count=1, seed=plan.seed)
    size = sum(max(t.array.nbytes, 1) for t in first[0].tensors)
    count = max(1, min(_DISTINCT, _PREPARED_BYTES // size))
    return made_up(facts.inputs, batch=plan.batch, shapes=plan.shapes, fill=plan.fill, count=count, seed=plan.seed)


def make_setup(opening: Opening, plan: Plan) -> Setup:
    """What the generator's processes are told."""
    prepared: list[str] = []
    total = 0
    for payload in opening.payloads:
        request = opening.control.prepare(payload, opening.encoding, plan.outputs)
        total += len(request)
        if prepared and total > _PREPARED_BYTES:
            break
        prepared.append(base64.b64encode(request).decode())
    first = opening.targets[0]
    return Setup(
        protocol=first.protocol,
        hosts=tuple(t.host for t in opening.targets),
        ports=tuple(t.port for t in opening.targets),
        tls=first.tls,
        requests=tuple(prepared),
        metadata=tuple(plan.headers.items()) if first.protocol is Protocol.GRPC else (),
    )


async def measure_subject(opening: Opening, plan: Plan, watcher: Watcher) -> tuple[Subject, bool]:
    """Go through the levels of one server.

    Returns:
        The subject with its levels, and whether Ctrl-C came.
    """
    watcher.subject(opening.subject, opening.facts)
    levels: list[Level] = []
    over = 0
    async with Workers(make_setup(opening, plan), worker_count(plan)) as workers:
        for value in plan.levels:
            load = make_load(plan, value)
            watcher.level(load)
            level = await measure(
                workers,
                opening.control,
                load,
                plan.stability,
                rows=opening.payloads[0].rows,
                progress=watcher.window,
            )
            if level.windows:
                levels.append(level)
                watcher.measured(level)
            if level.interrupted:
                break
            over = over + 1 if plan.goal is not None and not meets(level, plan.goal) else 0
            if over >= _OVER_GOAL:
                break
    interrupted = bool(level.interrupted)
    return replace(opening.subject, levels=tuple(levels), best=best_level(levels, plan.goal)), interrupted


def make_load(plan: Plan, value: float) -> Load:
    """One level of the plan."""
    return Load(
        mode=plan.mode,
        value=value,
        window_s=plan.window_s,
        warm_up_s=plan.warm_up_s,
        timeout_s=plan.timeout_s,
        connections=plan.connections,
        arrivals=plan.arrivals,
        seed=plan.seed,
    )


def worker_count(plan: Plan) -> int:
    """Generator processes: as asked, else half of the cores; never more than callers."""
    wanted = plan.workers or max(1, len(os.sched_getaffinity(0)) // 2)
    return min(wanted, int(max(plan.levels))) if plan.mode is Mode.CONCURRENCY else wanted


def best_level(levels: Sequence[Level], goal: Goal | None) -> int | None:
    """Index of the level with the most throughput among those that meet the goal and hardly fail a request."""
    good = [n for n, level in enumerate(levels) if level.throughput > 0 and level.error_share <= GOOD_ERROR_SHARE]
    if goal is not None:
        good = [n for n in good if meets(levels[n], goal)]
    return max(good, key=lambda n: levels[n].throughput) if good else None


def meets(level: Level, goal: Goal) -> bool:
    """Whether a level's latency is within the goal, and the server kept up with it."""
    at = at_percentile(level, goal.percentile)
    kept_up = level.mode is Mode.CONCURRENCY or level.throughput >= 0.97 * level.value
    return at is not None and at <= goal.limit_us and level.error_share <= GOOD_ERROR_SHARE and kept_up


def at_percentile(level: Level, percentile: float) -> float | None:
    """Microseconds at a percentile: a usual one, or from the curve the next that is not below it; None without any."""
    known = {50.0: "p50_us", 90.0: "p90_us", 95.0: "p95_us", 99.0: "p99_us", 99.9: "p999_us", 100.0: "max_us"}
    name = known.get(percentile)
    if name is not None:
        found: float | None = getattr(level.latency, name)
        return found
    above = [us for percent, us in level.curve if percent >= percentile]
    return above[0] if above else level.latency.max_us
