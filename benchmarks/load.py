"""One measurement: wrk against one URL, its report read strictly. An error or a refused request is fatal."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}
_PERCENTILES = (50, 75, 90, 99)


class LoadFailed(Exception):
    """The load generator could not run, or requests failed: the number would mean nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadResult:
    """What wrk measured.

    Attributes:
        latency_us: Percentile (50, 75, 90, 99) to microseconds.
        socket_errors: Connect, read, write and timeout errors added up.
        bad_statuses: Answers that were neither 2xx nor 3xx.
    """

    requests: int
    duration_s: float
    requests_per_s: float
    latency_us: dict[int, float]
    socket_errors: int = 0
    bad_statuses: int = 0


def parse_wrk(text: str) -> LoadResult:
    """Read the report that `wrk --latency` prints.

    Raises:
        LoadFailed: a line that every complete report has is missing; the report is quoted.
    """
    totals = re.search(r"^\s*(\d+) requests in ([\d.]+)(us|ms|s|m|h), ", text, re.MULTILINE)
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    percentiles = {
        int(p): float(value) * _UNITS_US[unit]
        for p, value, unit in re.findall(r"^\s+(50|75|90|99)%\s+([\d.]+)(us|ms|s|m|h)\s*$", text, re.MULTILINE)
    }
    if not totals or not rate or set(percentiles) != set(_PERCENTILES):
        raise LoadFailed(f"wrk's report is not complete:\n{text}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return LoadResult(
        requests=int(totals[1]),
        duration_s=float(totals[2]) * _UNITS_US[totals[3]] / 1e6,
        requests_per_s=float(rate[1]),
        latency_us=percentiles,
        socket_errors=sum(int(n) for n in errors.groups()) if errors else 0,
        bad_statuses=int(bad[1]) if bad else 0,
    )


def run_wrk(url: str, script: Path, *, connections: int, duration_s: float) -> LoadResult:
    """Load `url` from one wrk thread with keep-alive connections, each with one request in flight.

    Args:
        url: Where the requests go.
        script: A Lua file that sets method, headers and body (`benchmarks.payloads`).
        connections: How many connections, hence the requests in flight.
        duration_s: Rounded up to whole seconds, which is all that wrk knows.

    Raises:
        LoadFailed: wrk is missing or failed, a socket error, a status outside 2xx and 3xx, or no request at all.
    """
    whole_s = max(1, -(-int(duration_s * 1000) // 1000))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole_s}s", "--timeout", "10s", "--latency", "-s", str(script)]
    try:
        done = subprocess.run(
            [*command, url], capture_output=True, text=True, check=False, timeout=whole_s + 60, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise LoadFailed("wrk is not installed; Debian and Ubuntu have it as the package 'wrk'") from None
    if done.returncode != 0:
        raise LoadFailed(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    result = parse_wrk(done.stdout)
    if result.socket_errors or result.bad_statuses or not result.requests:
        raise LoadFailed(
            f"{result.socket_errors} socket errors and {result.bad_statuses} bad statuses in {result.requests} "
            f"requests to {url}"
        )
    return result
