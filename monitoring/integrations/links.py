"""Where people find a case in a labelling tool."""

from __future__ import annotations

from monitoring.integrations.names import TaskState, Tool
from monitoring.integrations.options import IntegrationOptions
from monitoring.integrations.rows import TaskRow
from monitoring.integrations.tool_rows import projects
from monitoring.store import Store


def task_link(store: Store, options: IntegrationOptions, row: TaskRow) -> str | None:
    """Address of a task in its tool; None while it is not there, or where the tool is no longer configured."""
    if row.external_id is None or row.state == TaskState.LOST:
        return None
    project = next((p for p in projects(store, Tool(row.tool)) if p.id == row.project_id), None)
    if project is None:
        return None
    if row.tool == Tool.LABEL_STUDIO and options.label_studio.url:
        return f"{options.label_studio.url.rstrip('/')}/projects/{project.external_id}/data?task={row.external_id}"
    if row.tool == Tool.CVAT and options.cvat.url:
        task, _, frame = row.external_id.partition(":")
        return f"{options.cvat.url.rstrip('/')}/tasks/{task}?frame={frame}"
    return None
