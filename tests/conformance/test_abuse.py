"""PROTOCOL, "What a server gets wrong": each line, in both lanes.

Checked for each: the status, that the text names the field, that nothing of the machine leaks, and the state of the
connection right afterwards: either it answers the next request, or the server said that it closes and does.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from tests.conformance.conftest import LIMITS, leaks
from tests.support import wire
from tests.support.http_raw import RawAnswer, RawConnection, head
from tests.support.server import Server, infer_path
from tests.support.wire import HEADER, Tensor

TRANSPORTS = ["fast", "asgi"]  # HAProxy refuses much of this itself, in its own words
DIGITS = infer_path("digits")
ONE = Tensor(name="x", datatype=Datatype.FP32, array=np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8))


def inputs(**changes: Any) -> bytes:
    """A JSON request for the digits model with some fields of its input changed; `...` takes a field out."""
    item = {"name": "x", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.5] * 64} | changes
    item = {name: value for name, value in item.items() if value is not ...}
    return json.dumps({"inputs": [item]}).encode()


def binary(size: int = 256, tail: int | None = None, **changes: Any) -> tuple[dict[str, str], bytes]:
    """A binary request for the digits model that says `size` and sends `tail` bytes."""
    text = inputs(data=..., parameters={"binary_data_size": size}, **changes)
    return {HEADER: str(len(text))}, text + bytes(size if tail is None else tail)


def check_error(answer: RawAnswer, status: int, *names: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    plain = json.loads(answer.body)
    assert list(plain) == ["error"]
    for name in names:
        assert name in plain["error"], plain["error"]
    assert not leaks(answer.body), answer.body


def refuse(
    server: Server, body: bytes, status: int, *names: str, headers: dict[str, str] | None = None, model: str = "digits"
) -> None:
    """Send a whole, wrong request; afterwards the same connection must answer a right one."""
    with RawConnection(server.port) as raw:
        check_error(raw.request("POST", infer_path(model), body, headers), status, *names)
        check_alive(raw)


def check_alive(raw: RawConnection) -> None:
    headers, body = wire.request([ONE])
    assert raw.request("POST", DIGITS, body, headers).status == 200


# ---- Inference-Header-Content-Length


@pytest.mark.parametrize(
    "value", ["-1", "+5", "05", "00", "0x10", "1e2", "1.0", "a", "5 5", "5,5", "99999999999999999999999", "\u00b2"]
)
def test_a_header_length_that_is_no_canonical_number(server: Server, value: str) -> None:
    refuse(server, binary()[1], 400, HEADER, headers={HEADER: value})


def test_an_empty_header_length(server: Server) -> None:
    refuse(server, binary()[1], 400, HEADER, headers={HEADER: ""})


def test_a_header_length_past_the_body(server: Server) -> None:
    body = binary()[1]
    refuse(server, body, 400, HEADER, str(len(body)), headers={HEADER: str(len(body) + 1)})


def test_a_header_length_given_twice(server: Server) -> None:
    headers, body = binary()
    refuse(server, body, 400, HEADER, headers={**headers, HEADER.lower(): "0"})


def test_a_json_part_over_its_limit(server: Server) -> None:
    body = b" " * (LIMITS.json_header_bytes + 1) + binary()[1]
    length = {HEADER: str(LIMITS.json_header_bytes + 1)}
    refuse(server, body, 413, HEADER, str(LIMITS.json_header_bytes), headers=length)


# ---- sizes


@pytest.mark.parametrize("size", [0, 1, 252, 255, 257, 512, 1 << 40])
def test_a_binary_size_that_does_not_fit_the_shape(server: Server, size: int) -> None:
    headers, body = binary(size, 256)
    refuse(server, body, 400, "inputs[0] 'x'", "binary_data_size", headers=headers)


@pytest.mark.parametrize("size", [-1, 1.5, True, "256", 1 << 70])
def test_a_binary_size_that_is_no_size(server: Server, size: Any) -> None:
    text = inputs(data=..., parameters={"binary_data_size": size})
    refuse(server, text + bytes(256), 400, "inputs[0] 'x'", "binary_data_size", headers={HEADER: str(len(text))})


@pytest.mark.parametrize("tail", [0, 255, 257, 400])
def test_bytes_that_are_missing_or_left_over(server: Server, tail: int) -> None:
    headers, body = binary(256, tail)
    refuse(server, body, 400, "binary_data_size", str(tail), headers=headers)
    refuse(server, body, 400, "binary_data_size", headers=headers)  # the second time the head is a remembered one


def test_a_remembered_request_does_not_hide_left_over_bytes(server: Server) -> None:
    headers, body = binary()
    with RawConnection(server.port) as raw:
        for _ in range(3):
            assert raw.request("POST", DIGITS, body, headers).status == 200
        check_error(raw.request("POST", DIGITS, body + b"x", headers), 400, "257")
        check_error(raw.request("POST", DIGITS, body[:-1], headers), 400, "255")
        check_alive(raw)


def test_data_and_binary_size_exclude_each_other(server: Server) -> None:
    refuse(server, inputs(parameters={"binary_data_size": 256}), 400, "inputs[0] 'x'", "data", "binary_data_size")
    refuse(server, inputs(data=...), 400, "inputs[0] 'x'", "neither data nor binary_data_size")


def test_int8_data_that_is_declared_fp64(server: Server) -> None:
    array = np.arange(2, dtype=np.int8).reshape(1, 2)
    text = json.dumps(
        {
            "inputs": [
                {"name": "in_FP64", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": 2}},
            ]
        }
    ).encode()
    answer = json.loads(
        server.client.post(
            infer_path("dtypes"), content=text + array.tobytes(), headers={HEADER: str(len(text))}
        ).content
    )
    assert "missing" in answer["error"]  # the model has more inputs; alone it is:
    headers, body = binary(64, 64)  # one byte an element
    refuse(server, body, 400, "inputs[0] 'x'", "FP32", "256", headers=headers)


@pytest.mark.parametrize("count", [63, 65, 0])
def test_json_data_of_another_length(server: Server, count: int) -> None:
    refuse(server, inputs(data=[0.5] * count), 400, "inputs[0] 'x'.data", "64")


@pytest.mark.parametrize("data", [[[0.5] * 64], [[[[0.5] * 8] * 8] * 1] * 2, [[[[0.5] * 8] * 7 + [[0.5] * 9]]]])
def test_json_data_of_another_nesting(server: Server, data: Any) -> None:
    refuse(server, inputs(data=data), 400, "inputs[0] 'x'.data")


# ---- shapes


@pytest.mark.parametrize("dimension", [-1, -(1 << 63), 1.0, 1.5, True, False, "1", None, [1]])
def test_a_dimension_that_is_none(server: Server, dimension: Any) -> None:
    refuse(server, inputs(shape=[dimension, 1, 8, 8]), 400, "shape")


@pytest.mark.parametrize("digits", [20, 400, 6000])
def test_a_dimension_with_many_digits(server: Server, digits: int) -> None:
    body = inputs(shape=["@", 1, 8, 8]).replace(b'"@"', b"9" * digits)
    with RawConnection(server.port) as raw:
        answer = raw.request("POST", DIGITS, body)
        assert answer.status in (400, 413)
        check_error(answer, answer.status, "shape")
        assert len(answer.body) < 300
        check_alive(raw)


@pytest.mark.parametrize("shape", [[1 << 31, 1 << 31], [1 << 62, 4], [1 << 63, 2], [1, 1 << 62], [3, 1 << 61]])
def test_a_product_of_dimensions_that_overflows(server: Server, shape: list[int]) -> None:
    item = {"name": "x", "shape": shape, "datatype": "FP32", "data": [1.0]}
    with RawConnection(server.port) as raw:
        answer = raw.request("POST", infer_path("varlen"), json.dumps({"inputs": [item]}).encode())
        assert answer.status in (400, 413)
        check_error(answer, answer.status, "'x'", "shape")
        check_alive(raw)


@pytest.mark.parametrize("shape", [[1 << 40, 0], [0, 1 << 62], [1, 0]])
def test_a_huge_shape_with_no_elements(server: Server, shape: list[int]) -> None:
    item = {"name": "x", "shape": shape, "datatype": "FP32", "data": []}
    with RawConnection(server.port) as raw:
        answer = raw.request("POST", infer_path("varlen"), json.dumps({"inputs": [item]}).encode())
        if shape == [1, 0]:
            assert answer.status == 200
        else:
            assert answer.status in (400, 413)
            check_error(answer, answer.status, "'x'")
        check_alive(raw)


def test_a_huge_shape_with_a_tiny_body(server: Server) -> None:
    text = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [1, 1 << 27], "datatype": "FP32", "parameters": {"binary_data_size": 1 << 29}}
            ]
        }
    ).encode()
    refuse(server, text + bytes(8), 400, "binary", headers={HEADER: str(len(text))}, model="varlen")


@pytest.mark.parametrize(
    ("shape", "name"),
    [([1, 8, 8], "3 dimensions"), ([], "0 dimensions"), ([1, 1, 8, 8, 1], "5 dimensions"), ([1, 1, 8, 9], "shape[3]")],
)
def test_another_rank_or_fixed_dimension(server: Server, shape: list[int], name: str) -> None:
    refuse(server, inputs(shape=shape), 400, "inputs[0] 'x'", name)


def test_an_empty_batch(server: Server) -> None:
    refuse(server, inputs(shape=[0, 1, 8, 8], data=[]), 400, "'x'", "empty batch")


def test_more_rows_than_a_request_may_have(server: Server) -> None:
    rows = LIMITS.rows + 1
    headers, body = binary(256 * rows, shape=[rows, 1, 8, 8])
    refuse(server, body, 400, "'x'", str(rows), str(LIMITS.rows), headers=headers)


def test_batch_sizes_that_differ(server: Server) -> None:
    a = {"name": "a", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    b = {"name": "b", "shape": [2, 2, 2], "datatype": "INT64", "data": list(range(8))}
    refuse(server, json.dumps({"inputs": [a, b]}).encode(), 400, "'a'", "'b'", "rows", model="multi")


# ---- names and types


def test_an_input_given_twice(server: Server) -> None:
    item = json.loads(inputs())["inputs"][0]
    refuse(server, json.dumps({"inputs": [item, item]}).encode(), 400, "inputs[1]", "'x'", "twice")


def test_an_unknown_input(server: Server) -> None:
    refuse(server, inputs(name="nowhere"), 400, "inputs[0]", "nowhere")


def test_a_missing_input(server: Server) -> None:
    refuse(server, b'{"inputs":[]}', 400, "'x'", "missing")


@pytest.mark.parametrize("datatype", ["FP64", "fp32", "INT8", "STRING", "", "BF16"])
def test_another_datatype(server: Server, datatype: str) -> None:
    refuse(server, inputs(datatype=datatype), 400, "inputs[0] 'x'", "FP32")


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        ([{"name": "nowhere"}], ["outputs[0]", "nowhere"]),
        ([{"name": "logits"}, {"name": "logits"}], ["outputs[1]", "twice"]),
        ([{"name": "logits", "parameters": {"binary_data": 1}}], ["outputs[0]", "binary_data"]),
        ([{"name": "logits", "parameters": {"classification": 0}}], ["outputs[0]", "classification"]),
        ([{"name": "logits", "parameters": {"classification": -1}}], ["outputs[0]", "classification"]),
        ([{"name": "logits"}] * 300, ["outputs"]),
        ([{}], ["name"]),
        ({}, ["outputs"]),
    ],
)
def test_wrong_wanted_outputs(server: Server, outputs: Any, names: list[str]) -> None:
    body = json.dumps({**json.loads(inputs()), "outputs": outputs}).encode()
    refuse(server, body, 400, *names)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"timeout": -1}, "timeout"),
        ({"timeout": 1.5}, "timeout"),
        ({"priority": "high"}, "priority"),
        ({"binary_data_output": "yes"}, "binary_data_output"),
        ({"triton_x": 1}, "triton_x"),
        ({"hardcase_x": 1}, "hardcase_x"),
        ({"x": [1]}, "parameters"),
        ({"x": None}, "parameters"),
        ([], "parameters"),
    ],
)
def test_wrong_parameters(server: Server, parameters: Any, name: str) -> None:
    refuse(server, json.dumps({**json.loads(inputs()), "parameters": parameters}).encode(), 400, name)


@pytest.mark.parametrize("value", [3, None, "x" * 129, "é" * 65])
def test_a_wrong_id(server: Server, value: Any) -> None:
    refuse(server, json.dumps({**json.loads(inputs()), "id": value}).encode(), 400, "id")


def test_shared_memory_is_not_supported(server: Server) -> None:
    text = inputs(data=..., parameters={"shared_memory_region": "r", "shared_memory_byte_size": 256})
    refuse(server, text, 501, "shared_memory")


def test_raw_form_where_it_cannot_be(server: Server) -> None:
    refuse(server, bytes(10), 400, "256", headers={HEADER: "0"})
    refuse(server, bytes(10), 400, "inputs", headers={HEADER: "0"}, model="multi")
    refuse(server, bytes(10), 400, "'x'", headers={HEADER: "0"}, model="varlen")
    refuse(server, b"", 400, headers={HEADER: "0"}, model="varlen")


# ---- BYTES


@pytest.mark.parametrize(
    "data",
    [b"", b"\x01", b"\x05\x00\x00\x00abc", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7fabc", b"\x01\x00\x00\x00ab"],
)
def test_bytes_lengths_that_lie(server: Server, data: bytes) -> None:
    item = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"inputs": [item]}).encode()
    refuse(server, text + data, 400, "'text'", headers={HEADER: str(len(text))}, model="echo")


def test_many_bytes_elements_in_a_tiny_body(server: Server) -> None:
    item = {"name": "text", "shape": [500, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 4}}
    text = json.dumps({"inputs": [item]}).encode()
    refuse(server, text + bytes(4), 400, "'text'", headers={HEADER: str(len(text))}, model="echo")


def test_text_that_is_no_utf8_cannot_go_out_as_json(server: Server) -> None:
    words = Tensor(name="text", datatype=Datatype.BYTES, array=np.array([[b"\xff\xfe"]], dtype=object))
    headers, body = wire.request([words])
    refuse(server, body, 400, "UTF-8", headers=headers, model="echo")


# ---- JSON


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nan"])
def test_numbers_that_json_has_not(server: Server, number: str) -> None:
    body = inputs().replace(b"0.5", number.encode(), 1)
    refuse(server, body, 400)


def test_a_number_too_large_for_its_datatype(server: Server) -> None:
    refuse(server, inputs(data=[1e39] + [0.0] * 63), 400, "inputs[0] 'x'.data")


@pytest.mark.parametrize(
    "data", [["1"] + [0] * 63, [True] + [0] * 63, [None] + [0] * 63, [{}] + [0] * 63, "abc", None, 5]
)
def test_json_elements_of_another_type(server: Server, data: Any) -> None:
    refuse(server, inputs(data=data), 400, "inputs[0] 'x'.data")


@pytest.mark.parametrize("field", ["data", "unknown", "parameters", "inputs"])
def test_json_that_is_ten_thousand_levels_deep(server: Server, field: str) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = opening * 10_000 + b"1" + closing * 10_000
        body = inputs(data="@").replace(b'"@"', deep) if field == "data" else b'{"%s":%s}' % (field.encode(), deep)
        refuse(server, body, 400)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b"3", b'"x"', b"{}", b'{"inputs":null}', b'{"inputs":{}}', b'{"inputs":[3]}'),
        *(b"\xff\xfe", b"\xef\xbb\xbf{}", b"{'inputs':[]}", b'{"inputs":[],}', b'{"inputs":[]}x'),
        *(b'{"inputs":[]}\x00', bytes(100)),
    ],
)
def test_what_is_no_request(server: Server, body: bytes) -> None:
    refuse(server, body, 400)


# ---- bodies


def test_sixty_five_thousand_chunks(server: Server) -> None:
    with RawConnection(server.port) as raw:
        raw.send(head("POST", DIGITS, None, {"Transfer-Encoding": "chunked"}))
        for _ in range(65_537 // 1024 + 1):
            if not raw.send_unless_closed(b"1\r\n \r\n" * 1024):
                break
        answer = raw.answer()
        check_error(answer, 413, "chunks", "65536")
        assert answer.closes
        assert raw.closed_within(5)
    check_other_clients(server)


def test_many_chunks_below_the_limit_are_one_body(server: Server) -> None:
    headers, body = wire.request([ONE], binary=False)
    chunked = b"".join(b"1\r\n" + body[i : i + 1] + b"\r\n" for i in range(len(body))) + b"0\r\n\r\n"
    with RawConnection(server.port) as raw:
        raw.send(head("POST", DIGITS, None, {**headers, "Transfer-Encoding": "chunked"}) + chunked)
        assert raw.answer().status == 200
        check_alive(raw)


def test_a_content_length_of_a_gigabyte_without_a_body(server: Server) -> None:
    with RawConnection(server.port) as raw:
        began = time.monotonic()
        raw.send(head("POST", DIGITS, None, {"Content-Length": str(1 << 30)}))
        answer = raw.answer()
        check_error(answer, 413, "Content-Length", str(LIMITS.body_bytes))
        assert time.monotonic() - began < 1.0
        assert answer.closes
        assert raw.closed_within(5)


@pytest.mark.parametrize("value", ["-1", "1e3", "0x10", "+5", "5, 5", "99999999999999999999999999"])
def test_a_content_length_that_is_no_length(server: Server, value: str) -> None:
    with RawConnection(server.port) as raw:
        raw.send(head("POST", DIGITS, None, {"Content-Length": value}) + b"12345")
        answer = raw.answer()
        assert answer.status in (400, 413)
        check_error(answer, answer.status)
        assert answer.closes
        assert raw.closed_within(5)


def test_both_length_and_chunks_is_refused(server: Server) -> None:
    with RawConnection(server.port) as raw:
        raw.send(head("POST", DIGITS, None, {"Content-Length": "5", "Transfer-Encoding": "chunked"}) + b"0\r\n\r\n")
        answer = raw.answer()
        check_error(answer, 400)
        assert answer.closes


def test_a_body_over_the_limit_is_answered_while_it_is_sent(server: Server) -> None:
    with RawConnection(server.port) as raw:
        raw.send(head("POST", DIGITS, None, {"Content-Length": str(LIMITS.body_bytes + 1)}))
        for _ in range(4):
            raw.send_unless_closed(bytes(1 << 20))
        answer = raw.answer()  # not a reset: the answer survives
        check_error(answer, 413, str(LIMITS.body_bytes))
        assert answer.closes


def test_a_chunked_body_over_the_limit(server: Server) -> None:
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    with RawConnection(server.port) as raw:
        raw.send(head("POST", DIGITS, None, {"Transfer-Encoding": "chunked"}))
        for _ in range(LIMITS.body_bytes // (1 << 20) + 2):
            if not raw.send_unless_closed(chunk):
                break
        answer = raw.answer()
        check_error(answer, 413, str(LIMITS.body_bytes))
        assert answer.closes


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_bomb(server: Server, encoding: str) -> None:
    wbits = 31 if encoding == "gzip" else 15
    deflater = zlib.compressobj(9, wbits=wbits)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(512)) + deflater.flush()
    assert len(bomb) < 1 << 20
    before = resident_bytes(server)
    for _ in range(5):
        refuse(server, bomb, 413, encoding, str(LIMITS.body_bytes), headers={"Content-Encoding": encoding})
    assert resident_bytes(server) - before < 4 * LIMITS.body_bytes


def resident_bytes(server: Server) -> int:
    with open(f"/proc/{server.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("damaged", [b"", b"\x1f\x8b", b"plain text", bytes(100)])
def test_a_body_that_is_not_compressed_as_it_says(server: Server, damaged: bytes) -> None:
    refuse(server, damaged, 400, "gzip", headers={"Content-Encoding": "gzip"})


# ---- heads


def test_a_flood_of_headers(server: Server) -> None:
    for path in (DIGITS, "/v2/health/live"):
        with RawConnection(server.port) as raw:
            raw.send(f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode())
            for i in range(20_000):
                if not raw.send_unless_closed(b"X-Flood-%d: 0123456789\r\n" % i):
                    break
            answer = raw.answer()
            check_error(answer, 431, str(LIMITS.head_bytes))
            assert answer.closes
    check_other_clients(server)


@pytest.mark.parametrize("start", [b"POST " + DIGITS.encode() + b" HTTP/1.1\r\nX: ", b"GET /", b"POST /v2/models/"])
def test_one_endless_line(server: Server, start: bytes) -> None:
    with RawConnection(server.port) as raw:
        raw.send(start)
        for _ in range(100):
            if not raw.send_unless_closed(b"y" * 65_536):
                break
        answer = raw.answer()
        check_error(answer, answer.status)
        assert answer.status in (400, 431)
        assert answer.closes


@pytest.mark.parametrize(
    "garbage",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http(server: Server, garbage: bytes) -> None:
    with RawConnection(server.port) as raw:
        raw.send(garbage)
        answer = raw.answer()
        check_error(answer, 400)
        assert answer.closes
        assert raw.closed_within(5)


@pytest.mark.parametrize("name", ["Bad Name: x", "X\x00: y", ": x", "X: a\x00b", "X: a\rb"])
def test_a_header_that_is_none(server: Server, name: str) -> None:
    with RawConnection(server.port) as raw:
        raw.send(f"POST {DIGITS} HTTP/1.1\r\nHost: x\r\n{name}\r\nContent-Length: 0\r\n\r\n".encode())
        answer = raw.answer()
        check_error(answer, 400)


# ---- time


def drip(raw: RawConnection, drop: bytes, seconds: float) -> float:
    """Send a drop every 50 ms until the server answers or closes; how long that took."""
    began = time.monotonic()
    raw.socket.setblocking(False)
    try:
        while time.monotonic() - began < seconds:
            try:
                raw.socket.send(drop)
                if raw.socket.recv(1, socket.MSG_PEEK) is not None:
                    break
            except BlockingIOError:
                pass
            except OSError:
                break
            time.sleep(0.05)
    finally:
        raw.socket.settimeout(10)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("start", "drop", "part"),
    [
        (b"POST " + DIGITS.encode() + b" HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a", "headers"),
        (b"P", b"", "headers"),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a", "headers"),
        (head("POST", DIGITS, None, {"Content-Length": "100000"}), b"z", "body"),
        (head("POST", DIGITS, None, {"Transfer-Encoding": "chunked"}), b"1\r\nz\r\n", "body"),
        (head("POST", DIGITS, None, {"Content-Length": "100000", "Content-Encoding": "gzip"}), b"z", "body"),
        (head("POST", "/v2/repository/index", None, {"Content-Length": "1000"}), b"z", "body"),
    ],
    ids=[
        "headers",
        "first byte",
        "headers of a GET",
        "body",
        "chunked body",
        "compressed body",
        "body of a control route",
    ],
)
def test_a_request_that_comes_too_slowly(server: Server, start: bytes, drop: bytes, part: str) -> None:
    with RawConnection(server.port) as raw:
        raw.send(start)
        took = drip(raw, drop, 10)
        assert LIMITS.receive_s - 0.5 < took < LIMITS.receive_s + 1.5
        answer = raw.answer()
        check_error(answer, 408, part, f"{LIMITS.receive_s:g} s")
        assert answer.closes
        assert raw.closed_within(5)


def test_a_body_that_no_route_reads_holds_no_connection(server: Server) -> None:
    with RawConnection(server.port) as raw:
        raw.send(head("GET", "/v2/health/live", None, {"Content-Length": "100000"}))
        assert raw.answer().status == 200
        assert raw.closed_within(LIMITS.receive_s + 3)


@pytest.mark.parametrize("first", [False, True], ids=["never used", "used once"])
def test_an_idle_connection_is_closed(server: Server, first: bool) -> None:
    with RawConnection(server.port) as raw:
        if first:
            check_alive(raw)
        assert not raw.closed_within(LIMITS.idle_s - 1.0)
        assert raw.closed_within(4)


@pytest.mark.parametrize("compressed", [False, True], ids=["lane's way", "app's way"])
def test_a_client_that_does_not_read_its_answer_is_cut(server: Server, compressed: bool) -> None:
    """One whole request whose answer is larger than the buffers of the system; nothing of it is read for a while."""
    word = np.array([[b"w" * 7_500_000]], dtype=object)
    headers, body = wire.request(
        [Tensor(name="text", datatype=Datatype.BYTES, array=word)], parameters={"binary_data_output": True}
    )
    if compressed:  # the fast lane leaves compressed requests to the app
        headers, body = {**headers, "Content-Encoding": "gzip"}, gzip.compress(body, 1)
    with RawConnection(server.port) as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        raw.send(head("POST", infer_path("echo"), body, headers) + body)
        time.sleep(2 * LIMITS.receive_s + 2.0)
        received, closed = drain(raw.socket)
    assert closed
    assert received < 7_500_000
    check_other_clients(server)


def drain(connection: socket.socket) -> tuple[int, bool]:
    """How many bytes still come, and whether the server closed behind them."""
    received = 0
    connection.settimeout(5)
    try:
        while data := connection.recv(1 << 20):
            received += len(data)
    except TimeoutError:
        return received, False
    except OSError:
        return received, True
    return received, True


def test_a_client_that_reads_its_answer_slowly_but_steadily_gets_it(server: Server) -> None:
    word = np.array([[b"w" * 4_000_000]], dtype=object)
    headers, body = wire.request(
        [Tensor(name="text", datatype=Datatype.BYTES, array=word)], parameters={"binary_data_output": True}
    )
    with RawConnection(server.port) as raw:
        raw.send(head("POST", infer_path("echo"), body, headers) + body)
        received = 0
        while received < 4_000_000:
            data = raw.socket.recv(50_000)
            assert data, f"closed after {received} bytes"
            received += len(data)
            time.sleep(0.03)
        check_other_clients(server)


def test_slow_clients_do_not_slow_down_others(server: Server) -> None:
    connections = [RawConnection(server.port) for _ in range(200)]
    try:
        for i, raw in enumerate(connections):
            raw.send((b"POST /v2/mo", head("POST", DIGITS, None, {"Content-Length": "1000"}) + b"x")[i % 2])
        check_other_clients(server, seconds=1.0)
    finally:
        for raw in connections:
            raw.socket.close()


def check_other_clients(server: Server, seconds: float = 2.0) -> None:
    """A new client is answered, soon."""
    began = time.monotonic()
    with RawConnection(server.port) as raw:
        for _ in range(10):
            check_alive(raw)
    assert time.monotonic() - began < seconds


# ---- HTTP


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Fast, slow, wrong and foreign requests in one write: answers come in the order of the requests."""
    requests, expected = [], []
    for i in range(30):
        if i % 5 == 4:
            requests.append(head("GET", "/v2/models/echo"))
            expected.append("echo")
        elif i % 7 == 6:
            requests.append(head("POST", DIGITS, b"{}") + b"{}")
            expected.append("400")
        elif i % 11 == 3:
            headers, body = wire.request([Tensor(name="x", datatype=Datatype.FP32, array=np.ones((2, 64), np.float32))])
            body = body.replace(b'{"inputs"', b'{"id":"slow%02d","inputs"' % i)
            headers[HEADER] = str(int(headers[HEADER]) + len('"id":"slow00",'))
            requests.append(head("POST", infer_path("slow"), body, headers) + body)
            expected.append(f"slow{i:02d}")
        else:
            headers, body = wire.request([ONE], binary=i % 2 == 0, id=f"r{i}")
            requests.append(head("POST", DIGITS, body, headers) + body)
            expected.append(f"r{i}")
    with RawConnection(server.port) as raw:
        raw.send(b"".join(requests))
        got = []
        for _ in requests:
            answer = raw.answer()
            length = int(answer.headers.get(HEADER.lower(), len(answer.body)))
            plain = json.loads(answer.body[:length])
            got.append(plain.get("id") or plain.get("name") or str(answer.status))
    assert got == expected


def test_requests_in_small_pieces(server: Server) -> None:
    headers, body = wire.request([ONE], id="pieces")
    data = (head("POST", DIGITS, body, headers) + body) * 3
    with RawConnection(server.port) as raw:
        for start in range(0, len(data), 37):
            raw.send(data[start : start + 37])
            if start % 370 == 0:
                time.sleep(0.001)
        assert [raw.answer().status for _ in range(3)] == [200] * 3


def test_expect_continue_is_invited_before_the_body(server: Server) -> None:
    headers, body = wire.request([ONE])
    with RawConnection(server.port) as raw:
        raw.send(head("POST", DIGITS, body, {**headers, "Expect": "100-continue"}))
        assert raw.answer().status == 100
        raw.send(body)
        assert raw.answer().status == 200
        check_alive(raw)


def test_expect_continue_of_a_body_that_is_too_large_gets_the_final_answer(server: Server) -> None:
    with RawConnection(server.port) as raw:
        raw.send(head("POST", DIGITS, None, {"Content-Length": str(1 << 30), "Expect": "100-continue"}))
        check_error(raw.answer(), 413, "Content-Length")


def test_connection_close_and_http_1_0_are_honoured(server: Server) -> None:
    headers, body = wire.request([ONE])
    for text in (
        head("POST", DIGITS, body, {**headers, "Connection": "close"}),
        head("POST", DIGITS, body, headers).replace(b"HTTP/1.1", b"HTTP/1.0"),
    ):
        with RawConnection(server.port) as raw:
            raw.send(text + body)
            assert raw.answer().status == 200
            assert raw.closed_within(2)


def test_an_upgrade_is_ignored(server: Server) -> None:
    with RawConnection(server.port) as raw:
        answer = raw.request("GET", "/v2/health/live", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert answer.status == 200


# ---- load


BUSY_ROWS = 384  # some tenths of a second on a fast machine


def busy(server: Server, rows: int = BUSY_ROWS) -> Callable[[], None]:
    """Give the slow model work for a while; returns what waits for its answer."""
    x = Tensor(name="x", datatype=Datatype.FP32, array=np.ones((rows, 64), np.float32))
    headers, body = wire.request([x], parameters={"binary_data_output": True})
    raw = RawConnection(server.port, timeout_s=60)
    raw.send(head("POST", infer_path("slow"), body, headers) + body)
    with RawConnection(server.port) as other:
        for _ in range(5):  # whoever is answered came later: the work has begun
            assert other.request("GET", "/v2/health/live").status == 200

    def finish() -> None:
        with raw:
            assert raw.answer().status == 200

    return finish


def outcomes(server: Server, outcome: str) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    wanted = [line for line in lines if line.startswith("hardcase_requests_total{") and 'model="slow"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in wanted if f'outcome="{outcome}"' in line)


def slow_rows(server: Server) -> int:
    (entry,) = server.get("/v2/models/slow/stats")["model_stats"]
    return int(entry["inference_count"])


def test_a_client_that_goes_away_while_it_waits_never_reaches_the_model(server: Server) -> None:
    before, cancelled = slow_rows(server), outcomes(server, "cancelled")
    finish = busy(server)
    headers, body = wire.request([Tensor(name="x", datatype=Datatype.FP32, array=np.ones((7, 64), np.float32))])
    for _ in range(4):
        with RawConnection(server.port) as raw:
            raw.send(head("POST", infer_path("slow"), body, headers) + body)
            time.sleep(0.01)
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
    finish()
    time.sleep(0.3)
    assert slow_rows(server) - before == BUSY_ROWS
    assert outcomes(server, "cancelled") - cancelled == 4


def test_a_deadline_that_passes_in_the_queue_is_504_and_never_reaches_the_model(server: Server) -> None:
    before, missed = slow_rows(server), outcomes(server, "deadline")
    finish = busy(server)
    x = Tensor(name="x", datatype=Datatype.FP32, array=np.ones((3, 64), np.float32))
    headers, body = wire.request([x], parameters={"timeout": 20_000})
    with RawConnection(server.port) as raw:
        began = time.monotonic()
        check_error(raw.request("POST", infer_path("slow"), body, headers), 504)
        took = time.monotonic() - began
        finish()
        check_alive(raw)
    assert slow_rows(server) - before == BUSY_ROWS
    assert outcomes(server, "deadline") - missed == 1
    assert took < 5


def test_a_full_queue_is_503_with_retry_after_at_once(server: Server) -> None:
    finish = busy(server, rows=512)  # more than may wait, but an empty queue takes anything
    x = Tensor(name="x", datatype=Datatype.FP32, array=np.ones((200, 64), np.float32))
    headers, body = wire.request([x], parameters={"binary_data_output": True})
    with RawConnection(server.port) as raw:
        began = time.monotonic()
        answer = raw.request("POST", infer_path("slow"), body, headers)
        took = time.monotonic() - began
        check_alive(raw)  # another model is not touched
        finish()
        check_error(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        assert took < 0.5
        assert raw.request("POST", infer_path("slow"), body, headers).status == 200  # there is room again
