"""Bounds of the latency histogram. A module of its own: rules about latencies are checked where nothing serves."""

from __future__ import annotations

LATENCY_BOUNDS_NS: tuple[int, ...] = tuple(
    int(us * 1000)
    for us in (
        *(10, 25, 50, 100, 250, 500),  # the fast lane lives here
        *(1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5),  # milliseconds
        *(1e6, 2.5e6, 5e6, 1e7, 3e7, 6e7),  # seconds, up to the largest time limit
    )
)
