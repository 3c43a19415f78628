"""The adapter: a project for each model, a task of many pictures for each push, labels from completed jobs.

A picture is called after its case, so what is there can always be read from the server: an upload whose answer was lost
is found again, and nothing is sent twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export.contracts.manifest import Manifest, TaskKind
from export.contracts.signature import InputSpec
from export.contracts.task import BoxRules, BoxUnits
from monitoring.images import is_picture
from monitoring.integrations.boxes import in_rules
from monitoring.integrations.contracts import Changed, Given, Page, Sheet
from monitoring.integrations.cvat.client import CvatClient
from monitoring.integrations.label_studio.config import classes_of
from monitoring.integrations.names import Tool
from monitoring.review.contracts import Verdict

CORNERS = 4


@dataclass(kw_only=True)
class Cvat:
    """See `monitoring.integrations.contracts.LabelTool`. A task's id is `TASK:FRAME`."""

    client: CvatClient
    tool: Tool = Tool.CVAT
    _frames: dict[int, tuple[str, ...]] = field(default_factory=dict)  # names of the pictures of whole tasks

    def config(self, manifest: Manifest) -> str:
        """The labels as JSON.

        Raises:
            ValueError: the input is no picture, or the answer neither classes nor boxes.
        """
        kinds = {TaskKind.CLASSIFICATION: "tag", TaskKind.MULTI_LABEL: "tag", TaskKind.DETECTION: "rectangle"}
        if manifest.task.kind not in kinds:
            raise ValueError(f"CVAT has no labels for answers of the kind '{manifest.task.kind}'")
        if _picture(manifest) is None:
            raise ValueError("CVAT shows pictures, and the model has none")
        kind = kinds[manifest.task.kind]
        return json.dumps([{"name": name, "type": kind, "attributes": []} for name in classes_of(manifest)])

    def make_project(self, model: str, config: str) -> str:
        """A project of this model and these labels, found by its name or made."""
        name = f"Hardcase {model} {hashlib.sha256(config.encode()).hexdigest()[:8]}"
        found = [p["id"] for p in self.client.listed("/api/projects", {"name": name}) if p["name"] == name]
        if found:
            return str(min(found))
        wanted = {"name": name, "labels": json.loads(config)}
        return str(self.client.call("POST", "/api/projects", wanted, idempotent=False)["id"])

    def push(self, project: str, manifest: Manifest, sheets: Sequence[Sheet]) -> dict[str, str]:
        """One task with the pictures of the cases that are not there."""
        there = self._there(project)
        fresh = [sheet for sheet in sheets if sheet.case not in there]
        spec = _picture(manifest)
        if fresh and spec is not None:
            wanted = {"name": f"Hardcase {fresh[0].case}", "project_id": int(project)}
            task = int(self.client.call("POST", "/api/tasks", wanted, idempotent=False)["id"])
            self.client.upload(task, [(f"{sheet.case}.png", sheet.pictures[spec.name]) for sheet in fresh])
            there |= self._of_task(task)
        return {sheet.case: there[sheet.case] for sheet in sheets if sheet.case in there}

    def changes(self, project: str, manifest: Manifest, since: str) -> Iterator[Page]:
        """What completed jobs say of the pictures of tasks that changed; work in progress says nothing yet.

        A job that is opened again takes back what it said.
        """
        number = int(project)
        self.client.call("GET", f"/api/projects/{number}")  # says so when it is gone
        names = {int(x["id"]): str(x["name"]) for x in self.client.listed("/api/labels", {"project_id": number})}
        jobs = list(self.client.listed("/api/jobs", {"project_id": number, "sort": "updated_date"}))
        moved = {job["task_id"] for job in jobs if str(job["updated_date"]) >= since}
        done: dict[str, list[Given]] = {} if since else {task: [] for task in self._there(project).values()}
        for job in jobs:
            if job["task_id"] not in moved:
                continue
            frames = range(job["start_frame"], job["stop_frame"] + 1)
            places = {frame: done.setdefault(f"{job['task_id']}:{frame}", []) for frame in frames}
            if job["state"] != "completed":
                continue
            said = self.client.call("GET", f"/api/jobs/{job['id']}/annotations")
            sizes = self.client.call("GET", f"/api/jobs/{job['id']}/data/meta").get("frames") or []
            for i, (frame, given) in enumerate(places.items()):
                size = sizes[i] if i < len(sizes) else {}
                one = _given(job, frame, said, names, manifest, (size.get("width"), size.get("height")))
                given.extend([one] if one is not None else [])
        if done:
            changed = tuple(Changed(task=task, given=tuple(given)) for task, given in sorted(done.items()))
            yield Page(changed=changed, seen=max([since, *(str(job["updated_date"]) for job in jobs)]))

    def remove(self, project: str, tasks: Sequence[str]) -> None:
        """Mark frames as deleted: a picture cannot be taken out of a task otherwise."""
        for text in tasks:
            task, _, frame = text.partition(":")
            meta = self.client.call("GET", f"/api/tasks/{int(task)}/data/meta")
            gone = sorted({*meta.get("deleted_frames", ()), int(frame)})
            self.client.call("PATCH", f"/api/tasks/{int(task)}/data/meta", {"deleted_frames": gone}, idempotent=True)

    def link(self, project: str, task: str) -> str:
        """The picture in its task."""
        number, _, frame = task.partition(":")
        return f"{self.client.base.rstrip('/')}/tasks/{number}?frame={frame}"

    def _there(self, project: str) -> dict[str, str]:
        """Cases that have a picture in the project."""
        found: dict[str, str] = {}
        for task in self.client.listed("/api/tasks", {"project_id": int(project), "sort": "id"}):
            if task.get("size"):
                for case, number in self._of_task(int(task["id"])).items():
                    found.setdefault(case, number)
        return found

    def _of_task(self, task: int) -> dict[str, str]:
        if task not in self._frames:
            frames = self.client.call("GET", f"/api/tasks/{task}/data/meta").get("frames") or ()
            self._frames[task] = tuple(str(frame["name"]) for frame in frames)
        names = self._frames[task]
        return {name.removesuffix(".png"): f"{task}:{i}" for i, name in enumerate(names)}


def _given(
    job: Mapping[str, Any],
    frame: int,
    said: Mapping[str, Any],
    names: Mapping[int, str],
    manifest: Manifest,
    size: tuple[Any, Any],
) -> Given | None:
    """What a completed job says of a picture; None where it says nothing."""
    who = str((job.get("assignee") or {}).get("username") or f"job-{job['id']}")
    classes, kind = classes_of(manifest), manifest.task.kind
    tags = [names.get(x["label_id"], "?") for x in said.get("tags", ()) if x["frame"] == frame]
    shapes = [x for x in said.get("shapes", ()) if x["frame"] == frame]
    stamp = hashlib.sha256(json.dumps([tags, shapes], sort_keys=True).encode()).hexdigest()[:16]
    about: dict[str, Any] = {"annotator": who, "verdict": Verdict.LABEL, "stamp": f"{job['id']}.{frame}@{stamp}"}
    if kind is TaskKind.DETECTION:
        try:
            boxes = [_box(shape, names, classes, manifest, size) for shape in shapes]
        except ValueError as error:
            return Given(**about, problem=str(error))
        return Given(**about, label=boxes)
    unknown = [tag for tag in tags if tag not in classes]
    if unknown:
        return Given(**about, problem=f"'{unknown[0][:60]}' is no class of the model")
    if kind is TaskKind.MULTI_LABEL:
        return Given(**about, label=list(dict.fromkeys(tags)))
    if not tags:
        return None
    if len(set(tags)) > 1:
        return Given(**about, problem=f"{len(set(tags))} classes were chosen; one is needed")
    return Given(**about, label=tags[0])


def _box(
    shape: Mapping[str, Any],
    names: Mapping[int, str],
    classes: Sequence[str],
    manifest: Manifest,
    size: tuple[Any, Any],
) -> dict[str, Any]:
    label, points = names.get(shape["label_id"], "?"), shape.get("points") or ()
    if label not in classes:
        raise ValueError("a box has no class of the model")
    if str(shape.get("type")) != "rectangle" or len(points) != CORNERS or shape.get("rotation"):
        raise ValueError("a shape is no upright rectangle")
    rules = manifest.task.boxes or BoxRules()
    wide, high = 1.0, 1.0
    if rules.units is BoxUnits.RELATIVE:
        if not all(isinstance(n, int | float) and n > 0 for n in size):
            raise ValueError("the size of the picture is not known")
        wide, high = float(size[0]), float(size[1])
    left, top, right, bottom = (float(p) / s for p, s in zip(points, (wide, high, wide, high), strict=True))
    return {"box": in_rules((left, top, right, bottom), rules), "class": label}


def _picture(manifest: Manifest) -> InputSpec | None:
    return next((spec for spec in manifest.signature.inputs if is_picture(spec)), None)
