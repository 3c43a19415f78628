"""The adapter: projects, tasks and what became of them, in Label Studio's words."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from export.contracts.manifest import Manifest
from monitoring.integrations.contracts import Page, ProjectGone, Sheet
from monitoring.integrations.label_studio.answers import NoLabel, changed_of, results_of
from monitoring.integrations.label_studio.client import LONG_S, LabelStudioClient, data_url
from monitoring.integrations.label_studio.config import fields_of, labelling_config
from monitoring.integrations.names import Tool
from monitoring.integrations.options import LabelStudioOptions

PAGE = 200
HOOK_HEADER = "x-hardcase-hook"
HOOK_PATH = "/api/integrations/label-studio/hook"
HOOK_ACTIONS = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
# Of the answer's objects only these fields, nested ones included: pictures stay where they are.
_INCLUDE = "id,updated_at,annotations,result,completed_by,was_cancelled,created_username"


def hook_secret(token: str) -> str:
    """What our webhooks are known by: follows from the access token, and says nothing about it."""
    return hmac.new(token.encode(), b"hardcase: webhook of label studio", hashlib.sha256).hexdigest()


@dataclass(kw_only=True)
class LabelStudio:
    """See `monitoring.integrations.contracts.LabelTool`."""

    client: LabelStudioClient
    options: LabelStudioOptions
    tool: Tool = Tool.LABEL_STUDIO

    def config(self, manifest: Manifest) -> str:
        """The labelling config as XML."""
        return labelling_config(manifest)

    def make_project(self, model: str, config: str) -> str:
        """A project of this model and config, found by its title or made; with a webhook where there is an address."""
        digest = hashlib.sha256(config.encode()).hexdigest()[:8]
        title = f"Hardcase {model} {digest}"[:50]
        found = self.client.call("GET", "/api/projects/", query={"title": title, "page_size": 100})
        same = [p for p in found["results"] if p["title"] == title and p["label_config"] == config]
        if same:
            number = str(min(p["id"] for p in same))
        else:
            wanted = {
                "title": title,
                "label_config": config,
                "description": f"Failure cases of the model {model}. Labels go back to Hardcase by themselves.",
                "show_collab_predictions": self.options.show_predictions,
                "maximum_annotations": self.options.annotators,
                "enable_empty_annotation": "RectangleLabels" in config or 'choice="multiple"' in config,
                "show_skip_button": True,
            }
            number = str(self.client.call("POST", "/api/projects/", wanted)["id"])
        self._make_hook(number)
        return number

    def push(self, project: str, manifest: Manifest, sheets: Sequence[Sheet]) -> dict[str, str]:
        """Import what is not there: there is no idempotency key, so it is looked up first, by the case's id."""
        there = self._lookup(project, [sheet.case for sheet in sheets])
        fresh = [sheet for sheet in sheets if sheet.case not in there]
        if fresh:
            path = f"/api/projects/{project}/import"
            tasks = [_task(sheet, manifest) for sheet in fresh]
            made = self.client.call("POST", path, tasks, {"return_task_ids": "true"}, idempotent=False, total_s=LONG_S)
            ids = made.get("task_ids") or []
            if len(ids) == len(fresh):
                there |= {sheet.case: str(number) for sheet, number in zip(fresh, ids, strict=True)}
            else:  # told in the background: look again
                there |= self._lookup(project, [sheet.case for sheet in fresh])
        return there

    def changes(self, project: str, manifest: Manifest, since: str) -> Iterator[Page]:
        """Tasks by the time of their last change; an annotation that is made, changed or deleted is one."""
        start, number = since, 1
        while True:
            found = self._tasks(project, _after(start), number)
            tasks = found["tasks"]
            if not tasks:
                return
            seen = str(tasks[-1]["updated_at"])
            yield Page(changed=tuple(changed_of(task, manifest) for task in tasks), seen=seen)
            if len(tasks) < PAGE:
                return
            # Go on by time, not by page: what is changed meanwhile moves to the end. One time for a whole page cannot.
            start, number = (seen, 1) if seen != start else (start, number + 1)

    def remove(self, project: str, tasks: Sequence[str]) -> None:
        """Delete tasks."""
        for task in tasks:
            self.client.call("DELETE", f"/api/tasks/{int(task)}/", missing=True)

    def link(self, project: str, task: str) -> str:
        """The task in the data manager."""
        return f"{self.options.url.rstrip('/')}/projects/{project}/data?task={task}"

    def _tasks(self, project: str, items: list[dict[str, Any]], page: int) -> Any:
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:updated_at"]}
        asked = {"project": project, "fields": "all", "include": _INCLUDE, "page": page, "page_size": PAGE,
                 "query": json.dumps(query)}  # fmt: skip
        found = self.client.call("GET", "/api/tasks", query=asked, missing=True)
        if found is not None:
            return found
        # Past the last page is 404, and so is a project that is gone.
        if self.client.call("GET", f"/api/projects/{project}/", missing=True) is None:
            raise ProjectGone("the project is no longer there")
        return {"tasks": []}

    def _lookup(self, project: str, cases: Sequence[str]) -> dict[str, str]:
        """Tasks of these cases by case; of several (an import whose answer was lost) the first."""
        pattern = "^(" + "|".join(cases) + ")$"  # sixteen hex digits each
        item = {"filter": "filter:tasks:data.case_id", "operator": "regex", "type": "String", "value": pattern}
        query = {"filters": {"conjunction": "and", "items": [item]}, "ordering": ["tasks:id"]}
        asked = {"project": project, "fields": "all", "include": "id,data", "page_size": 4 * len(cases),
                 "query": json.dumps(query)}  # fmt: skip
        found: dict[str, str] = {}
        for task in self.client.call("GET", "/api/tasks", query=asked)["tasks"]:
            found.setdefault(str(task["data"].get("case_id")), str(task["id"]))
        return {case: found[case] for case in cases if case in found}

    def _make_hook(self, project: str) -> None:
        if not self.options.callback_url:
            return
        url = self.options.callback_url.rstrip("/") + HOOK_PATH
        headers = {HOOK_HEADER: hook_secret(self.client.token())}
        known = self.client.call("GET", "/api/webhooks/", query={"project": project})
        mine = [hook for hook in known if str(hook.get("project")) == project and hook.get("url") == url]
        wanted = {"project": int(project), "url": url, "headers": headers, "send_payload": False, "is_active": True,
                  "send_for_all_actions": False, "actions": HOOK_ACTIONS}  # fmt: skip
        if not mine:
            self.client.call("POST", "/api/webhooks/", wanted)
        elif mine[0].get("headers") != headers:
            self.client.call("PATCH", f"/api/webhooks/{mine[0]['id']}/", {"headers": headers, "is_active": True})


def table_html(values: Mapping[str, str]) -> str:
    """A table whose every name and value is text, whatever it holds."""
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in values.items())
    return f"<table>{rows}</table>"


def _after(since: str) -> list[dict[str, Any]]:
    if not since:
        return []
    item = {"filter": "filter:tasks:updated_at", "operator": "greater_or_equal", "type": "Datetime", "value": since}
    return [item]


def _task(sheet: Sheet, manifest: Manifest) -> dict[str, Any]:
    data: dict[str, Any] = {"case_id": sheet.case, "model": sheet.model, "version": sheet.version}
    data |= {"batch": sheet.batch} if sheet.batch else {}
    data |= {"case_url": sheet.link} if sheet.link else {}
    for field in fields_of(manifest):
        if field.name in sheet.pictures:
            data[field.key] = data_url(sheet.pictures[field.name])
        elif field.name in sheet.tables:
            data[field.key] = table_html(sheet.tables[field.name])
        else:
            data[field.key] = sheet.texts[field.name]
    try:
        results = results_of(sheet.answer, manifest)
    except NoLabel:
        results = []
    prediction = {"model_version": sheet.version, "score": sheet.confidence, "result": results}
    return {"data": data} | ({"predictions": [prediction]} if results else {})
