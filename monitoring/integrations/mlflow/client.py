"""MLflow's REST API 2.0, as far as it is needed: experiments, runs, registered models, artefacts behind the server.

Checked against MLflow 3.17. Sources: https://mlflow.org/docs/latest/rest-api.html and `mlflow/server/handlers.py`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from monitoring.integrations.contracts import ToolError
from monitoring.integrations.egress import Answer, Egress

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
METRICS_A_CALL = 1000  # MLflow's own limits of a log-batch
PARAMS_A_CALL = 100
TAG_CHARS = 5000
PARAM_CHARS = 6000
ANSWER_BYTES = 16 << 20


class Exists(ToolError):
    """There is one of that name."""


class Absent(ToolError):
    """There is none of that name."""


_KNOWN = {"RESOURCE_ALREADY_EXISTS": Exists, "RESOURCE_DOES_NOT_EXIST": Absent}


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A value of a metric. `time_ms` since the epoch."""

    name: str
    value: float
    time_ms: int
    step: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """A version in MLflow's registry."""

    name: str
    number: str
    run: str
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file behind the server. `path` is relative to where it was looked for."""

    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class MlflowClient:
    """The API. Every method may raise `EgressError`: not reached, or refused.

    Attributes:
        base: URL of the server, without the API's path.
        credentials: Gives the header `Authorization`, or "".
    """

    base: str
    egress: Egress
    credentials: Callable[[], str] = lambda: ""
    _experiments: dict[str, str] = field(default_factory=dict)

    # ---- runs

    def experiment(self, name: str) -> str:
        """The id of an experiment; it is made where there is none, and restored where somebody deleted it."""
        if name not in self._experiments:
            try:
                self._experiments[name] = str(self._post("experiments/create", {"name": name})["experiment_id"])
            except Exists:
                found = self._get("experiments/get-by-name", experiment_name=name)["experiment"]
                if found.get("lifecycle_stage") == "deleted":
                    self._post("experiments/restore", {"experiment_id": found["experiment_id"]})
                self._experiments[name] = str(found["experiment_id"])
        return self._experiments[name]

    def run(self, experiment: str, key: str, value: str, *, name: str, start_ms: int) -> str:
        """The run that has the tag; it is made where there is none. Idempotent, where one caller works at a time."""
        query = {"experiment_ids": [experiment], "filter": f"tags.`{key}` = '{value}'", "max_results": 1}
        found = self._post("runs/search", query, idempotent=True).get("runs", [])
        if not found:
            made = {"experiment_id": experiment, "run_name": name, "start_time": start_ms}
            found = [self._post("runs/create", made | {"tags": [{"key": key, "value": value}]})["run"]]
        return str(found[0]["info"]["run_id"])

    def log(
        self,
        run: str,
        *,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add to a run. What it has already stays as it is: points are told apart by name, step, time and value."""
        metrics = [
            {"key": p.name, "value": p.value, "timestamp": p.time_ms, "step": p.step}
            for p in points
            if math.isfinite(p.value)  # JSON has no others
        ]
        given = [{"key": k, "value": v[:PARAM_CHARS]} for k, v in (params or {}).items()]
        said = [{"key": k, "value": v[:TAG_CHARS]} for k, v in (tags or {}).items()]
        calls = max(1, -(-len(metrics) // METRICS_A_CALL), -(-len(given) // PARAMS_A_CALL))
        for i in range(calls):
            body = {
                "run_id": run,
                "metrics": metrics[i * METRICS_A_CALL : (i + 1) * METRICS_A_CALL],
                "params": given[i * PARAMS_A_CALL : (i + 1) * PARAMS_A_CALL],
                "tags": said if i == 0 else [],
            }
            self._post("runs/log-batch", body, idempotent=True)

    def set_status(self, run: str, status: str, end_ms: int | None = None) -> None:
        """RUNNING, FINISHED, FAILED or KILLED."""
        ended = {} if end_ms is None else {"end_time": end_ms}
        self._post("runs/update", {"run_id": run, "status": status} | ended, idempotent=True)

    # ---- the registry

    def register(self, name: str) -> None:
        """See that there is a registered model of that name."""
        with contextlib.suppress(Exists):
            self._post("registered-models/create", {"name": name})

    def versions(self, query: str) -> Iterator[Registered]:
        """Versions that match a filter, such as `name='digits'`, newest first."""
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = self._get("model-versions/search", filter=query, max_results="200", **more)
            for found in page.get("model_versions", []):
                tags = {tag["key"]: tag.get("value", "") for tag in found.get("tags", [])}
                yield Registered(
                    name=found["name"], number=str(found["version"]), run=found.get("run_id", ""), tags=tags
                )
            token = page.get("next_page_token", "")
            if not token:
                return

    def add_version(self, name: str, source: str, run: str, tags: Mapping[str, str]) -> str:
        """Register a version; returns its number. Twice is two versions: look for its tag before."""
        body = {"name": name, "source": source, "run_id": run, "tags": _tags(tags)}
        return str(self._post("model-versions/create", body)["model_version"]["version"])

    def tag_version(self, name: str, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for tag in _tags(tags):
            body = {"name": name, "version": number} | tag
            self._post("model-versions/set-tag", body, idempotent=True)

    def aliases(self, name: str) -> dict[str, str]:
        """{alias: number} of a registered model."""
        found = self._get("registered-models/get", name=name)["registered_model"].get("aliases", [])
        return {one["alias"]: str(one["version"]) for one in found}

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """Have an alias point at a version."""
        self._post("registered-models/alias", {"name": name, "alias": alias, "version": number}, idempotent=True)

    def drop_alias(self, name: str, alias: str) -> None:
        """Take an alias away."""
        self._call("DELETE", API + "registered-models/alias", {"name": name, "alias": alias})

    # ---- artefacts

    def put(self, experiment: str, run: str, path: str, data: bytes) -> None:
        """Store a file with a run, in the server's own artefact store."""
        target = f"{FILES}/{quote(f'{experiment}/{run}/artifacts/{path}')}"
        self._checked(self._send("PUT", target, data, "application/octet-stream"))

    def root(self, version: Registered) -> str:
        """Where a version's files are behind the server.

        Raises:
            ToolError: they are elsewhere, out of our reach.
        """
        uri = self._get("model-versions/get-download-uri", name=version.name, version=version.number)["artifact_uri"]
        split = urlsplit(str(uri))
        if split.scheme != "mlflow-artifacts" or ".." in split.path.split("/"):
            raise ToolError("its files are not behind the tracking server (--serve-artifacts)", about_request=True)
        return split.path.strip("/")

    def files(self, root: str, *, most: int) -> list[RemoteFile]:
        """The files below a folder, by path.

        Raises:
            ToolError: there are more than `most`.
        """
        found: list[RemoteFile] = []
        folders = [""]
        while folders:
            inside = folders.pop()
            query = urlencode({"path": f"{root}/{inside}".rstrip("/")})
            for one in self._call("GET", f"{FILES}?{query}").get("files", []):
                name = str(one["path"]).rsplit("/", 1)[-1]
                path = f"{inside}/{name}" if inside else name
                if one.get("is_dir"):
                    folders.append(path)
                else:
                    found.append(RemoteFile(path=path, size_bytes=int(one.get("file_size") or 0)))
                if len(found) + len(folders) > most:
                    raise ToolError(f"there are more than {most} files", about_request=True)
        return sorted(found, key=lambda file: file.path)

    def fetch(self, root: str, path: str, *, max_bytes: int) -> bytes:
        """A file's content."""
        answer = self._send("GET", f"{FILES}/{quote(f'{root}/{path}')}", max_bytes=max_bytes)
        self._checked(answer)
        return answer.body

    # ---- calls

    def _get(self, what: str, **query: str) -> Any:
        return self._call("GET", f"{API}{what}?{urlencode(query)}")

    def _post(self, what: str, body: object, *, idempotent: bool = False) -> Any:
        return self._call("POST", API + what, body, idempotent=idempotent)

    def _call(self, method: str, path: str, body: object = None, *, idempotent: bool | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        answer = self._send(method, path, data, "application/json", idempotent=idempotent)
        self._checked(answer)
        return answer.json()

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str = "",
        *,
        idempotent: bool | None = None,
        max_bytes: int = ANSWER_BYTES,
    ) -> Answer:
        headers = {"content-type": kind} if body is not None else {}
        who = self.credentials()
        headers |= {"authorization": who} if who else {}
        url = self.base.rstrip("/") + path
        return self.egress.send(method, url, headers=headers, body=body, idempotent=idempotent, max_bytes=max_bytes)

    def _checked(self, answer: Answer) -> None:
        if answer.ok:
            return
        code = ""
        if b"error_code" in answer.body:
            said = answer.json()
            code = str(said.get("error_code", "")) if isinstance(said, dict) else ""
        words = f"MLflow answered {answer.status}" + (f" ({code[:60]})" if code else "")
        if code in _KNOWN:
            raise _KNOWN[code](words, about_request=True)
        raise ToolError(words, about_request=answer.status in (400, 404, 413, 422))


def basic(username: str, password: str) -> str:
    """The header of HTTP basic authentication (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value[:TAG_CHARS]} for key, value in tags.items()]
