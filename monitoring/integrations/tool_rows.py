"""Projects in labelling tools, and how the tools are doing, in the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.integrations.names import TaskState
from monitoring.notify.happened import announce_tool
from monitoring.store import Store

TOLD_AFTER = 3  # failures in a row
_COUNTERS = ("pushed", "pulled", "refused", "hints")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectRow:
    """A project of ours in a tool. Columns as in `monitoring.schema_tools.external_projects`."""

    id: int
    tool: str
    model: str
    config: str
    external_id: str
    created_ns: int
    seen: str
    asked_ns: int
    looked_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolRow:
    """How a tool is doing. Columns as in `monitoring.schema_tools.external_tools`.

    Attributes:
        tasks: How many cases are in which state.
    """

    tool: str
    failing_ns: int = 0
    problem: str = ""
    failures: int = 0
    next_ns: int = 0
    answered_ns: int = 0
    pushed: int = 0
    pulled: int = 0
    refused: int = 0
    hints: int = 0
    tasks: Mapping[str, int]


def projects(store: Store, tool: StrEnum) -> list[ProjectRow]:
    """Our projects in a tool."""
    with store.read() as connection:
        query = sa.select(t.external_projects).where(t.external_projects.c.tool == tool.value)
        return [ProjectRow(**row) for row in connection.execute(query.order_by(t.external_projects.c.id)).mappings()]


def add_project(store: Store, tool: StrEnum, model: str, config: str, number: str, now_ns: int) -> ProjectRow:
    """Remember a project."""
    values = {"tool": tool.value, "model": model, "config": config, "external_id": number, "created_ns": now_ns}
    with store.write() as connection:
        row = t.external_projects.insert().values(**values, seen="", asked_ns=0, looked_ns=0)
        connection.execute(row)
    return next(p for p in projects(store, tool) if (p.model, p.config) == (model, config))


def drop_project(store: Store, project: int) -> None:
    """Forget a project that is gone; its tasks are lost."""
    e = t.external_tasks.c
    with store.write() as connection:
        values = {"state": TaskState.LOST.value, "problem": "the project is no longer in the tool", "project_id": None}
        connection.execute(t.external_tasks.update().where(e.project_id == project).values(**values))
        connection.execute(t.external_projects.delete().where(t.external_projects.c.id == project))


def note_looked(store: Store, project: int, *, seen: str | None = None, looked_ns: int | None = None) -> None:
    """How far the changes of a project were taken over."""
    values = {"seen": seen, "looked_ns": looked_ns}
    given = {name: value for name, value in values.items() if value is not None}
    with store.write() as connection:
        connection.execute(t.external_projects.update().where(t.external_projects.c.id == project).values(**given))


def ask_to_look(store: Store, tool: StrEnum, now_ns: int, *, hint: bool = False, everything: bool = False) -> None:
    """Have changes fetched now: those since the last look, or `everything`. `hint`: the tool said so itself."""
    p = t.external_projects.c
    values: dict[str, Any] = {"asked_ns": now_ns} | ({"seen": ""} if everything else {})
    with store.write() as connection:
        connection.execute(t.external_projects.update().where(p.tool == tool.value).values(**values))
        make_tool(connection, tool)
        # Whoever asks knows that the tool is there: it is not left alone any longer.
        connection.execute(t.external_tools.update().where(t.external_tools.c.tool == tool.value).values(next_ns=0))
        if hint:
            add(connection, tool, hints=1)


def count(store: Store, tool: StrEnum, **more: int) -> None:
    """Add to a tool's counters."""
    with store.write() as connection:
        add(connection, tool, **more)


def note_answered(store: Store, tool: StrEnum, now_ns: int) -> None:
    """The tool answers."""
    with store.write() as connection:
        make_tool(connection, tool)
        was = (
            connection.execute(sa.select(t.external_tools).where(t.external_tools.c.tool == tool.value))
            .mappings()
            .one()
        )
        if was["failures"] >= TOLD_AFTER:
            announce_tool(connection, tool.value, was["failing_ns"], now_ns)
        values = {"failing_ns": 0, "problem": "", "failures": 0, "next_ns": 0, "answered_ns": now_ns}
        connection.execute(t.external_tools.update().where(t.external_tools.c.tool == tool.value).values(**values))


def note_failed(store: Store, tool: StrEnum, problem: str, now_ns: int, next_ns: int) -> None:
    """The tool does not answer, or refuses."""
    x = t.external_tools.c
    since = sa.case((x.failing_ns == 0, now_ns), else_=x.failing_ns)
    with store.write() as connection:
        make_tool(connection, tool)
        values = {"failing_ns": since, "problem": problem, "failures": x.failures + 1, "next_ns": next_ns}
        connection.execute(t.external_tools.update().where(x.tool == tool.value).values(**values))
        row = connection.execute(sa.select(t.external_tools).where(x.tool == tool.value)).mappings().one()
        if row["failures"] >= TOLD_AFTER:
            announce_tool(connection, tool.value, row["failing_ns"], now_ns, problem)


def tool_row(store: Store, tool: StrEnum) -> ToolRow:
    """How a tool is doing."""
    e, x = t.external_tasks.c, t.external_tools.c
    with store.read() as connection:
        row = connection.execute(sa.select(t.external_tools).where(x.tool == tool.value)).mappings().one_or_none()
        counting = sa.select(e.state, sa.func.count()).where(e.tool == tool.value).group_by(e.state)
        tasks = {state: int(n) for state, n in connection.execute(counting)}
    known: dict[str, Any] = {"tool": tool.value} if row is None else dict(row)
    return ToolRow(**known, tasks=tasks)


def make_tool(connection: sa.Connection, tool: StrEnum) -> None:
    """See that the tool has a row."""
    x = t.external_tools.c
    if connection.scalar(sa.select(x.tool).where(x.tool == tool.value)) is None:
        zeros = dict.fromkeys(("failing_ns", "failures", "next_ns", "answered_ns", *_COUNTERS), 0)
        connection.execute(t.external_tools.insert().values(tool=tool.value, problem="", **zeros))


def add(connection: sa.Connection, tool: StrEnum, **more: int) -> None:
    """Add to a tool's counters, within a transaction."""
    make_tool(connection, tool)
    x = t.external_tools.c
    values = {name: x[name] + n for name, n in more.items()}
    connection.execute(t.external_tools.update().where(x.tool == tool.value).values(**values))
