"""The protocol's statistics extension, read as counters and as what happened between two readings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from deploy.loadtest.results import ServerSplit


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """Sums since the server loaded the model; times in nanoseconds."""

    success: int = 0
    failed: int = 0
    success_ns: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    inferences: int = 0
    executions: int = 0
    cache_hits: int = 0
    cache_misses: int = 0


def read_counters(body: bytes, version: str | None) -> Counters | None:
    """Counters from `GET .../stats`: of the version, or of all versions added up. None when it is something else."""
    try:
        entries = json.loads(body)["model_stats"]
        return add_up(_entry(e) for e in entries if version is None or str(e.get("version")) == version)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def add_up(parts: Iterable[Counters]) -> Counters:
    """Their sum."""
    listed = list(parts)
    return Counters(**{f.name: sum(getattr(p, f.name) for p in listed) for f in fields(Counters)})


def _entry(plain: Mapping[str, Any]) -> Counters:
    stats = plain["inference_stats"]

    def duration(name: str) -> tuple[int, int]:
        found = stats.get(name) or {}
        return int(found.get("count", 0)), int(found.get("ns", 0))

    return Counters(
        success=duration("success")[0],
        failed=duration("fail")[0],
        success_ns=duration("success")[1],
        queue_ns=duration("queue")[1],
        input_ns=duration("compute_input")[1],
        infer_ns=duration("compute_infer")[1],
        output_ns=duration("compute_output")[1],
        inferences=int(plain.get("inference_count", 0)),
        executions=int(plain.get("execution_count", 0)),
        cache_hits=duration("cache_hit")[0],
        cache_misses=duration("cache_miss")[0],
    )


def split_between(before: Counters | None, after: Counters | None) -> ServerSplit | None:
    """What happened between two readings; None without both, or when nothing was counted (or a restart was)."""
    if before is None or after is None or after.success <= before.success:
        return None
    requests = after.success - before.success

    def mean_us(name: str) -> float:
        spent: int = getattr(after, name) - getattr(before, name)
        return round(max(0, spent) / requests / 1e3, 3)

    executions = after.executions - before.executions
    return ServerSplit(
        requests=requests,
        failed=max(0, after.failed - before.failed),
        queue_us=mean_us("queue_ns"),
        input_us=mean_us("input_ns"),
        infer_us=mean_us("infer_ns"),
        output_us=mean_us("output_ns"),
        total_us=mean_us("success_ns"),
        mean_batch_rows=round((after.inferences - before.inferences) / executions, 3) if executions > 0 else None,
        cache_hits=max(0, after.cache_hits - before.cache_hits),
        cache_misses=max(0, after.cache_misses - before.cache_misses),
    )
