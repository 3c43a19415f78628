"""A local server that knows CVAT's addresses and holds every request to the models of CVAT's SDK.

It is no CVAT: what it proves is that our requests have the fields and types that the SDK's models have, and that
answers of those models are understood.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.cvat_schema import SCHEMA, problems

TOKEN = "cvat-access-token"
SIZE = 32


@dataclass(kw_only=True)
class CvatStub:
    """Its state; `wrong` says what the models do not allow."""

    schema: dict[str, Any] = field(default_factory=lambda: json.loads(SCHEMA.read_text(encoding="utf-8")))
    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[int, list[str]] = field(default_factory=dict)
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def label_id(self, name: str) -> int:
        """As the server numbers the label."""
        return 1 + [x["name"] for x in next(iter(self.projects.values()))["labels"]].index(name)

    def complete(self, task: int, said: dict[str, Any], when: str, state: str = "completed") -> None:
        """An annotator finishes the task's job, or it is opened again."""
        self._checked("LabeledData", said)
        self.annotations[task] = said
        self.jobs[task] |= {"state": state, "updated_date": when, "assignee": {"id": 1, "username": "ann", "url": ""}}

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes, kind: str) -> tuple[int, Any]:
        """Status and document."""
        number = int(found[1]) if (found := re.search(r"/(\d+)(/|$)", path)) else 0
        if (method, path) == ("POST", "/api/projects"):
            wanted = self._checked("ProjectWriteRequest", json.loads(body))
            self.wrong += [p for x in wanted["labels"] for p in problems(self.schema, "PatchedLabelRequest", x)]
            self.projects[len(self.projects) + 1] = wanted
            return 201, {"id": len(self.projects), "name": wanted["name"]}
        if (method, path) == ("POST", "/api/tasks"):
            wanted = self._checked("TaskWriteRequest", json.loads(body))
            self.tasks[len(self.tasks) + 1] = wanted
            return 201, {"id": len(self.tasks), "size": 0} | wanted
        if method == "POST" and path.endswith("/data"):
            self._take_files(number, body, kind)
            return 202, {"rq_id": f"action=create;target=task;id={number}"}
        if method == "PATCH":
            self._checked("PatchedDataMetaWriteRequest", json.loads(body))
            self.tasks[number]["deleted"] = json.loads(body)["deleted_frames"]
            return 200, {}
        return self._read(path, query, number)

    def _read(self, path: str, query: dict[str, list[str]], number: int) -> tuple[int, Any]:
        if path == "/api/projects":
            return 200, _listed([{"id": i, "name": p["name"]} for i, p in self.projects.items()])
        if path.startswith("/api/projects/"):
            return (200, {"id": number}) if number in self.projects else (404, {})
        if path == "/api/tasks":
            return 200, _listed([{"id": i, "size": len(self.files.get(i, ()))} for i in self.tasks])
        if path == "/api/labels":
            names = [x["name"] for x in self.projects[int(query["project_id"][0])]["labels"]]
            return 200, _listed([{"id": 1 + i, "name": name} for i, name in enumerate(names)])
        if path == "/api/jobs":
            return 200, _listed([self._told("JobRead", job) for job in self.jobs.values()])
        if path.endswith("/annotations"):
            return 200, self.annotations.get(number, {"version": 0, "tags": [], "shapes": [], "tracks": []})
        if path.startswith("/api/requests/"):
            return 200, self._told("Request", {"id": path, "status": "finished", "message": ""})
        frames = [{"name": name, "width": SIZE, "height": SIZE, "related_files": 0} for name in self.files[number]]
        return 200, self._told("DataMetaRead", {"frames": frames, "size": len(frames), "deleted_frames": []})

    def _take_files(self, task: int, body: bytes, kind: str) -> None:
        parts = message_from_bytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + body).get_payload()
        fields: dict[str, Any] = {}
        names: list[str] = []
        for part in parts:
            name = str(part.get_param("name", header="content-disposition"))  # type: ignore[union-attr]
            if name.startswith("client_files["):
                assert part.get_payload(decode=True)[:4] == b"\x89PNG"  # type: ignore[union-attr,index]
                names.append(str(part.get_filename()))  # type: ignore[union-attr]
            elif not name.startswith("upload_file_order["):
                fields[name] = part.get_payload()  # type: ignore[union-attr]
        fields = {"image_quality": int(fields["image_quality"]), "sorting_method": fields["sorting_method"]}
        self._checked("DataRequest", fields | {"client_files": names, "upload_file_order": names})
        self.files[task] = names
        frames = {"start_frame": 0, "stop_frame": len(names) - 1, "updated_date": "2026-11-21T10:00:00Z"}
        project = self.tasks[task]["project_id"]
        self.jobs[task] = {"id": task, "task_id": task, "project_id": project, "state": "new"} | frames

    def _checked(self, model: str, value: dict[str, Any]) -> dict[str, Any]:
        self.wrong += problems(self.schema, model, value)
        return value

    def _told(self, model: str, value: dict[str, Any]) -> dict[str, Any]:
        assert problems(self.schema, model, value) == []
        return value


def _listed(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {"count": len(results), "next": None, "previous": None, "results": results}


@contextmanager
def serving(stub: CvatStub) -> Iterator[str]:
    """The stub on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            split = urlsplit(self.path)
            if self.headers["authorization"] == f"Bearer {TOKEN}":
                kind = self.headers.get("content-type", "")
                status, said = stub.answer(self.command, split.path, parse_qs(split.query), body, kind)
            else:
                status, said = 401, {"detail": "no"}
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one  # names that the library calls

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
