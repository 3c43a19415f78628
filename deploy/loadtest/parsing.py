"""The little languages of the options: sweeps, percentile goals, shapes, targets, headers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from deploy.errors import UsageError
from deploy.loadtest.orders import Protocol
from deploy.loadtest.results import Goal

_MOST_LEVELS = 100
_UNITS_US = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_DEFAULT_PORTS = {"http": 80, "https": 443, "grpc": 9000, "grpcs": 443}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A server to measure. `path` is a prefix before `/v2`, "" for none."""

    name: str
    protocol: Protocol
    host: str
    port: int
    tls: bool = False
    path: str = ""

    @property
    def address(self) -> str:
        """For people."""
        scheme = f"{self.protocol}{'s' if self.tls else ''}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.path}"


def parse_sweep(text: str, option: str, *, whole: bool) -> tuple[float, ...]:
    """Levels: `8`, `1,2,8`, `1:64:x2` (doubling) or `100:1000:100` (steps).

    Raises:
        UsageError: names the option and what it accepts.

    Example:
        >>> parse_sweep("1:16:x2", "--concurrency", whole=True)
        (1.0, 2.0, 4.0, 8.0, 16.0)
    """
    hint = "8, 1,2,8, 1:64:x2 or 10:100:10"
    try:
        parts = text.split(":")
        levels = [float(p) for p in text.split(",")] if len(parts) == 1 else _range(parts)
    except ValueError:
        raise UsageError(f"{option} {text}: not a sweep", f"examples: {hint}") from None
    if not levels or any(not 0 < v < 1e9 for v in levels) or (whole and any(v != int(v) for v in levels)):
        raise UsageError(f"{option} {text}: levels must be positive{' whole' if whole else ''} numbers", hint)
    if len(levels) > _MOST_LEVELS:
        raise UsageError(f"{option} {text}: {len(levels)} levels are more than {_MOST_LEVELS}")
    return tuple(levels)


def _range(parts: list[str]) -> list[float]:
    if len(parts) not in (2, 3):
        raise ValueError
    first, last, step = float(parts[0]), float(parts[1]), parts[2] if len(parts) == 3 else "x2"
    factor, add = (float(step[1:]), 0.0) if step.startswith("x") else (1.0, float(step))
    if (factor <= 1 and add <= 0) or first <= 0:
        raise ValueError
    levels: list[float] = []
    value = first
    while value <= last * (1 + 1e-9) and len(levels) <= _MOST_LEVELS:
        levels.append(value)
        value = value * factor + add
    return levels


def parse_goal(text: str, option: str) -> Goal:
    """`p99:20ms`.

    Example:
        >>> parse_goal("p99.9:1.5ms", "--latency-target")
        Goal(percentile=99.9, limit_us=1500.0)
    """
    found = re.fullmatch(r"p(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)(us|µs|ms|s)", text.strip())
    if not found or not 0 < float(found[1]) <= 100 or float(found[2]) <= 0:
        raise UsageError(f"{option} {text}: expected a percentile and a time", "for example p99:20ms")
    return Goal(percentile=float(found[1]), limit_us=float(found[2]) * _UNITS_US[found[3]])


def parse_percentile(text: str, option: str) -> float:
    """`p95`."""
    found = re.fullmatch(r"p?(\d+(?:\.\d+)?)", text.strip())
    if not found or not 0 < float(found[1]) <= 100:
        raise UsageError(f"{option} {text}: expected a percentile", "for example p95")
    return float(found[1])


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`input:3,224,224`."""
    name, colon, dims = text.rpartition(":")
    try:
        shape = tuple(int(d) for d in dims.split(","))
    except ValueError:
        shape = ()
    if not colon or not name or not shape or any(d < 1 for d in shape):
        raise UsageError(f"--shape {text}: expected an input and its dimensions", "for example image:3,224,224")
    return name, shape


def parse_target(text: str, protocol: Protocol | None) -> Target:
    """`[NAME=]URL`, where the URL may leave out its scheme and port.

    Example:
        >>> parse_target("triton=grpc://10.0.0.2:8001", None).port
        8001
    """
    given = re.match(r"([A-Za-z0-9 _.+-]+)=(?=\S)(.*)", text)
    name, url = (given[1].strip(), given[2]) if given else ("", text)
    if "://" not in url:
        url = f"{protocol or Protocol.HTTP}://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{text}: not a URL: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise UsageError(f"{text}: not a server's URL", "http://, https://, grpc:// or grpcs://, a host, a port")
    spoken = Protocol.GRPC if parts.scheme.startswith("grpc") else Protocol.HTTP
    if protocol is Protocol.GRPC and spoken is Protocol.HTTP:
        spoken = Protocol.GRPC  # people have the HTTP form at hand; the port is theirs to choose
    path = parts.path.rstrip("/").removesuffix("/v2")
    target = Target(
        name=name,
        protocol=spoken,
        host=parts.hostname,
        port=port or _DEFAULT_PORTS[parts.scheme],
        tls=parts.scheme.endswith("s"),
        path=path,
    )
    return target if name else replace(target, name=target.address)


def parse_header(text: str) -> tuple[str, str]:
    """`Name: value`."""
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name.strip()) or not value.strip().isprintable():
        raise UsageError(f"--header {text}: expected `Name: value`")
    return name.strip(), value.strip()
