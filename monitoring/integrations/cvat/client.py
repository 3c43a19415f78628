"""Calls to CVAT's REST API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from monitoring.integrations.contracts import ProjectGone, ToolError
from monitoring.integrations.egress import Answer, Egress, EgressFailed

PAGE = 100
UPLOAD_S = 120.0
PAUSE_S = 1.0


@dataclass(kw_only=True)
class CvatClient:
    """JSON in, JSON out; files as a form.

    Attributes:
        base: The server's address.
        token: Gives the personal access token.
        sleep: Between two questions whether an upload is done.
    """

    base: str
    token: Callable[[], str]
    egress: Egress
    sleep: Callable[[float], None] = time.sleep

    def call(
        self, method: str, path: str, body: object = None, query: Mapping[str, object] | None = None, **more: Any
    ) -> Any:
        """One call.

        Raises:
            EgressFailed: not reached; later perhaps.
            ProjectGone: 404.
            ToolError: any other refusal.
        """
        headers = self._headers()
        if body is None:
            answer = self.egress.send(method, self._url(path, query), headers=headers, **more)
        else:
            answer = self.egress.send_json(method, self._url(path, query), body, headers=headers, **more)
        return _checked(answer)

    def listed(self, path: str, query: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        """Everything of a list, page by page."""
        number = 1
        while True:
            found = self.call("GET", path, query={**query, "page": number, "page_size": PAGE})
            yield from found["results"]
            if not found.get("next"):
                return
            number += 1

    def upload(self, task: int, files: Sequence[tuple[str, bytes]]) -> None:
        """Give a task its pictures, and wait until they are taken in.

        Raises:
            EgressFailed: they are not after two minutes.
            ToolError: the server could not take them in.
        """
        fields = {"image_quality": "100", "sorting_method": "predefined"}
        fields |= {f"upload_file_order[{i}]": name for i, (name, _) in enumerate(files)}
        kind, body = _form(fields, files)
        headers = self._headers() | {"content-type": kind}
        url = self._url(f"/api/tasks/{task}/data", None)
        sent = self.egress.send("POST", url, headers=headers, body=body, idempotent=False, total_s=UPLOAD_S)
        number = _checked(sent)["rq_id"]
        for _ in range(int(UPLOAD_S / PAUSE_S)):
            state = self.call("GET", f"/api/requests/{number}")
            if state["status"] == "finished":
                return
            if state["status"] == "failed":
                raise ToolError("the server could not take the pictures in", about_request=True)
            self.sleep(PAUSE_S)
        raise EgressFailed("the server is still taking the pictures in")

    def _url(self, path: str, query: Mapping[str, object] | None) -> str:
        return self.base.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token()}", "accept": "application/vnd.cvat+json"}


def _checked(answer: Answer) -> Any:
    if answer.status == 404:
        raise ProjectGone("what was asked for is no longer there (status 404)")
    if answer.status in (401, 403):
        raise ToolError(f"the access token is not taken, or may not do this (status {answer.status})")
    if not answer.ok:
        raise ToolError(f"the server refused (status {answer.status})", about_request=answer.status in (400, 413, 422))
    return answer.json() if answer.body else None


def _form(fields: Mapping[str, str], files: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """A multipart form (RFC 7578); names are ours and hold nothing that would need escaping."""
    boundary = secrets.token_hex(16)
    parts: list[bytes] = []
    for name, value in fields.items():
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for i, (name, content) in enumerate(files):
        head = f'Content-Disposition: form-data; name="client_files[{i}]"; filename="{name}"'
        parts.append(f"--{boundary}\r\n{head}\r\nContent-Type: image/png\r\n\r\n".encode() + content + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(parts)
