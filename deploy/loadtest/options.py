"""The command's options as a plan: checked, with texts that name the option."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deploy.errors import UsageError
from deploy.loadtest.arrivals import Arrivals
from deploy.loadtest.http_wire import Encoding
from deploy.loadtest.measure import Stability
from deploy.loadtest.orders import Mode, Protocol
from deploy.loadtest.parsing import Target, parse_goal, parse_percentile, parse_shape, parse_sweep, parse_target
from deploy.loadtest.session import Plan
from deploy.loadtest.tensors import Fill

if TYPE_CHECKING:
    from deploy.settings import Settings

Choice = TypeVar("Choice", bound=StrEnum)
DEFAULT_SWEEP = "1:64:x2"
_DEFAULT_PERCENTILE = 95.0


def make_plan(
    *,
    model: str,
    version: str | None = None,
    concurrency: str | None = None,
    rate: str | None = None,
    arrivals: str = "poisson",
    batch: int = 1,
    shapes: Sequence[str] = (),
    data: str = "random",
    input_data: Path | None = None,
    encoding: str | None = None,
    outputs: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    window_s: float = 1.0,
    warm_up_s: float = 1.0,
    max_windows: int = 10,
    stability: float = 0.1,
    percentile: str | None = None,
    timeout_s: float = 10.0,
    workers: int = 0,
    connections: int = 1024,
    seed: int = 1,
    target: str | None = None,
) -> Plan:
    """The options of `hardcase bench`, by their names.

    Raises:
        UsageError: names the option that is wrong, or the two that exclude each other.
    """
    if not model:
        raise UsageError("which model? -m MODEL", "`hardcase registry list` shows the own ones")
    if concurrency is not None and rate is not None:
        raise UsageError("--concurrency and --rate exclude each other: a closed loop, or an open one")
    goal = parse_goal(target, "--latency-target") if target else None
    watched = goal.percentile if goal else _DEFAULT_PERCENTILE
    if percentile is not None:
        watched = parse_percentile(percentile, "--percentile")
    mode = Mode.CONCURRENCY if rate is None else Mode.RATE
    levels = (
        parse_sweep(concurrency or DEFAULT_SWEEP, "--concurrency", whole=True)
        if rate is None
        else parse_sweep(rate, "--rate", whole=False)
    )
    return Plan(
        model=model,
        version=version,
        mode=mode,
        levels=levels,
        arrivals=choose(Arrivals, arrivals, "--arrivals"),
        batch=batch,
        shapes=dict(parse_shape(text) for text in shapes),
        fill=choose(Fill, data, "--data"),
        input_data=input_data,
        encoding=choose(Encoding, encoding, "--encoding") if encoding else None,
        outputs=tuple(outputs),
        headers=headers or {},
        window_s=window_s,
        warm_up_s=warm_up_s,
        timeout_s=timeout_s,
        stability=Stability(share=stability, percentile=watched, most=max_windows, least=min(3, max_windows)),
        goal=goal,
        workers=workers,
        connections=connections,
        seed=seed,
    )


def make_targets(servers: Sequence[str], protocol: str | None, settings: Callable[[], Settings]) -> list[Target]:
    """Servers from the arguments, or the one of the settings when there are none.

    Raises:
        UsageError: not a URL, or no server for this protocol.
    """
    spoken = choose(Protocol, protocol, "--protocol") if protocol else None
    if servers:
        return [parse_target(text, spoken) for text in servers]
    from deploy.addresses import addresses

    known = addresses(settings())
    if spoken is Protocol.GRPC and "grpc" not in known:
        raise UsageError("the settings switch gRPC off (serving.grpc_port)", "or name a server: grpc://127.0.0.1:9000")
    return [parse_target(f"hardcase={known['grpc' if spoken is Protocol.GRPC else 'inference']}", spoken)]


def choose(kind: type[Choice], text: str, option: str) -> Choice:
    """A member of an enum by its value.

    Raises:
        UsageError: there is no such value; the text lists them.
    """
    try:
        return kind(text.lower())
    except ValueError:
        raise UsageError(f"{option} {text}: must be {' or '.join(kind)}") from None
