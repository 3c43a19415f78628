"""Streams of the models in `task_models`: a log as the data plane writes it, and the monitor over it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.cycle import make_loop, run_cycle
from monitoring.options import MonitorOptions
from monitoring.records.record import Feedback, Outcome, Ragged, RecordBatch, RecordSchema, Rows, TensorColumn
from monitoring.store import Store
from tests.support.monitor_world import SECOND, START_S, MemoryCatalogue, Replica, options
from tests.support.task_models import Array, World


def schema(world: World) -> RecordSchema:
    """As the data plane records the model."""
    inputs = tuple(TensorColumn(s.name, s.datatype) for s in world.signature.inputs)
    outputs = tuple(TensorColumn(s.name, s.datatype) for s in world.signature.outputs)
    return RecordSchema(world.kind, "1", "sha256:" + "1" * 64, inputs, outputs)


def records(
    world: World, x: Array, ids: list[str], *, second: int = 0, rows: list[int] | None = None, **outputs: Array
) -> RecordBatch:
    """Records of answered rows; `rows` of each where they are not one. `outputs` replace what the model answers."""
    answer = world.answer(x) | outputs
    n = len(ids)

    def column(array: Array) -> Any:
        array = np.ascontiguousarray(array)
        if rows is None:
            return Rows(array, array.shape[1:], array[0].nbytes)
        ends = np.cumsum([0, *rows])
        parts = [np.ascontiguousarray(array[a:b]) for a, b in pairwise(ends)]
        return Ragged([p.tobytes() for p in parts], [p.shape for p in parts])

    return RecordBatch(
        schema=schema(world),
        ids=[i.encode() for i in ids],
        time_ns=[(START_S + second) * SECOND + i for i in range(n)],
        variant="champion",
        outcome=Outcome.OK,
        queue_ns=[1000] * n,
        total_ns=[5000] * n,
        compute_ns=2000,
        inputs=(column(x),),
        outputs=tuple(column(answer[s.name]) for s in world.signature.outputs),
        **({} if rows is None else {"rows": rows}),
    )


def said(world: World, identity: str, truth: Any, second: int = 1) -> Feedback:
    """What people would send for a record of one row with that truth."""
    given: dict[str, Any]
    if world.kind in ("one", "spread", "width"):
        given = {"label": truth}
    elif world.kind == "many":
        given = {"labels": tuple(truth)}
    else:
        given = {"truth": [truth]}
    return Feedback(record_id=identity, model=world.kind, time_ns=(START_S + second) * SECOND, **given)


def stream(root: Path, world: World, *, n: int = 240, hard_from: int = 160) -> None:
    """Write a log: `n` records over two replicas, harder ones from `hard_from` on, the truth of every third."""
    x = world.x[np.arange(n) % len(world.x)]
    x[hard_from:] = world.harder(x[hard_from:])
    replicas = [Replica(root, f"r{i}") for i in range(2)]
    for second, start in enumerate(range(0, n, 20)):
        ids = [f"{world.kind}-{i}" for i in range(start, min(start + 20, n))]
        replicas[second % 2].offer(records(world, x[start : start + 20], ids, second=second))
        if world.truth[0] is None:
            continue
        items = [
            said(world, identity, world.truth[(start + i) % len(world.x)], second + 1)
            for i, identity in enumerate(ids)
            if (start + i) % 3 == 0
        ]
        replicas[(second + 1) % 2].feedback(*items)  # through another replica: may be read before its record
    for replica in replicas:
        replica.close()


def catalogue(folder: Path, *worlds: World) -> MemoryCatalogue:
    """A catalogue with the reference of each model. They must be of one version each, called "1"."""
    assert len(worlds) == 1
    folder.mkdir(parents=True, exist_ok=True)
    worlds[0].profile.save(folder)
    return MemoryCatalogue((worlds[0].manifest,), {"1": folder})


def consume(folder: Path, log: Path, known: MemoryCatalogue, *, cycles: int | None = None, **changes: Any) -> Store:
    """Run the monitor over a log until nothing is left, or for so many cycles."""
    chosen: MonitorOptions = options(folder, records_root=log, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(chosen.database_url)
    loop = make_loop(chosen, store, known)
    done = 0
    while run_cycle(loop):
        done += 1
        if cycles is not None and done >= cycles:
            loop.reader.close()
            return store
    loop.roster.finish(loop)
    loop.reader.close()
    return store
