"""Cases in labelling tools, in the database. Every function is one short transaction, or part of the caller's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.integrations.names import TaskState, Tool
from monitoring.integrations.tool_rows import add, make_tool
from monitoring.store import Store

CHUNK = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """A case in a tool. Columns as in `monitoring.schema_tools.external_tasks`."""

    id: int
    tool: str
    case_id: str
    batch: str
    state: str
    project_id: int | None
    external_id: str | None
    asked_by: str
    asked_ns: int
    pushed_ns: int | None
    pulled_ns: int | None
    digest: str
    attempts: int
    problem: str


def ask_for(store: Store, tool: Tool, cases: Sequence[str], *, batch: str, actor: str, now_ns: int) -> dict[str, int]:
    """Have cases sent to a tool.

    A case that is there, or waits, stays as it is; one that could not be sent, or that somebody took out, waits again.

    Returns:
        How many wait now that did not (`added`), that were there already (`known`), that are no cases (`unknown`).
    """
    e, c = t.external_tasks.c, t.cases.c
    ids = list(dict.fromkeys(cases))
    added = known = unknown = 0
    with store.write() as connection:
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            there = set(connection.scalars(sa.select(c.id).where(c.id.in_(chunk))))
            found = connection.execute(sa.select(e.case_id, e.state).where(e.tool == tool.value, e.case_id.in_(chunk)))
            states: dict[str, str] = {row.case_id: row.state for row in found}
            again = [x for x in chunk if states.get(x) in (TaskState.REFUSED, TaskState.LOST) and x in there]
            fresh = [x for x in chunk if x not in states and x in there]
            values = {"state": TaskState.WAITING.value, "problem": "", "digest": "", "external_id": None,
                      "project_id": None, "asked_by": actor, "asked_ns": now_ns, "batch": batch}  # fmt: skip
            if again:
                where = (e.tool == tool.value, e.case_id.in_(again))
                connection.execute(t.external_tasks.update().where(*where).values(**values))
            if fresh:
                rows = [values | {"tool": tool.value, "case_id": x, "attempts": 0} for x in fresh]
                connection.execute(t.external_tasks.insert(), rows)
            added += len(again) + len(fresh)
            unknown += sum(x not in there for x in chunk)
            known += sum(x in there for x in chunk) - len(again) - len(fresh)
        if added:
            make_tool(connection, tool)
    return {"added": added, "known": known, "unknown": unknown}


def waiting(store: Store, tool: Tool, limit: int) -> list[TaskRow]:
    """The next cases to send, in the order in which they were asked for."""
    e = t.external_tasks.c
    query = sa.select(t.external_tasks).where(e.tool == tool.value, e.state == TaskState.WAITING.value)
    return _tasks(store, query.order_by(e.id).limit(limit))


def task_of_case(store: Store, tool: Tool, case: str) -> TaskRow | None:
    """A case's task in a tool."""
    e = t.external_tasks.c
    found = _tasks(store, sa.select(t.external_tasks).where(e.tool == tool.value, e.case_id == case))
    return found[0] if found else None


def tasks_of_case(store: Store, case: str) -> list[TaskRow]:
    """A case's tasks in all tools."""
    return _tasks(store, sa.select(t.external_tasks).where(t.external_tasks.c.case_id == case))


def tasks_by_number(store: Store, project: int, numbers: Sequence[str]) -> dict[str, TaskRow]:
    """Tasks of a project by the tool's numbers."""
    e = t.external_tasks.c
    found: dict[str, TaskRow] = {}
    for start in range(0, len(numbers), CHUNK):
        chunk = numbers[start : start + CHUNK]
        query = sa.select(t.external_tasks).where(e.project_id == project, e.external_id.in_(chunk))
        found |= {str(row.external_id): row for row in _tasks(store, query)}
    return found


def orphans(store: Store, tool: Tool, limit: int) -> list[TaskRow]:
    """Tasks whose case is no longer kept: it was erased, or retention let it go."""
    e = t.external_tasks.c
    gone = ~sa.exists().where(t.cases.c.id == e.case_id)
    return _tasks(store, sa.select(t.external_tasks).where(e.tool == tool.value, gone).order_by(e.id).limit(limit))


def forget(store: Store, ids: Sequence[int]) -> None:
    """Drop rows of tasks."""
    with store.write() as connection:
        connection.execute(t.external_tasks.delete().where(t.external_tasks.c.id.in_(ids)))


def note_pushed(store: Store, tool: Tool, project: int, made: Mapping[int, str], now_ns: int) -> None:
    """Tasks that lie in the tool now: row id to the tool's number."""
    e = t.external_tasks.c
    with store.write() as connection:
        for identity, number in made.items():
            values = {"state": TaskState.PUSHED.value, "project_id": project, "external_id": number,
                      "pushed_ns": now_ns, "problem": ""}  # fmt: skip
            connection.execute(t.external_tasks.update().where(e.id == identity).values(**values))
        add(connection, tool, pushed=len(made))


def note_task(store: Store, identity: int, **values: Any) -> None:
    """Set columns of one task."""
    with store.write() as connection:
        connection.execute(t.external_tasks.update().where(t.external_tasks.c.id == identity).values(**values))


def note_lost(store: Store, project: int, there: set[str], before_ns: int) -> int:
    """Mark the tasks of a project that are not `there` (the tool's numbers) any more; returns how many.

    Tasks that were pushed after `before_ns` are left: the look may have begun before.
    """
    e = t.external_tasks.c
    live = (TaskState.PUSHED.value, TaskState.LABELLED.value)
    with store.write() as connection:
        query = sa.select(e.id, e.external_id).where(
            e.project_id == project, e.state.in_(live), e.pushed_ns < before_ns
        )
        gone = [row.id for row in connection.execute(query) if row.external_id not in there]
        for start in range(0, len(gone), CHUNK):
            values = {"state": TaskState.LOST.value, "problem": "the task is no longer in the tool"}
            chunk = gone[start : start + CHUNK]
            connection.execute(t.external_tasks.update().where(e.id.in_(chunk)).values(**values))
    return len(gone)


def live_opinions(store: Store, case: str, prefix: str) -> dict[str, tuple[int, str, str | None]]:
    """What was taken over for a case and still holds: act, verdict and label by reviewer, newest of each.

    Only of reviewers whose names begin with `prefix`.
    """
    d, a = t.decisions.c, t.acts.c
    query = (
        sa.select(a.actor, d.act_id, d.verdict, d.label)
        .join(t.acts, a.id == d.act_id)
        .where(
            d.case_id == case,
            d.verdict.is_not(None),
            d.withdrawn.is_(False),
            a.actor.startswith(prefix, autoescape=True),
        )
        .order_by(d.id)
    )
    with store.read() as connection:
        return {row.actor: (row.act_id, row.verdict, row.label) for row in connection.execute(query)}


def live_acts(store: Store, case: str, reviewer: str) -> list[int]:
    """Acts by which a reviewer's words on a case were taken over and still hold, the newest first."""
    d, a = t.decisions.c, t.acts.c
    query = (
        sa.select(d.act_id)
        .join(t.acts, a.id == d.act_id)
        .where(d.case_id == case, d.verdict.is_not(None), d.withdrawn.is_(False), a.actor == reviewer)
        .order_by(d.id.desc())
    )
    with store.read() as connection:
        return list(connection.scalars(query))


def _tasks(store: Store, query: sa.Select[Any]) -> list[TaskRow]:
    with store.read() as connection:
        return [TaskRow(**row) for row in connection.execute(query).mappings()]
