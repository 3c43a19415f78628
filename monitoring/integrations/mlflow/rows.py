"""What MLflow was told and what came from it, in the database. Columns as in `monitoring.schema_experiments`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.integrations.mlflow.names import ImportState
from monitoring.keys import printable
from monitoring.store import Store

PROBLEM_CHARS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """A training's run."""

    training_id: str
    experiment: str
    run: str
    metrics: int
    digest: str
    complete: bool
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionRow:
    """A version of ours in MLflow's registry."""

    model: str
    version: str
    name: str
    number: str
    run: str
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportRow:
    """A version that somebody registered for us."""

    id: int
    name: str
    number: str
    model: str
    version: str
    training_id: str
    state: str
    told: str
    attempts: int
    found_ns: int
    problem: str
    asked_by: str


def run_of(store: Store, training_id: str) -> RunRow | None:
    """The run of a training."""
    r = t.experiment_runs
    with store.read() as connection:
        row = connection.execute(sa.select(r).where(r.c.training_id == training_id)).mappings().one_or_none()
    return None if row is None else RunRow(**row)


def runs(store: Store) -> dict[str, str]:
    """{run: its experiment} of all trainings that have one."""
    r = t.experiment_runs.c
    with store.read() as connection:
        return {run: experiment for run, experiment in connection.execute(sa.select(r.run, r.experiment))}


def add_run(store: Store, training_id: str, experiment: str, run: str) -> RunRow:
    """Remember a run."""
    row = RunRow(
        training_id=training_id, experiment=experiment, run=run, metrics=0, digest="", complete=False, problem=""
    )
    values = {name: getattr(row, name) for name in RunRow.__slots__}
    with store.write() as connection:
        connection.execute(t.experiment_runs.insert().values(**values))
    return row


def note_run(store: Store, training_id: str, **values: Any) -> None:
    """Change a run's row."""
    r = t.experiment_runs
    with store.write() as connection:
        connection.execute(r.update().where(r.c.training_id == training_id).values(**values))


def forget_run(store: Store, training_id: str) -> None:
    """The run is gone from the tracker: it is made anew."""
    r = t.experiment_runs
    with store.write() as connection:
        connection.execute(r.delete().where(r.c.training_id == training_id))


def version_rows(store: Store, model: str) -> dict[str, VersionRow]:
    """{version: its row} of a model."""
    v = t.experiment_versions
    with store.read() as connection:
        found = connection.execute(sa.select(v).where(v.c.model == model)).mappings()
        return {row["version"]: VersionRow(**row) for row in found}


def put_version(store: Store, row: VersionRow) -> None:
    """Write a version's row, new or changed."""
    values = {name: getattr(row, name) for name in VersionRow.__slots__}
    with store.write() as connection:
        put_version_within(connection, values)


def put_version_within(connection: sa.Connection, values: dict[str, Any]) -> None:
    """`put_version` within a transaction."""
    v = t.experiment_versions
    same = (v.c.model == values["model"]) & (v.c.version == values["version"])
    if connection.execute(v.update().where(same).values(**values)).rowcount == 0:
        connection.execute(v.insert().values(**values))


def forget_versions(store: Store, name: str) -> None:
    """The registered model is gone from the tracker: its versions are registered anew."""
    v = t.experiment_versions
    with store.write() as connection:
        connection.execute(v.delete().where(v.c.name == name))


def note_found(store: Store, name: str, number: str, model: str, now_ns: int) -> bool:
    """Remember a version that somebody registered for us; returns whether it was new."""
    i = t.experiment_imports
    with store.write() as connection:
        if connection.scalar(sa.select(i.c.id).where(i.c.name == name, i.c.number == number)) is not None:
            return False
        values = {"name": name, "number": number, "model": model, "state": ImportState.FOUND.value}
        blank = {"version": "", "training_id": "", "told": "", "attempts": 0, "problem": ""}
        connection.execute(i.insert().values(**values, **blank, found_ns=now_ns))
    return True


def ask_for(store: Store, name: str, number: str, model: str, actor: str, now_ns: int) -> ImportRow:
    """Remember that somebody here asks for a version. One that is here stays; one that was refused is tried again."""
    i = t.experiment_imports
    same = (i.c.name == name) & (i.c.number == number)
    with store.write() as connection:
        values = {"model": model, "state": ImportState.FOUND.value, "asked_by": actor, "found_ns": now_ns}
        blank = {"told": "", "attempts": 0, "problem": ""}
        state = connection.scalar(sa.select(i.c.state).where(same))
        if state is None:
            new = {"name": name, "number": number, "version": "", "training_id": ""}
            connection.execute(i.insert().values(**new, **values, **blank))
        elif state == ImportState.REFUSED:
            connection.execute(i.update().where(same).values(**values, **blank))
        elif state == ImportState.FOUND:
            connection.execute(i.update().where(same).values(asked_by=actor))
        return ImportRow(**connection.execute(sa.select(i).where(same)).mappings().one())


def imports(store: Store, states: Sequence[ImportState] = tuple(ImportState), limit: int = 100) -> list[ImportRow]:
    """Versions that came in, or shall, oldest first."""
    i = t.experiment_imports
    with store.read() as connection:
        query = sa.select(i).where(i.c.state.in_([s.value for s in states])).order_by(i.c.id).limit(limit)
        return [ImportRow(**row) for row in connection.execute(query).mappings()]


def newest_imports(store: Store, limit: int) -> list[ImportRow]:
    """Versions that came in, or shall, newest first."""
    i = t.experiment_imports
    with store.read() as connection:
        query = sa.select(i).order_by(i.c.found_ns.desc(), i.c.id.desc()).limit(limit)
        return [ImportRow(**row) for row in connection.execute(query).mappings()]


def untold(store: Store, limit: int = 100) -> list[ImportRow]:
    """Imports whose state the tracker does not know yet."""
    i = t.experiment_imports
    with store.read() as connection:
        query = sa.select(i).where(i.c.told != i.c.state).order_by(i.c.id).limit(limit)
        return [ImportRow(**row) for row in connection.execute(query).mappings()]


def note_import(store: Store, row: int, **values: Any) -> None:
    """Change an import's row."""
    with store.write() as connection:
        note_import_within(connection, row, **values)


def note_import_within(connection: sa.Connection, row: int, **values: Any) -> None:
    """`note_import` within a transaction."""
    if "problem" in values:
        values["problem"] = printable(values["problem"])[:PROBLEM_CHARS]
    i = t.experiment_imports
    connection.execute(i.update().where(i.c.id == row).values(**values))
