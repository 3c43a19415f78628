"""The figures that the serving benchmark is held against: ratios within one round, and latencies."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]
TIMES = "\u00d7"
DIRECT = "direct/oip-binary/64"
FRONT = "front/oip-binary/64"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One promise.

    Attributes:
        text: What is compared.
        target: The bound; `at_least` says on which side of it the value must lie.
        unit: Follows the number: "%", microseconds, or a ratio's sign.
        values: One value a round.
    """

    text: str
    target: float
    at_least: bool
    unit: str
    values: Callable[[Results], list[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """A figure with what was measured: the median over the rounds, and None where it was not measured."""

    figure: Figure
    median: float | None
    lowest: float | None
    highest: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the median keeps the promise; None: not measured."""
        if self.median is None:
            return None
        return self.median >= self.figure.target if self.figure.at_least else self.median <= self.figure.target


def rates(results: Results, target: str, *cells: str) -> dict[int, float]:
    """Requests a second by round: of the best of `cells`, where one server has several ways to answer."""
    return _by_round(results, target, cells, lambda m: float(m["requests_per_s"]), max)


def latencies_us(results: Results, target: str, cell: str, percentile: str = "p50") -> dict[int, float]:
    """A latency percentile by round, microseconds."""
    return _by_round(results, target, (cell,), lambda m: float(m["latency_us"][percentile]), min)


def ratios(ours: dict[int, float], *theirs: dict[int, float]) -> list[float]:
    """Ours over the best of theirs, round by round; rounds that miss one side are left out."""
    best: dict[int, float] = {}
    for peer in theirs:
        for number, rate in peer.items():
            best[number] = max(rate, best.get(number, 0.0))
    return [rate / best[number] for number, rate in sorted(ours.items()) if best.get(number)]


def evaluate(results: Results) -> list[Reached]:
    """Every figure with its median, lowest and highest value."""
    evaluated = []
    for figure in FIGURES:
        values = figure.values(results)
        evaluated.append(
            Reached(
                figure=figure,
                median=statistics.median(values) if values else None,
                lowest=min(values, default=None),
                highest=max(values, default=None),
            )
        )
    return evaluated


def _by_round(
    results: Results,
    target: str,
    cells: Iterable[str],
    value: Callable[[dict[str, Any]], float],
    best: Callable[[float, float], float],
) -> dict[int, float]:
    found: dict[int, float] = {}
    wanted = set(cells)
    for m in results["measurements"]:
        if m["target"] == target and m["cell"] in wanted:
            number, new = int(m["round"]), value(m)
            found[number] = best(found[number], new) if number in found else new
    return found


def _replica(results: Results, cell: str = DIRECT) -> dict[int, float]:
    return rates(results, "ours_replica", cell)


FIGURES: tuple[Figure, ...] = (
    Figure(
        text="straight to one replica, every request captured, against mosec (the better of two batch limits)",
        target=1.25,
        at_least=True,
        unit=TIMES,
        values=lambda r: ratios(_replica(r), rates(r, "mosec", "front/raw/64"), rates(r, "mosec_32", "front/raw/64")),
    ),
    Figure(
        text="… against Triton's front end with PyTriton",
        target=8,
        at_least=True,
        unit=TIMES,
        values=lambda r: ratios(_replica(r), rates(r, "pytriton", "front/oip-binary/64")),
    ),
    Figure(
        text="… against Ray Serve's high-throughput mode with a bare ASGI app, straight to its replica as well",
        target=10,
        at_least=True,
        unit=TIMES,
        values=lambda r: ratios(_replica(r), rates(r, "ray_throughput", "direct/raw/64", "direct/raw/64/infer-alone")),
    ),
    Figure(
        text="straight to one replica, one connection, p50",
        target=80,
        at_least=False,
        unit=" µs",
        values=lambda r: list(latencies_us(r, "ours_replica", "direct/oip-binary/1").values()),
    ),
    Figure(
        text="through HAProxy, every request captured, against Ray Serve written the usual way",
        target=30,
        at_least=True,
        unit=TIMES,
        values=lambda r: ratios(_replica(r, FRONT), rates(r, "ray_usual", "front/raw/64", "front/json/64")),
    ),
    Figure(
        text="through HAProxy, one connection, p50",
        target=350,
        at_least=False,
        unit=" µs",
        values=lambda r: list(latencies_us(r, "ours_replica", "front/oip-binary/1").values()),
    ),
    Figure(
        text="throughput that capturing every request costs, straight to the replica",
        target=10,
        at_least=False,
        unit=" %",
        values=lambda r: [100 * (1 - x) for x in ratios(_replica(r), rates(r, "ours_replica_nocapture", DIRECT))],
    ),
    Figure(
        text="JSON as a share of binary, straight to the replica",
        target=70,
        at_least=True,
        unit=" %",
        values=lambda r: [100 * x for x in ratios(_replica(r, "direct/oip-json/64"), _replica(r))],
    ),
    Figure(
        text="answered requests that the replica's own account says were captured",
        target=100,
        at_least=True,
        unit=" %",
        values=lambda r: captured_percent(r, "ours_replica"),
    ),
)


def captured_percent(results: Results, target: str) -> list[float]:
    """Captured records as a share of all requests, one value a round.

    Requests are what the account adds up to, or what wrk counted, whichever is more: an account that forgets requests
    must not look complete.
    """
    shares = []
    for account in results["capture"]:
        if account["target"] == target:
            counted = sum(
                m["requests"]
                for m in results["measurements"]
                if m["target"] == target and m["round"] == account["round"]
            )
            requests = max(sum(account["records"].values()), counted)
            if requests:
                shares.append(100 * account["records"].get("captured", 0) / requests)
    return shares
