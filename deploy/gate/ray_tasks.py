"""Large sets on a Ray cluster: shards of them answered and judged by tasks, wherever there is a processor.

Packages and inputs travel through Ray's object store, so the nodes need no folder in common. The verdict is the same as
on one machine: an input's answer depends neither on its shard nor on its place. Costs are measured here, not there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.gate.answering import NOTHING, Answering, load
from deploy.gate.child import VersionFailed
from deploy.gate.errors import GateError
from deploy.gate.inputs import LabelledSet
from export.contracts.errors import HardcaseError
from export.contracts.manifest import MANIFEST_FILE
from export.package import read_package
from monitoring.gate.job import GateRequest, GateSet
from monitoring.gate.judge import Judged

SHARD = 2048  # inputs of a task
UNDER_WAY = 2  # tasks for each processor
CPUS = 1.0  # of a task
Files = Mapping[str, bytes]
Sets = Sequence[tuple[GateSet, LabelledSet]]
Tell = Callable[[int, int, str], None]

_loaded: dict[str, Answering] = {}  # of this process, by digests: a worker of Ray does many shards


def answer_shard(
    package: Files, rules: Files, key: str, batch_rows: int, inputs: Mapping[str, Any], truths: Sequence[Any]
) -> Judged | str:
    """One shard, in whichever process; a text says why not.

    Args:
        package: The version's files.
        rules: Those of the champion.
        key: Names the two: what is loaded once is used again.
        batch_rows: Inputs at once.
        inputs: By name, (rows, ...).
        truths: What is right.
    """
    try:
        if key not in _loaded:
            _loaded.clear()
            with tempfile.TemporaryDirectory() as folder:
                _unpack(package, Path(folder) / "own")
                _unpack(rules, Path(folder) / "rules")
                _loaded[key] = load(Path(folder) / "own", Path(folder) / "rules", batch_rows)
        return _loaded[key].evaluate(inputs, truths)
    except HardcaseError as error:
        return error.message


def answer_on_ray(request: GateRequest, sets: Sets, tell: Tell) -> list[list[Judged]]:
    """What champion and candidate did on each set.

    Args:
        request: With the cluster's address.
        sets: What is asked.
        tell: Is told of progress.

    Raises:
        GateError: the cluster cannot be reached, or the champion cannot answer.
        VersionFailed: the candidate cannot.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    untyped: Any = ray
    ours = not untyped.is_initialized()
    if ours:
        try:
            untyped.init(address=request.ray, log_to_driver=False)
        except (ConnectionError, RuntimeError):
            raise GateError("the Ray cluster of the request cannot be reached") from None
    try:
        return _spread(untyped, request, sets, tell)
    finally:
        if ours:
            untyped.shutdown()


def _spread(ray: Any, request: GateRequest, sets: Sets, tell: Tell) -> list[list[Judged]]:
    task = ray.remote(num_cpus=CPUS, max_retries=3)(answer_shard)
    folders = (Path(request.champion), Path(request.candidate))
    files = [ray.put(_files(folder)) for folder in folders]
    keys = [read_package(folder).digest for folder in folders]
    waiting = [
        (side, number, start)
        for number, (_, labelled) in enumerate(sets)
        for start in range(0, len(labelled), SHARD)
        for side in (0, 1)
    ]
    total, most = len(waiting), max(2, int(ray.cluster_resources().get("CPU", 1)) * UNDER_WAY)
    under_way: dict[Any, tuple[int, int, int]] = {}
    done: dict[tuple[int, int, int], Judged] = {}
    while waiting or under_way:
        while waiting and len(under_way) < most:
            side, number, start = shard = waiting.pop(0)
            part = sets[number][1][start : start + SHARD]
            key = f"{keys[side]} {keys[0]}"
            asked = task.remote(files[side], files[0], key, request.batch_rows, part.inputs, list(part.truths))
            under_way[asked] = shard
        (ready,), _ = ray.wait(list(under_way), num_returns=1)
        shard, answer = under_way.pop(ready), ray.get(ready)
        if isinstance(answer, str):
            raise GateError(f"the champion cannot answer the sets: {answer}") if not shard[0] else VersionFailed(answer)
        done[shard] = answer
        tell(len(done), total, f"shard {len(done)} of {total}")
    return [[_joined(done, side, number) for number in range(len(sets))] for side in (0, 1)]


def _joined(done: Mapping[tuple[int, int, int], Judged], side: int, number: int) -> Judged:
    whole = NOTHING
    for shard in sorted(s for s in done if s[:2] == (side, number)):
        whole = whole.extended(done[shard])
    return whole


def _files(folder: Path) -> Files:
    names = [MANIFEST_FILE, *(f.path for f in read_package(folder).manifest.files)]
    return {name: folder.joinpath(*name.split("/")).read_bytes() for name in names}


def _unpack(files: Files, folder: Path) -> None:
    for name, data in files.items():
        path = folder.joinpath(*name.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
