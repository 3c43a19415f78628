"""Parts of a re-scoring as Ray tasks: a bounded number under way, results written by the tasks themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.wiring import RegistryCatalogue
from export.registry import Registry
from monitoring.baselines import Baselines
from monitoring.options import CaseOptions
from monitoring.rescore import Part, RescoreRequest, Summary, rescore_part

_UNDER_WAY = 2  # tasks for each CPU: enough that none waits, few enough that stopping is quick


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What every task is given. Folders are those of the machine that asks: the cluster must see the same ones."""

    request: RescoreRequest
    registry: Path
    records: Path
    archive: Path
    out: Path
    cases: CaseOptions


def do_part(job: Job, part: Part) -> Summary:
    """One part, in whichever process."""
    baselines = Baselines(RegistryCatalogue(Registry(job.registry)))
    return rescore_part(part, job.request, baselines, job.cases, (job.records, job.archive), job.out)


def run_on_ray(
    job: Job, parts: Sequence[Part], done: Callable[[Part, Summary], None], *, address: str | None, cpus: int | None
) -> None:
    """Do all parts; `done` is called for each as it ends.

    Args:
        job: Of the request.
        parts: To do.
        done: For the progress bar.
        address: Of an existing cluster; None starts one on this machine and stops it again.
        cpus: Of a cluster of our own.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    untyped: Any = ray
    local = {"num_cpus": cpus or os.cpu_count() or 1, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    untyped.init(address=address or "local", log_to_driver=False, **({} if address else local))
    try:
        task = untyped.remote(num_cpus=1, max_retries=3)(do_part)
        most = max(2, int(untyped.cluster_resources().get("CPU", 1)) * _UNDER_WAY)
        waiting = list(parts)
        under_way: dict[Any, Part] = {}
        while waiting or under_way:
            while waiting and len(under_way) < most:
                part = waiting.pop(0)
                under_way[task.remote(job, part)] = part
            (ready,), _ = untyped.wait(list(under_way), num_returns=1)
            done(under_way.pop(ready), untyped.get(ready))
    finally:
        untyped.shutdown()
