"""Request bodies are what each server reads, answers are read back, and wrk sends exactly these bytes."""

from __future__ import annotations

import json
import re

import httpx
import numpy as np
import pytest

from benchmarks.payloads import Wire, lua_script, make_payload, read_answer

RNG = np.random.default_rng(20)
IMAGE = RNG.random((1, 1, 8, 8)).astype(np.float32)
LOGITS = RNG.normal(size=10).astype(np.float32)


def test_the_binary_request_is_the_protocols() -> None:
    payload = make_payload(Wire.OIP_BINARY, IMAGE)
    length = int(payload.headers["Inference-Header-Content-Length"])
    head = json.loads(payload.body[:length])
    assert head["inputs"][0]["parameters"]["binary_data_size"] == len(payload.body) - length == 256
    assert np.array_equal(np.frombuffer(payload.body[length:], "<f4"), IMAGE.ravel())


@pytest.mark.parametrize("wire", [Wire.OIP_JSON, Wire.JSON])
def test_json_requests_hold_the_same_numbers(wire: Wire) -> None:
    body = json.loads(make_payload(wire, IMAGE).body)
    numbers = body["inputs"][0]["data"] if wire is Wire.OIP_JSON else body["x"]
    assert np.array_equal(np.asarray(numbers, np.float32).ravel(), IMAGE.ravel())


def answer(wire: Wire) -> httpx.Response:
    described = {"name": "logits", "shape": [1, 10], "datatype": "FP32"}
    if wire is Wire.RAW:
        return httpx.Response(200, content=LOGITS.tobytes())
    if wire is Wire.JSON:
        return httpx.Response(200, json={"logits": LOGITS.tolist()})
    if wire is Wire.OIP_JSON:
        return httpx.Response(200, json={"outputs": [described | {"data": LOGITS.tolist()}]})
    before = {"name": "other", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"outputs": [before, described | {"parameters": {"binary_data_size": 40}}]}).encode()
    return httpx.Response(
        200,
        content=head + bytes(8) + LOGITS.tobytes(),
        headers={"inference-header-content-length": str(len(head))},
    )


@pytest.mark.parametrize("wire", list(Wire))
def test_answers_are_read_back(wire: Wire) -> None:
    assert np.array_equal(read_answer(wire, answer(wire)), LOGITS)


@pytest.mark.parametrize("wire", [Wire.OIP_BINARY, Wire.OIP_JSON])
def test_an_answer_without_logits_is_an_error(wire: Wire) -> None:
    response = httpx.Response(200, content=b'{"outputs":[]}', headers={"inference-header-content-length": "14"})
    with pytest.raises(ValueError, match="logits"):
        read_answer(wire, response)


@pytest.mark.parametrize("wire", list(Wire))
def test_the_lua_body_is_the_body_byte_for_byte(wire: Wire) -> None:
    payload = make_payload(wire, IMAGE)
    script = lua_script(payload)
    assert script.isascii()
    literal = script.split('wrk.body = "', 1)[1].rstrip()[:-1]
    sent = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1])), literal).encode("latin-1")
    assert sent == payload.body
