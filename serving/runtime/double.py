"""The test device `runtime.device = "double…"`: results of the CPU, timing and hazards of an accelerator."""

from __future__ import annotations

import re

from export.contracts.signature import Signature
from serving.runtime.base import LoadFailed, Runtime
from serving.runtime.host_streams import DoubleOptions, HostAccelerator
from serving.runtime.staged import GraphOptions, StagedRuntime

_SETTING = re.compile(r"^double(?::(?P<batch>[0-9.]+)ms(?:\+(?P<row>[0-9.]+)us)?)?(?P<faults>(?:,[a-z_]+=[0-9]+)*)$")
_FAULTS = ("oom_above", "lost_at")


def parse_double(setting: str) -> DoubleOptions:
    """Read `runtime.device = "double[:MSms[+USus]][,oom_above=ROWS][,lost_at=ROWS]"`.

    Raises:
        LoadFailed: it is something else.

    Example:
        >>> parse_double("double:5ms+20us,oom_above=64")
        DoubleOptions(batch_s=0.005, row_s=2e-05, oom_above=64, lost_at=0)
    """
    found = _SETTING.match(setting)
    try:
        if found is None:
            raise ValueError
        faults = dict(pair.split("=") for pair in found["faults"].split(",") if pair)
        if not set(faults) <= set(_FAULTS):
            raise ValueError
        return DoubleOptions(
            batch_s=float(found["batch"] or 0) / 1e3,
            row_s=float(found["row"] or 0) / 1e6,
            **{name: int(value) for name, value in faults.items()},
        )
    except ValueError:
        raise LoadFailed(
            f"runtime.device is '{setting[:60]}': the double is double[:MSms[+USus]][,oom_above=ROWS][,lost_at=ROWS]"
        ) from None


def double_runtime(
    inner: Runtime, signature: Signature, options: DoubleOptions, *, lanes: int, graphs: GraphOptions
) -> StagedRuntime:
    """A runtime on the double of an accelerator, with the results of a runtime on the CPU."""
    every = tuple(range(len(signature.outputs)))
    device = HostAccelerator(lambda inputs: inner.run(inputs, every), len(every), options, close=inner.close)
    return StagedRuntime(
        device, signature, kind=inner.kind, provider=f"double of {inner.provider}", lanes=lanes, graphs=graphs
    )
