"""The parser: what it accepts, what it refuses by name, and that its caches never change an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts.errors import HardcaseError, InvalidRequest, NotSupported, PayloadTooLarge
from export.contracts.signature import Signature
from serving.answer import AnswerPlans
from serving.options import Limits
from serving.protocol import ParsedRequest, RequestParser
from tests.support.packages import (
    all_dtypes_package,
    digits_like_package,
    echo_package,
    multi_input_package,
    unbatched_package,
    variable_length_package,
)


def parser_for(signature: Signature, **limits: int) -> RequestParser:
    answers = AnswerPlans("m", "1", signature, (), "error", range(len(signature.outputs)))
    return RequestParser(signature, Limits(**limits), answers)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Signature:
    return digits_like_package(tmp_path_factory.mktemp("digits")).manifest.signature


def request(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.5] * 64}
    tensor.update(changes.pop("tensor", {}))
    return {"inputs": [{k: v for k, v in tensor.items() if v is not None}], **changes}


def values(parsed: ParsedRequest, index: int = 0, dtype: str = "<f4") -> np.ndarray[Any, Any]:
    buffer = parsed.buffers[index]
    flat = np.frombuffer(buffer, dtype) if isinstance(buffer, memoryview) else buffer
    return np.array(flat).reshape(parsed.plan.shapes[index])


def test_json_data_flat_and_nested_give_the_same_tensor(digits: Signature) -> None:
    x = np.random.default_rng(1).random((2, 1, 8, 8), dtype=np.float32)
    flat = {"shape": [2, 1, 8, 8], "data": x.ravel().tolist()}
    nested = {"shape": [2, 1, 8, 8], "data": x.tolist()}
    for tensor in (flat, nested):
        parsed = parser_for(digits).parse(json.dumps(request(tensor=tensor)).encode(), None)
        np.testing.assert_array_equal(values(parsed), x)
        assert parsed.plan.rows == 2


def test_binary_data_is_taken_without_a_copy(digits: Signature) -> None:
    x = np.random.default_rng(2).random((1, 1, 8, 8), dtype=np.float32)
    head = json.dumps(request(tensor={"data": None, "parameters": {"binary_data_size": 256}})).encode()
    body = head + x.tobytes()
    parsed = parser_for(digits).parse(body, str(len(head)).encode())
    assert isinstance(parsed.buffers[0], memoryview)
    assert parsed.buffers[0].obj is body
    np.testing.assert_array_equal(values(parsed), x)


def test_a_remembered_plan_gives_each_request_its_own_tensor(digits: Signature) -> None:
    parser = parser_for(digits)
    generator = np.random.default_rng(3)
    head = json.dumps(request(tensor={"data": None, "parameters": {"binary_data_size": 256}})).encode()
    for _ in range(5):
        x = generator.random((1, 1, 8, 8), dtype=np.float32)
        parsed = parser.parse(head + x.tobytes(), str(len(head)).encode())
        np.testing.assert_array_equal(values(parsed), x)
        text = json.dumps(request(tensor={"data": x.ravel().tolist()})).encode()
        np.testing.assert_array_equal(values(parser.parse(text, None)), x)


def test_a_remembered_plan_still_checks_the_size_of_the_body(digits: Signature) -> None:
    parser = parser_for(digits)
    head = json.dumps(request(tensor={"data": None, "parameters": {"binary_data_size": 256}})).encode()
    length = str(len(head)).encode()
    parser.parse(head + bytes(256), length)
    for extra in (b"", bytes(255), bytes(257)):
        with pytest.raises(InvalidRequest, match="binary data"):
            parser.parse(head + extra, length)


@pytest.mark.parametrize(
    "bad", ["[1,2]", "[" + "1," * 63 + "true]", "[" + "1," * 63 + '"1"]', "[" + "1," * 63 + "1e999]", "[1,]", "[[1]]"]
)
def test_a_remembered_json_plan_still_reads_its_list_strictly(digits: Signature, bad: str) -> None:
    parser = parser_for(digits)
    good = json.dumps(request(), separators=(",", ":")).encode()
    parser.parse(good, None)
    begin = good.index(b'"data":') + 7
    end = good.index(b"]", begin) + 1
    assert parser.parse(good, None).plan.rows == 1
    with pytest.raises(InvalidRequest):
        parser.parse(good[:begin] + bad.encode() + good[end:], None)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_caches_never_change_the_verdict(digits: Signature, data: st.DataObject) -> None:
    """Whatever a warm parser says of a mutated request, a fresh parser says too."""
    warm = parser_for(digits)
    good = json.dumps(request(), separators=(",", ":")).encode()
    warm.parse(good, None)
    position = data.draw(st.integers(0, len(good) - 1))
    piece = data.draw(st.sampled_from([b"", b"]", b"[", b'"', b',"data":[1]', b"0", b"-", b"{", b"}", b" ", b"\\"]))
    mutated = good[:position] + piece + good[position + data.draw(st.integers(0, 3)) :]

    def verdict(parser: RequestParser) -> Any:
        try:
            parsed = parser.parse(mutated, None)
        except HardcaseError as error:
            return type(error)
        return parsed.plan.shapes, values(parsed).tolist()

    assert verdict(warm) == verdict(parser_for(digits))


@pytest.mark.parametrize(
    ("change", "error", "names"),
    [
        ({"tensor": {"name": "y"}}, InvalidRequest, "unknown input 'y'"),
        ({"tensor": {"datatype": "FP64"}}, InvalidRequest, "datatype is FP64"),
        ({"tensor": {"shape": [1, 64]}}, InvalidRequest, "shape has 2 dimensions"),
        ({"tensor": {"shape": [1, 1, 8, 9]}}, InvalidRequest, "shape[3] is 9"),
        ({"tensor": {"shape": [-1, 1, 8, 8]}}, InvalidRequest, "shape[0] is -1"),
        ({"tensor": {"shape": [1.5, 1, 8, 8]}}, InvalidRequest, "shape[0]"),
        ({"tensor": {"shape": [True, 1, 8, 8]}}, InvalidRequest, "shape[0]"),
        ({"tensor": {"shape": [0, 1, 8, 8], "data": []}}, InvalidRequest, "empty batch"),
        ({"tensor": {"shape": [1 << 62, 1, 8, 8]}}, PayloadTooLarge, "elements"),
        ({"tensor": {"shape": [5000, 1, 8, 8]}}, InvalidRequest, "5000 rows"),
        ({"tensor": {"data": [0.5] * 63}}, InvalidRequest, "63 elements"),
        ({"tensor": {"data": [0.5] * 63 + ["0.5"]}}, InvalidRequest, "data"),
        ({"tensor": {"data": [0.5] * 63 + [True]}}, InvalidRequest, "data"),
        ({"tensor": {"data": [0.5] * 63 + [1e39]}}, InvalidRequest, "data"),
        ({"tensor": {"data": [[0.5] * 32, [0.5] * 31]}}, InvalidRequest, "data"),
        ({"tensor": {"data": None}}, InvalidRequest, "neither data nor binary_data_size"),
        ({"tensor": {"parameters": {"binary_data_size": 256}}}, InvalidRequest, "both data and binary_data_size"),
        (
            {"tensor": {"data": None, "parameters": {"binary_data_size": 255}}},
            InvalidRequest,
            "binary_data_size is 255",
        ),
        ({"tensor": {"data": None, "parameters": {"binary_data_size": -1}}}, InvalidRequest, "binary_data_size"),
        ({"tensor": {"data": None, "parameters": {"binary_data_size": True}}}, InvalidRequest, "binary_data_size"),
        ({"tensor": {"parameters": {"shared_memory_region": "r"}}}, NotSupported, "shared memory"),
        ({"outputs": [{"name": "nope"}]}, InvalidRequest, "unknown output"),
        ({"outputs": [{"name": "logits"}, {"name": "logits"}]}, InvalidRequest, "named twice"),
        ({"outputs": [{"name": "logits", "parameters": {"classification": 0}}]}, InvalidRequest, "classification"),
        ({"outputs": [{"name": "logits", "parameters": {"binary_data": "yes"}}]}, InvalidRequest, "binary_data"),
        ({"parameters": {"hardcase_x": 1}}, InvalidRequest, "reserved"),
        ({"parameters": {"timeout": -5}}, InvalidRequest, "timeout"),
        ({"parameters": {"priority": "high"}}, InvalidRequest, "priority"),
        ({"parameters": {"x": [1]}}, InvalidRequest, "parameters"),
        ({"id": "x" * 129}, InvalidRequest, "id"),
        ({"id": 7}, InvalidRequest, "id"),
    ],
)
def test_a_wrong_field_is_named(
    digits: Signature, change: dict[str, Any], error: type[HardcaseError], names: str
) -> None:
    with pytest.raises(error) as caught:
        parser_for(digits).parse(json.dumps(request(**change)).encode(), None)
    assert names in caught.value.message


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'{"inputs":[]}', b"\xff\xfe", b'{"inputs":' + b"[" * 10_000 + b"]" * 10_000 + b"}"],
)
def test_what_is_not_a_request_is_refused(digits: Signature, text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parser_for(digits).parse(text, None)


def test_nan_and_infinity_tokens_are_not_json(digits: Signature) -> None:
    text = json.dumps(request(tensor={"data": [float("nan")] + [0.0] * 63})).encode()
    assert b"NaN" in text
    with pytest.raises(InvalidRequest, match="JSON"):
        parser_for(digits).parse(text, None)


@pytest.mark.parametrize(
    "value", [b"-1", b"+5", b"007", b"1e2", b"", b" 5", b"0x10", b"99999999999999999999", b"100000"]
)
def test_a_header_length_that_is_not_canonical_or_too_long_is_refused(digits: Signature, value: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length"):
        parser_for(digits).parse(b"{}" + bytes(256), value)


def test_two_inputs_are_taken_by_name_in_any_order_binary_and_json_mixed(tmp_path: Path) -> None:
    signature = multi_input_package(tmp_path).manifest.signature
    a = np.random.default_rng(4).random((2, 3), dtype=np.float32)
    b = np.random.default_rng(5).integers(-9, 9, (2, 2, 2))
    first = {"name": "b", "shape": [2, 2, 2], "datatype": "INT64", "parameters": {"binary_data_size": 64}}
    second = {"name": "a", "shape": [2, 3], "datatype": "FP32", "data": a.tolist()}
    head = json.dumps({"inputs": [first, second]}).encode()
    parsed = parser_for(signature).parse(head + b.tobytes(), str(len(head)).encode())
    np.testing.assert_array_equal(values(parsed, 0), a)
    np.testing.assert_array_equal(values(parsed, 1, "<i8"), b)
    both = json.dumps({"inputs": [first, {**second, "data": None, "parameters": {"binary_data_size": 24}}]})
    both = both.replace('"data": null, ', "")
    parsed = parser_for(signature).parse(both.encode() + b.tobytes() + a.tobytes(), str(len(both)).encode())
    np.testing.assert_array_equal(values(parsed, 0), a)
    np.testing.assert_array_equal(values(parsed, 1, "<i8"), b)


def test_batch_sizes_must_agree_and_inputs_must_be_there_once(tmp_path: Path) -> None:
    signature = multi_input_package(tmp_path).manifest.signature
    a = {"name": "a", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    b = {"name": "b", "shape": [2, 2, 2], "datatype": "INT64", "data": list(range(8))}
    for inputs, text in (([a, b], "batch sizes differ"), ([a], "'b' is missing"), ([a, a, b], "given twice")):
        with pytest.raises(InvalidRequest, match=text):
            parser_for(signature).parse(json.dumps({"inputs": inputs}).encode(), None)


def test_bytes_lengths_are_checked_against_the_data(tmp_path: Path) -> None:
    signature = echo_package(tmp_path).manifest.signature
    good = b"\x03\x00\x00\x00abc"
    cases = [
        (good, None),
        (b"\x09\x00\x00\x00abc", "length 9"),
        (good + b"\x00", "left over"),
        (b"\xff\xff\xff\xff", "4294967295"),
    ]
    for data, text in cases:
        tensor = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
        head = json.dumps({"inputs": [tensor]}).encode()
        if text is None:
            parsed = parser_for(signature).parse(head + data, str(len(head)).encode())
            assert parsed.buffers[0].tolist() == [[b"abc"]]
        else:
            with pytest.raises(InvalidRequest, match=text):
                parser_for(signature).parse(head + data, str(len(head)).encode())


def test_bool_bytes_other_than_zero_and_one_are_refused(tmp_path: Path) -> None:
    signature = all_dtypes_package(tmp_path).manifest.signature
    spec = next(s for s in signature.inputs if s.datatype == "BOOL")
    one = Signature(inputs=(spec,), outputs=signature.outputs)
    tensor = {"name": spec.name, "shape": [1, 2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}}
    head = json.dumps({"inputs": [tensor]}).encode()
    parser = parser_for(one)
    for _ in range(2):
        assert parser.parse(head + b"\x00\x01", str(len(head)).encode()).plan.rows == 1
        with pytest.raises(InvalidRequest, match="BOOL"):
            parser.parse(head + b"\x00\x02", str(len(head)).encode())


def test_the_raw_form_deduces_one_variable_dimension(tmp_path: Path) -> None:
    variable = parser_for(variable_length_package(tmp_path).manifest.signature)
    x = np.random.default_rng(6).random(7, dtype=np.float32)
    parsed = variable.parse(x.tobytes(), b"0")
    assert parsed.plan.shapes == ((1, 7),)
    np.testing.assert_array_equal(values(parsed), x[None])
    for bad in (b"", b"abc"):
        with pytest.raises(InvalidRequest, match="raw binary request"):
            variable.parse(bad, b"0")
    fixed = parser_for(unbatched_package(tmp_path).manifest.signature)
    assert fixed.parse(bytes(12), b"0").plan.shapes == ((3,),)
    with pytest.raises(InvalidRequest, match="needs 12"):
        fixed.parse(bytes(13), b"0")
    with pytest.raises(InvalidRequest, match="2 inputs"):
        parser_for(multi_input_package(tmp_path).manifest.signature).parse(bytes(12), b"0")


def test_requests_of_different_shape_or_priority_do_not_share_a_batch(tmp_path: Path) -> None:
    parser = parser_for(variable_length_package(tmp_path).manifest.signature)

    def queue(width: int, **parameters: int) -> Any:
        tensor = {"name": "x", "shape": [1, width], "datatype": "FP32", "data": [0.0] * width}
        return parser.parse(json.dumps({"inputs": [tensor], "parameters": parameters}).encode(), None).plan.queue

    assert queue(3) == queue(3)
    assert queue(3) != queue(4)
    assert queue(3, priority=1) < queue(3) < queue(3, priority=3)
