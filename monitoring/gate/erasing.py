"""Erasing from the files of gates: what shows an input that is gone is deleted, the verdict stays.

Beside a gate lie the sets that it looked at; they say which records it knows. Its report shows pictures of them.
Erasing one deletes the sets, the report and the table of inputs: all of it can be made again.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from export.contracts.dataset import DATA_FILE, SNAPSHOT_FILE
from monitoring import schema as t
from monitoring.gate.job import GATE_SCHEMA_VERSION, INPUTS_FILE, REPORT_FILE, VERDICT_FILE
from monitoring.gate.rows import ReportState
from monitoring.retention_limits import Limit
from monitoring.store import Store

TRAININGS = "trainings"


def erase_from_gates(store: Store, loop: Path, ids: Collection[str]) -> int:
    """Delete what gates keep of records; returns how many gates had something.

    Args:
        store: Whose gates: their rows say that the report is gone.
        loop: State of the loop.
        ids: Of the records.
    """
    gone = 0
    for turn in sorted((loop / TRAININGS).glob("*")):
        if not _holds(turn, ids):
            continue
        _empty(store, turn)
        gone += 1
    return gone


def _empty(store: Store, turn: Path) -> None:
    shutil.rmtree(turn / "sets", ignore_errors=True)
    shutil.rmtree(turn / "gate" / "sets", ignore_errors=True)
    for name in (REPORT_FILE, INPUTS_FILE):
        (turn / "gate" / name).unlink(missing_ok=True)
    _without_flips(turn / "gate" / VERDICT_FILE)
    g = t.gates.c
    with store.write() as connection:
        connection.execute(t.gates.update().where(g.training_id == turn.name).values(report=ReportState.ERASED.value))


def expire_gates(store: Store, loop: Path, limit_of: Callable[[str], Limit | None]) -> int:
    """Delete what gates keep of records that are too old by their model's limit; returns how many gates had some."""
    gone = 0
    for turn in sorted((loop / TRAININGS).glob("*")):
        if any(_too_old(path, limit_of) for path in _sets(turn)):
            _empty(store, turn)
            gone += 1
    return gone


def _too_old(data: Path, limit_of: Callable[[str], Limit | None]) -> bool:
    """Whether a set has a row of a record that has to go."""
    limit = limit_of(json.loads((data.parent / SNAPSHOT_FILE).read_bytes())["model"])
    if limit is None:
        return False
    times = pq.read_table(data, columns=["time_ns"])["time_ns"]
    old = pc.and_(pc.greater(times, 0), pc.less(times, limit.due_ns))
    return bool(pc.any(old).as_py())


def _sets(turn: Path) -> list[Path]:
    return [*turn.glob(f"sets/*/{DATA_FILE}"), *turn.glob(f"gate/sets/*/{DATA_FILE}")]


def _holds(turn: Path, ids: Collection[str]) -> bool:
    """Whether a set of the turn, or its table of inputs, has a row about one of the records."""
    wanted = pa.array(sorted(ids), pa.string())
    for path in _sets(turn):
        column = pq.read_table(path, columns=["record_id"])["record_id"]
        if pc.any(pc.is_in(column, value_set=wanted)).as_py():
            return True
    try:
        with (turn / "gate" / INPUTS_FILE).open(newline="") as file:
            return any(line["record"].removeprefix("'") in ids for line in csv.DictReader(file))
    except OSError:
        return False


def _without_flips(path: Path) -> None:
    """The verdict without its list of inputs."""
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    if plain.get("schema_version") == GATE_SCHEMA_VERSION:
        plain |= {"negative_flips": [], "positive_flips": []}
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
        temporary.replace(path)
