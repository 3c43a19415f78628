"""MLflow's REST API in memory, as far as Hardcase uses it; it can be away, and it can lose answers.

What it answers was taken from MLflow 3.17.2; the same tests run against the real server
(tests/integrations/test_mlflow.py), which keeps the stub honest.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


class Refusal(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass
class StubMlflow:
    """Everything the server holds.

    Attributes:
        away: Every call is answered 503.
        lose: So many answers to the next calls that match `losing` are lost: the call has its effect.
    """

    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    away: bool = False
    lose: int = 0
    losing: str = ""
    url: str = ""

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        if path.startswith(FILES):
            return self._file(method, unquote(path[len(FILES) :]).strip("/"), query, body)
        given = json.loads(body) if body else query
        name = f"{method} {path.removeprefix(API)}"
        found = {
            "POST experiments/create": self._create_experiment,
            "GET experiments/get-by-name": lambda g: {
                "experiment": {"experiment_id": self.experiments[g["experiment_name"]], "lifecycle_stage": "active"}
            },
            "POST runs/search": self._search_runs,
            "POST runs/create": self._create_run,
            "POST runs/log-batch": self._log,
            "POST runs/update": lambda g: self._run(g).update({k: g[k] for k in ("status", "end_time") if k in g}),
            "POST registered-models/create": self._create_model,
            "GET registered-models/get": self._get_model,
            "POST registered-models/alias": lambda g: self._model(g)["aliases"].update({g["alias"]: g["version"]}),
            "DELETE registered-models/alias": lambda g: self._model(g)["aliases"].pop(g["alias"], None),
            "GET model-versions/search": self._search_versions,
            "POST model-versions/create": self._create_version,
            "POST model-versions/set-tag": lambda g: self._version(g)["tags"].update({g["key"]: g["value"]}),
            "GET model-versions/get-download-uri": lambda g: {"artifact_uri": self._version(g)["root"]},
        }[name](given)
        return found if isinstance(found, dict) else {}

    def _create_experiment(self, given: Any) -> Any:
        if given["name"] in self.experiments:
            raise Refusal(400, "RESOURCE_ALREADY_EXISTS")
        self.experiments[given["name"]] = str(len(self.experiments) + 1)
        return {"experiment_id": self.experiments[given["name"]]}

    def _search_runs(self, given: Any) -> Any:
        key, value = re.fullmatch(r"tags\.`(.+)` = '(.+)'", given["filter"]).groups()  # type: ignore[union-attr]
        found = [r for r in self.runs.values() if r["tags"].get(key) == value]
        return {"runs": [{"info": {"run_id": r["id"]}} for r in found]} if found else {}

    def _create_run(self, given: Any) -> Any:
        run = f"{len(self.runs) + 1:032x}"
        tags = {tag["key"]: tag["value"] for tag in given["tags"]}
        self.runs[run] = {"id": run, "experiment": given["experiment_id"], "name": given["run_name"], "tags": tags,
                          "params": {}, "metrics": set(), "status": "RUNNING"}  # fmt: skip
        return {"run": {"info": {"run_id": run}}}

    def _run(self, given: Any) -> Any:
        if given["run_id"] not in self.runs:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST")
        return self.runs[given["run_id"]]

    def _log(self, given: Any) -> Any:
        run = self._run(given)
        for one in given["params"]:
            if run["params"].setdefault(one["key"], one["value"]) != one["value"]:
                raise Refusal(400, "INVALID_PARAMETER_VALUE")
        run["tags"].update({one["key"]: one["value"] for one in given["tags"]})
        run["metrics"] |= {(m["key"], m["step"], m["timestamp"], m["value"]) for m in given["metrics"]}

    def _create_model(self, given: Any) -> Any:
        if given["name"] in self.models:
            raise Refusal(400, "RESOURCE_ALREADY_EXISTS")
        self.models[given["name"]] = {"versions": [], "aliases": {}}

    def _model(self, given: Any) -> Any:
        if given["name"] not in self.models:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST")
        return self.models[given["name"]]

    def _get_model(self, given: Any) -> Any:
        aliases = [{"alias": a, "version": v} for a, v in self._model(given)["aliases"].items()]
        return {"registered_model": {"name": given["name"]} | ({"aliases": aliases} if aliases else {})}

    def _version(self, given: Any) -> Any:
        found = [v for v in self._model(given)["versions"] if v["version"] == given["version"]]
        if not found:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST")
        return found[0]

    def _create_version(self, given: Any) -> Any:
        versions = self._model(given)["versions"]
        run = self.runs.get(given["run_id"])
        below = given["source"].rpartition("/")[2]
        root = f"mlflow-artifacts:/{run['experiment']}/{run['id']}/artifacts/{below}" if run else given["source"]
        versions.append(
            {"name": given["name"], "version": str(len(versions) + 1), "run_id": given["run_id"], "root": root,
             "source": given["source"], "tags": {tag["key"]: tag["value"] for tag in given["tags"]}}
        )  # fmt: skip
        return {"model_version": versions[-1]}

    def _search_versions(self, given: Any) -> Any:
        every = [v for model in self.models.values() for v in model["versions"]]
        if match := re.fullmatch(r"name='(.+)'", given["filter"]):
            found = [v for v in every if v["name"] == match[1]]
        else:
            key, value = re.fullmatch(r"tag\.`(.+)` = '(.+)'", given["filter"]).groups()  # type: ignore[union-attr]
            found = [v for v in every if v["tags"].get(key) == value]
        shown = [v | {"tags": [{"key": k, "value": w} for k, w in v["tags"].items()]} for v in reversed(found)]
        return {"model_versions": shown} if shown else {}

    def _file(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        if method == "PUT":
            self.files[path] = body
            return {}
        if path:
            if path not in self.files:
                raise Refusal(404, "RESOURCE_DOES_NOT_EXIST")
            return self.files[path]
        root = query["path"].strip("/") + "/"
        below = {p[len(root) :]: len(data) for p, data in self.files.items() if p.startswith(root)}
        listed = {
            p.split("/")[0]: {"path": p.split("/")[0], "is_dir": "/" in p, "file_size": n} for p, n in below.items()
        }
        return {"files": list(listed.values())}


@contextmanager
def stub_mlflow() -> Iterator[StubMlflow]:
    """A running stub."""
    held = StubMlflow()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            split = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            query = {k: v[0] for k, v in parse_qs(split.query).items()}
            held.calls.append(f"{self.command} {split.path}")
            status, said = 200, b"{}"
            if held.away:
                status = 503
            else:
                try:
                    found = held.answer(self.command, split.path, query, body)
                    said = found if isinstance(found, bytes) else json.dumps(found).encode()
                except Refusal as error:
                    status, said = error.status, json.dumps({"error_code": error.code}).encode()
            if held.lose and held.losing in split.path:
                held.lose -= 1
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = do_DELETE = _do

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
