"""The JSON operations about labelling tools. None of them calls a tool: that is the loop's work."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from export.contracts.errors import InvalidRequest, NotFound, Unauthenticated
from monitoring.api import models
from monitoring.api import tool_models as m
from monitoring.api.fields import from_ns
from monitoring.api.routes import CaseId
from monitoring.api.who import Operator, Reviewer, Viewer
from monitoring.integrations import rows, tool_rows
from monitoring.integrations.duty import configured
from monitoring.integrations.label_studio.tool import HOOK_HEADER, HOOK_PATH, hook_secret
from monitoring.integrations.links import task_link
from monitoring.integrations.names import TaskState, Tool
from monitoring.integrations.options import IntegrationOptions
from monitoring.integrations.secrets import read_token
from monitoring.review import batches
from monitoring.store import Store

ToolName = Annotated[Tool, Path(description="The labelling tool.")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": models.ErrorBody, "description": "Another site's page, or a role that may not do this."},
    413: {"model": models.ErrorBody, "description": "The body has no stated length, or is too large."},
}


def tool_router(store: Store, options: IntegrationOptions, clock: Callable[[], datetime]) -> APIRouter:
    """Labelling tools."""
    router = APIRouter(tags=["labelling tools"])

    def now_ns() -> int:
        return int(clock().timestamp() * 1e9)

    def known(tool: Tool) -> Tool:
        if tool not in configured(options):
            raise NotFound("this labelling tool is not configured (integrations in the settings)")
        return tool

    @router.get("/api/integrations")
    def integrations(who: Viewer) -> m.Tools:
        """The configured labelling tools, and how they are doing."""
        return m.Tools(tools=tool_states(store, options))

    @router.post("/api/integrations/{tool}/push", status_code=202, responses=PROBLEMS)
    def push_cases(tool: ToolName, asked: m.ToolPush, who: Operator) -> m.ToolPushed:
        """Have cases sent to a labelling tool. Cases that are there already are not sent again."""
        cases = asked.cases if asked.cases is not None else _of_batch(store, asked.batch or "")
        found = rows.ask_for(store, known(tool), cases, batch=asked.batch or "", actor=who.name, now_ns=now_ns())
        if not found["added"] and not found["known"]:
            raise InvalidRequest("none of these is a case that could be sent")
        return m.ToolPushed(**found)

    @router.post("/api/integrations/{tool}/pull", status_code=202, responses=PROBLEMS)
    def pull_labels(tool: ToolName, asked: m.ToolPull, who: Reviewer) -> m.ToolStatus:
        """Look for annotations now, instead of at the next turn."""
        tool_rows.ask_to_look(store, known(tool), now_ns(), everything=asked.everything)
        return next(state for state in tool_states(store, options) if state.tool is tool)

    @router.get("/api/cases/{case}/tasks")
    def case_tasks(case: CaseId, who: Viewer) -> m.ToolTasks:
        """The case in the labelling tools."""
        return m.ToolTasks(tasks=tasks_of(store, options, case))

    @router.post(HOOK_PATH, status_code=204, response_class=Response, responses=PROBLEMS)
    def label_studio_hook(request: Request) -> None:
        """Label Studio says that something changed. It is only taken as a hint: what changed is fetched.

        Called by the webhooks that the monitor makes; they carry a header that follows from the access token. Whoever
        repeats one makes the monitor look once more, and nothing else.
        """
        if Tool.LABEL_STUDIO not in configured(options):
            raise NotFound("Label Studio is not configured")
        wanted = hook_secret(read_token(options.label_studio.token_file))
        given = request.headers.get(HOOK_HEADER, "")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), wanted.encode()):
            raise Unauthenticated("this is no webhook of ours")
        tool_rows.ask_to_look(store, Tool.LABEL_STUDIO, now_ns(), hint=True)

    return router


def tool_states(store: Store, options: IntegrationOptions) -> list[m.ToolStatus]:
    """How the configured tools are doing."""
    urls = {Tool.LABEL_STUDIO: options.label_studio.url, Tool.CVAT: options.cvat.url}
    return [_state(store, tool, urls[tool]) for tool in configured(options)]


def tasks_of(store: Store, options: IntegrationOptions, case: str) -> list[m.ToolTask]:
    """A case in the labelling tools."""
    return [
        m.ToolTask(
            tool=Tool(row.tool),
            state=TaskState(row.state),
            url=task_link(store, options, row),
            problem=row.problem or None,
            asked_at=from_ns(row.asked_ns),
            asked_by=row.asked_by,
            pushed_at=_time(row.pushed_ns),
            pulled_at=_time(row.pulled_ns),
        )
        for row in rows.tasks_of_case(store, case)
    ]


def _state(store: Store, tool: Tool, url: str) -> m.ToolStatus:
    row = tool_rows.tool_row(store, tool)
    return m.ToolStatus(
        tool=tool,
        url=url,
        answers=False if row.failing_ns else True if row.answered_ns else None,
        problem=row.problem or None,
        failing_since=_time(row.failing_ns),
        answered_at=_time(row.answered_ns),
        next_try_at=_time(row.next_ns if row.failing_ns else 0),
        tasks={TaskState(state): n for state, n in row.tasks.items()},
        pushed=row.pushed,
        pulled=row.pulled,
        refused=row.refused,
        hints=row.hints,
        projects=[
            m.ToolProject(model=p.model, project=p.external_id, looked_at=_time(p.looked_ns))
            for p in tool_rows.projects(store, tool)
        ],
    )


def _of_batch(store: Store, batch: str) -> list[str]:
    row = batches.batch(store, batch)
    return [case for _, case in batches.cases_of_batch(store, batch, waiting=True, limit=max(1, row.cases))]


def _time(time_ns: int | None) -> datetime | None:
    return from_ns(time_ns) if time_ns else None
