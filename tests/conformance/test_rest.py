"""Routes, errors, compression, feedback, metrics: what the other tests of this folder do not ask."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from monitoring.records.reader import RecordLogReader
from tests.support import wire
from tests.support.http_raw import RawConnection
from tests.support.server import Server, infer_path
from tests.support.wire import Tensor

X = Tensor(name="x", datatype=Datatype.FP32, array=np.arange(64 * 40, dtype=np.float32).reshape(40, 1, 8, 8) / 999)


def test_server_metadata_names_the_extensions(server: Server) -> None:
    metadata = server.get("/v2")
    assert metadata["extensions"] == [
        "binary_tensor_data",
        "classification",
        "feedback",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "softmax",
        "statistics",
    ]
    assert metadata["version"]


def test_models_are_listed(server: Server) -> None:
    assert server.get("/v2/models")["models"] == sorted(
        [
            "bf16",
            "bf16script",
            "digits",
            "dtypes",
            "echo",
            "images",
            "multi",
            "proba",
            "script",
            "slow",
            "unbatched",
            "varlen",
        ]
    )


def test_a_model_called_like_a_word_of_the_protocol_is_only_unknown(server: Server) -> None:
    for name in ("stats", "infer", "versions", "ready", "config"):
        response = server.client.get(f"/v2/models/{name}/config")
        assert (response.status_code, "unknown" in response.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/v2/", 404, None),
        ("GET", "/v2/models/digits/", 404, None),
        ("GET", "/v1/models", 404, None),
        ("GET", "/v2/models/nowhere", 404, None),
        ("GET", "/v2/models/nowhere/ready", 404, None),
        ("GET", "/v2/models/nowhere/stats", 404, None),
        ("GET", "/v2/models/digits/versions/99", 404, None),
        ("GET", "/v2/models/digits/versions/99/stats", 404, None),
        ("GET", "/v2/models/digits/versions/2", 503, None),
        ("POST", "/v2/models/nowhere/infer", 404, None),
        ("POST", "/v2/models/nowhere/feedback", 404, None),
        ("POST", "/v2/models/digits/versions/99/infer", 404, None),
        ("POST", "/v2/repository/models/nowhere/load", 404, None),
        ("POST", "/v2/models/%2e%2e/infer", 404, None),
        ("POST", "/v2/models/a%2Fb/infer", 404, None),
        ("GET", "/v2/models/%ff", 404, None),
        ("GET", "/v2/models/%00", 404, None),
        ("GET", "/v2/models/digits/infer", 405, "POST"),
        ("PUT", "/v2/models/digits/infer", 405, "POST"),
        ("DELETE", "/v2/models/digits/versions/1/infer", 405, "POST"),
        ("POST", "/v2", 405, "GET"),
        ("POST", "/v2/health/live", 405, "GET"),
        ("OPTIONS", "/v2/models/digits", 405, "GET"),
        ("PATCH", "/v2/models/digits/config", 405, "GET"),
        ("GET", "/v2/repository/index", 405, "POST"),
        ("GET", "/v2/models/digits/feedback", 405, "POST"),
    ],
)
def test_wrong_paths_and_methods(server: Server, method: str, path: str, status: int, allow: str | None) -> None:
    with RawConnection(server.port) as raw:
        answer = raw.request(method, path)
        assert answer.status == status, answer.body
        assert answer.headers["content-type"] == "application/json"
        assert list(json.loads(answer.body)) == ["error"]
        if allow:
            assert allow in answer.headers["allow"].split(", ")
        assert raw.request("GET", "/v2/health/live").status == 200  # the connection goes on


def test_a_name_may_be_percent_encoded(server: Server) -> None:
    headers, body = wire.request([X])
    response = server.client.post("/v2/models/%64igits/infer", content=body, headers=headers)
    assert response.status_code == 200
    assert server.get("/v2/models/%64igits/versions/%31")["name"] == "digits"


def test_a_query_string_changes_nothing(server: Server) -> None:
    headers, body = wire.request([X])
    assert server.client.post(infer_path("digits") + "?a=b", content=body, headers=headers).status_code == 200


def test_head_is_get_without_a_body(server: Server) -> None:
    response = server.client.head("/v2/health/live")
    assert (response.status_code, response.content) == (200, b"")


# ---- compression


@pytest.mark.parametrize(
    ("name", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_compressed_requests(server: Server, name: str, pack: Any, binary: bool) -> None:
    headers, body = wire.request([X], binary=binary)
    plain = server.client.post(infer_path("digits"), content=body, headers=headers)
    packed = server.client.post(infer_path("digits"), content=pack(body), headers={**headers, "Content-Encoding": name})
    assert packed.status_code == 200, packed.text
    np.testing.assert_array_equal(
        wire.answer(packed.headers, packed.content)["logits"], wire.answer(plain.headers, plain.content)["logits"]
    )


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [("gzip", "gzip"), ("deflate", "deflate"), ("br, gzip;q=0.5", "gzip"), ("identity", None), ("gzip;q=0", None)],
)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_compressed_answers(server: Server, accept: str, encoding: str | None, binary: bool) -> None:
    headers, body = wire.request([X], parameters={"binary_data_output": binary})
    with RawConnection(server.port) as raw:
        plain = raw.request("POST", infer_path("digits"), body, headers)
        packed = raw.request("POST", infer_path("digits"), body, {**headers, "Accept-Encoding": accept})
    assert packed.headers.get("content-encoding") == encoding
    unpack: dict[str | None, Any] = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}
    unpacked = unpack[encoding](packed.body)
    head = {wire.HEADER: packed.headers[wire.HEADER.lower()]} if binary else {}
    first = {wire.HEADER: plain.headers[wire.HEADER.lower()]} if binary else {}
    np.testing.assert_array_equal(wire.answer(head, unpacked)["logits"], wire.answer(first, plain.body)["logits"])
    if encoding and not binary:
        assert len(packed.body) < len(unpacked)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense"])
def test_other_encodings_are_415(server: Server, encoding: str) -> None:
    headers, body = wire.request([X])
    status, text = server.refused("digits", {**headers, "Content-Encoding": encoding}, body)
    assert (status, "Content-Encoding" in text) == (415, True)


# ---- repository index


def test_the_index_can_be_limited_to_ready_versions(server: Server) -> None:
    everything = server.post("/v2/repository/index").json()
    ready = server.post("/v2/repository/index", {"ready": True}).json()
    assert {"name": "digits", "version": "1", "state": "READY", "reason": ""} in ready
    assert all(entry["state"] == "READY" for entry in ready)
    assert len(everything) >= len(ready)


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"ready": 1}', b'{"ready": "yes"}', b"\xff"])
def test_a_wrong_index_request_is_refused(server: Server, body: bytes) -> None:
    response = server.client.post("/v2/repository/index", content=body)
    assert response.status_code == 400


# ---- feedback


def test_feedback_is_in_the_record_log_when_it_is_accepted(server: Server) -> None:
    answer = server.infer("digits", [X], id=f"feedback-{server.lane}")
    items = [{"id": answer.id, "label": "7", "source": "test"}, {"id": "elsewhere", "score": 0.5}]
    response = server.post("/v2/models/digits/feedback", items)
    assert (response.status_code, response.json()) == (202, {"accepted": 2})
    assert server.records is not None
    found = {(f.record_id, f.label, f.score) for f in logged_feedback(server.records)}
    assert {(answer.id, "7", None), ("elsewhere", None, 0.5)} <= found


def logged_feedback(root: Path) -> list[Any]:
    reader = RecordLogReader(root)
    frames = [frame for source in reader.sources() for frame in reader.read(source, None, 1 << 30)]
    return [item for frame in frames if frame.kind == "feedback" for item in frame.feedback()]


def test_wrong_feedback_is_refused_by_name(server: Server) -> None:
    response = server.post("/v2/models/digits/feedback", {"id": "a", "label": True})
    assert (response.status_code, "'label'" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}]
)
@pytest.mark.parametrize("path", ["/v2/models/digits/feedback", "/v2/repository/models/digits/load"])
def test_a_web_page_of_another_site_cannot_change_anything(server: Server, path: str, headers: dict[str, str]) -> None:
    response = server.client.post(path, json={"id": "a", "label": 1}, headers=headers)
    assert response.status_code == 403
    same = server.client.post(path, json={"id": "a", "label": 1}, headers={"Origin": server.url})
    assert same.status_code in (200, 202)


# ---- metrics


def test_metrics_count_the_requests(server: Server) -> None:
    def ok() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        wanted = [line for line in lines if line.startswith("hardcase_requests_total{")]
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in wanted if 'model="digits"' in line and 'outcome="ok"' in line
        )

    before = ok()
    for _ in range(3):
        server.infer("digits", [X])
    assert ok() - before == 3


def test_the_lane_in_use_is_shown(server: Server) -> None:
    text = server.client.get("/metrics").text
    assert f'hardcase_lane{{lane="{server.lane}"}} 1.0' in text
