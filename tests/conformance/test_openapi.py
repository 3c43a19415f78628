"""The contract file against live answers: schemathesis asks everything, and every route is in the file."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from export.contracts.errors import HardcaseError
from serving.app import build_app, contract
from serving.options import ServingOptions
from serving.replica import Replica
from tests.conformance.test_abuse import ONE
from tests.support import wire
from tests.support.server import Server, infer_path

SCHEMA = schemathesis.openapi.from_dict(contract())
TRANSPORTS = ["asgi"]  # every route but inference is the app's in all of them
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@SCHEMA.parametrize()
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_live_answers_keep_the_contract(case: Any, server: Server) -> None:
    """F53: no answer of 5xx, no status, type or field that the file does not have."""
    for name in ("model", "version"):
        if name in (case.path_parameters or {}) and hash(str(case.path_parameters[name])) % 2:
            case.path_parameters[name] = {"model": "digits", "version": "1"}[name]
    case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=20)


def operations() -> list[tuple[str, str]]:
    return [(path, method.upper()) for path, item in contract()["paths"].items() for method in item]


def test_every_route_is_in_the_contract_and_the_other_way_round(tmp_path: Any) -> None:
    options = ServingOptions(registry=str(tmp_path), records=str(tmp_path), capture=None)
    app = build_app(Replica(options, "routes").plane)
    routes = [(r.path, m) for r in app.routes if isinstance(r, Route) for m in (r.methods or ()) if m != "HEAD"]
    assert sorted(routes) == sorted(operations())


def test_the_contract_is_served(server: Server) -> None:
    assert server.get("/openapi.json") == contract()


def test_every_public_error_status_is_described() -> None:
    described = {status for item in contract()["paths"].values() for o in item.values() for status in o["responses"]}

    def statuses(kind: type[HardcaseError]) -> set[str]:
        ours = [k for k in kind.__subclasses__() if not k.__module__.startswith("monitoring")]
        return {str(kind.http_status)}.union(*map(statuses, ours))

    assert statuses(HardcaseError) <= described | {"405"}


def schema(path: str, method: str, status: str) -> Draft202012Validator:
    document = contract()
    answer = document["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"]
    return Draft202012Validator({**answer, "components": document["components"]})


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v2", "/v2"),
        ("/v2/models", "/v2/models"),
        ("/v2/models/stats", "/v2/models/stats"),
        ("/v2/models/dtypes", "/v2/models/{model}"),
        ("/v2/models/dtypes/config", "/v2/models/{model}/config"),
        ("/v2/models/unbatched/config", "/v2/models/{model}/config"),
        ("/v2/models/digits/stats", "/v2/models/{model}/stats"),
        ("/v2/models/digits/ready", "/v2/models/{model}/ready"),
        ("/v2/health/ready", "/v2/health/ready"),
        ("/v2/repository/traffic", "/v2/repository/traffic"),
    ],
)
def test_answers_with_content_fit_their_schemas(server: Server, path: str, template: str) -> None:
    server.infer("digits", [ONE])
    schema(template, "get", "200").validate(server.get(path))


def test_inference_answers_fit_their_schema(server: Server) -> None:
    headers, body = wire.request([ONE], binary=False)
    response = server.client.post(infer_path("digits"), content=body, headers=headers)
    schema("/v2/models/{model}/infer", "post", "200").validate(response.json())
    schema("/v2/repository/index", "post", "200").validate(server.post("/v2/repository/index").json())


def test_the_examples_of_the_contract_work(server: Server) -> None:
    example = contract()["components"]["schemas"]["InferRequest"]["examples"][0]
    assert server.post(infer_path("digits"), example).status_code == 200
    feedback = contract()["components"]["schemas"]["Feedback"]["examples"][0]
    assert server.post("/v2/models/digits/feedback", feedback).status_code == 202


def test_every_operation_says_what_it_is() -> None:
    ids = []
    for item in contract()["paths"].values():
        for operation in item.values():
            assert operation["summary"]
            ids.append(operation["operationId"])
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", i) for i in ids)
