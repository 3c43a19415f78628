"""Inference requests in every form, against ONNX Runtime on the same files."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
import scipy.special

from export.contracts.datatypes import Datatype
from tests.conformance.conftest import Models
from tests.support import wire
from tests.support.packages import random_tensor
from tests.support.server import Server, infer_path
from tests.support.wire import Tensor

NUMERIC = [d for d in Datatype if d is not Datatype.BF16]


def digits(rng: np.random.Generator, rows: int = 3) -> Tensor:
    return Tensor(name="x", datatype=Datatype.FP32, array=rng.random((rows, 1, 8, 8), dtype=np.float32))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("binary_output", [True, False], ids=["binary out", "JSON out"])
@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_numbers_are_those_of_onnx_runtime(
    server: Server, models: Models, rng: np.random.Generator, binary: bool, binary_output: bool, rows: int
) -> None:
    x = digits(rng, rows)
    answer = server.infer("digits", [x], binary=binary, parameters={"binary_data_output": binary_output})
    assert list(answer.tensors) == ["logits"]
    np.testing.assert_allclose(answer["logits"], models.run("digits", {"x": x.array})["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "nested"])
def test_json_data_may_be_flat_or_nested(server: Server, models: Models, rng: np.random.Generator, flat: bool) -> None:
    x = digits(rng)
    answer = server.infer("digits", [x], binary=False, flat=flat)
    np.testing.assert_allclose(answer["logits"], models.run("digits", {"x": x.array})["logits"], rtol=1e-5, atol=1e-5)


def test_a_request_with_more_rows_than_the_largest_batch_is_answered_whole(
    server: Server, models: Models, rng: np.random.Generator
) -> None:
    x = digits(rng, 200)  # the package's largest batch is 64
    answer = server.infer("digits", [x], parameters={"binary_data_output": True})
    np.testing.assert_allclose(answer["logits"], models.run("digits", {"x": x.array})["logits"], rtol=1e-5, atol=1e-5)


def test_an_embedding_comes_only_when_it_is_named(server: Server, models: Models, rng: np.random.Generator) -> None:
    x = digits(rng)
    truth = models.run("digits", {"x": x.array})
    both = server.infer("digits", [x], outputs=[{"name": "embedding"}, {"name": "logits"}])
    assert list(both.tensors) == ["embedding", "logits"]
    np.testing.assert_allclose(both["embedding"], truth["embedding"], rtol=1e-5, atol=1e-5)
    one = server.infer("digits", [x], outputs=[{"name": "embedding", "parameters": {"binary_data": True}}])
    assert list(one.tensors) == ["embedding"]


def test_outputs_may_mix_binary_and_json(server: Server, models: Models, rng: np.random.Generator) -> None:
    x = digits(rng)
    truth = models.run("digits", {"x": x.array})
    for names in (("embedding", "logits"), ("logits", "embedding")):
        for first, second in ((True, False), (False, True)):
            outputs = [
                {"name": names[0], "parameters": {"binary_data": first}},
                {"name": names[1], "parameters": {"binary_data": second}},
            ]
            answer = server.infer("digits", [x], outputs=outputs)
            for name in names:
                np.testing.assert_allclose(answer[name], truth[name], rtol=1e-5, atol=1e-5)


def test_binary_data_of_an_output_overrules_the_request(server: Server, rng: np.random.Generator) -> None:
    headers, body = wire.request(
        [digits(rng)],
        outputs=[{"name": "logits", "parameters": {"binary_data": False}}, {"name": "embedding"}],
        parameters={"binary_data_output": True},
    )
    response = server.client.post(infer_path("digits"), content=body, headers=headers)
    head = json.loads(response.content[: int(response.headers[wire.HEADER])])
    assert [("data" in o, "parameters" in o) for o in head["outputs"]] == [(True, False), (False, True)]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("rows", [1, 5])
def test_every_datatype_comes_back_as_it_went(
    server: Server, rng: np.random.Generator, binary: bool, rows: int
) -> None:
    tensors = [Tensor(name=f"in_{d}", datatype=d, array=random_tensor(d, (rows, 2), seed=rows)) for d in NUMERIC]
    if not binary:  # JSON text cannot carry every byte string
        words = np.array([["grüße", ""], ['\u2028"\\', "a\tb"]], dtype=object)[np.arange(rows) % 2]
        encoded = np.frompyfunc(str.encode, 1, 1)(words).astype(object)
        tensors = [
            Tensor(name=t.name, datatype=t.datatype, array=encoded) if t.datatype == "BYTES" else t for t in tensors
        ]
    rng.shuffle(tensors)  # the order of the request is the client's
    answer = server.infer("dtypes", tensors, binary=binary, parameters={"binary_data_output": binary})
    assert list(answer.tensors) == [f"out_{d}" for d in NUMERIC]
    for tensor in tensors:
        out = answer.tensors[tensor.name.replace("in_", "out_")]
        assert out.datatype is tensor.datatype
        np.testing.assert_array_equal(out.array, tensor.array)


def test_inputs_may_mix_binary_and_json(server: Server, rng: np.random.Generator) -> None:
    tensors = [Tensor(name=f"in_{d}", datatype=d, array=random_tensor(d, (2, 2))) for d in NUMERIC]
    tensors = [t for t in tensors if t.datatype is not Datatype.BYTES]
    words: Any = np.array([[b"a", b"bc"], [b"", b"d"]], dtype=object)
    tensors.append(Tensor(name="in_BYTES", datatype=Datatype.BYTES, array=words))
    for _ in range(4):
        rng.shuffle(tensors)
        chosen = [t.name for t in tensors if rng.random() < 0.5]
        answer = server.infer("dtypes", tensors, binary=chosen)
        for tensor in tensors:
            np.testing.assert_array_equal(answer[tensor.name.replace("in_", "out_")], tensor.array)


def test_bf16_travels_binary_only(server: Server) -> None:
    x = Tensor(name="in_BF16", datatype=Datatype.BF16, array=random_tensor(Datatype.BF16, (4, 2)))
    answer = server.infer("bf16", [x], parameters={"binary_data_output": True})
    np.testing.assert_array_equal(answer["out_BF16"], x.array)
    headers, body = wire.request([x])
    status, text = server.refused("bf16", headers, body)  # JSON out is asked for by default
    assert (status, "out_BF16" in text, "binary_data" in text) == (400, True, True)


def test_two_inputs_of_different_rank_and_type(server: Server, models: Models, rng: np.random.Generator) -> None:
    inputs = {"a": rng.random((4, 3), dtype=np.float32), "b": rng.integers(-9, 9, (4, 2, 2))}
    tensors = [
        Tensor(name="a", datatype=Datatype.FP32, array=inputs["a"]),
        Tensor(name="b", datatype=Datatype.INT64, array=inputs["b"]),
    ]
    truth = models.run("multi", inputs)
    for order in (tensors, tensors[::-1]):
        for binary in (True, False, ["a"], ["b"]):
            answer = server.infer("multi", order, binary=binary, parameters={"binary_data_output": True})
            np.testing.assert_allclose(answer["total"], truth["total"])
            np.testing.assert_array_equal(answer["first"], truth["first"])


def test_variable_lengths_do_not_mix(server: Server, rng: np.random.Generator) -> None:
    """Requests of different lengths at the same time: each row sum must be its own."""
    arrays = [rng.random((1 + i % 3, 1 + i % 7), dtype=np.float32) for i in range(60)]
    failures: list[Any] = []

    def send(part: list[np.ndarray[Any, Any]]) -> None:
        for array in part:
            answer = server.infer("varlen", [Tensor(name="x", datatype=Datatype.FP32, array=array)])
            if not np.allclose(answer["sum"], array.sum(axis=1), rtol=1e-5):
                failures.append((array, answer["sum"]))

    threads = [threading.Thread(target=send, args=(arrays[i::6],)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_zero_length_row_is_a_row(server: Server) -> None:
    x = Tensor(name="x", datatype=Datatype.FP32, array=np.zeros((3, 0), np.float32))
    for binary in (True, False):
        np.testing.assert_array_equal(server.infer("varlen", [x], binary=binary)["sum"], np.zeros(3, np.float32))


def test_a_model_without_a_batch_axis(server: Server) -> None:
    x = Tensor(name="x", datatype=Datatype.FP32, array=np.array([1.5, -2.0, 3.25], np.float32))
    np.testing.assert_array_equal(server.infer("unbatched", [x])["y"], 2 * x.array)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_bytes_come_back_byte_by_byte(server: Server, binary: bool) -> None:
    words = np.array([[b""], [b"a"], ["grüße ☃".encode()], [b"x" * 100_000]], dtype=object)
    answer = server.infer("echo", [Tensor(name="text", datatype=Datatype.BYTES, array=words)], binary=binary)
    np.testing.assert_array_equal(answer["echo"], words)


def test_torchscript_answers_as_onnx_does(server: Server, models: Models, rng: np.random.Generator) -> None:
    x = digits(rng)
    answer = server.infer("script", [x])
    np.testing.assert_allclose(answer["logits"], models.run("digits", {"x": x.array})["logits"], rtol=1e-4, atol=1e-5)


def test_a_version_in_the_path_answers_when_it_is_loaded(
    server: Server, models: Models, rng: np.random.Generator
) -> None:
    x = digits(rng)
    assert server.infer("digits", [x], version="1").version == "1"
    headers, body = wire.request([x])
    response = server.client.post(infer_path("digits", "2"), content=body, headers=headers)
    assert response.status_code == 503  # registered, not in the plan
    assert "version '2'" in response.json()["error"]
    assert int(response.headers["retry-after"]) >= 1


# ---- the raw form


def test_raw_form_of_a_fixed_shape(server: Server, models: Models, rng: np.random.Generator) -> None:
    x = digits(rng, 1)
    response = server.client.post(infer_path("digits"), content=wire.to_binary(x), headers={wire.HEADER: "0"})
    assert response.status_code == 200, response.text
    answer = wire.answer(response.headers, response.content)
    np.testing.assert_allclose(answer["logits"], models.run("digits", {"x": x.array})["logits"], rtol=1e-5, atol=1e-5)
    assert answer.id


def test_raw_form_finds_the_variable_dimension(server: Server, rng: np.random.Generator) -> None:
    x = rng.random(11, dtype=np.float32)
    response = server.client.post(infer_path("varlen"), content=x.tobytes(), headers={wire.HEADER: "0"})
    np.testing.assert_allclose(wire.answer(response.headers, response.content)["sum"], [x.sum()], rtol=1e-6)


def test_raw_form_of_bytes_is_one_element(server: Server) -> None:
    response = server.client.post(infer_path("echo"), content=b"\x00any \xc3\xbc", headers={wire.HEADER: "0"})
    answer = wire.answer(response.headers, response.content)
    np.testing.assert_array_equal(answer["echo"], np.array([[b"\x00any \xc3\xbc"]], dtype=object))


# ---- ids and parameters


def test_ids_are_echoed_and_made(server: Server, rng: np.random.Generator) -> None:
    for request_id in ("a", 'ü"\\\n☃', "x" * 128):
        assert server.infer("digits", [digits(rng)], id=request_id).id == request_id
    made = {server.infer("digits", [digits(rng)]).id for _ in range(50)}
    assert len(made) == 50
    assert all(made)


def test_unknown_parameters_are_let_through(server: Server, rng: np.random.Generator) -> None:
    server.infer("digits", [digits(rng)], parameters={"tenant": "a", "retry": 2, "weight": 0.5, "dry": False})


def test_priority_and_timeout_are_taken(server: Server, rng: np.random.Generator) -> None:
    server.infer("digits", [digits(rng)], parameters={"priority": 1, "timeout": 5_000_000})


def test_answers_name_model_and_version(server: Server, rng: np.random.Generator) -> None:
    answer = server.infer("digits", [digits(rng)])
    assert (answer.model, answer.version) == ("digits", "1")


# ---- classification


def test_classification_lists_the_best_classes(server: Server, rng: np.random.Generator) -> None:
    x = Tensor(name="x", datatype=Datatype.FP32, array=rng.random((4, 4), dtype=np.float32))
    scores = server.infer("proba", [x])["probabilities"]
    for binary in (True, False):
        outputs = [{"name": "probabilities", "parameters": {"classification": 2, "binary_data": binary}}]
        answer = server.infer("proba", [x], outputs=outputs)
        assert answer.tensors["probabilities"].datatype is Datatype.BYTES
        for row, entries in zip(scores, answer["probabilities"], strict=True):
            order = np.argsort(-row)[:2]
            for index, entry in zip(order, entries, strict=True):
                value, position, label = entry.decode().split(":")
                assert (int(position), label) == (index, ("ant", "bee", "cat")[index])
                assert float(value) == pytest.approx(row[index], abs=1e-5)


def test_softmax_makes_probabilities_and_classification_lists_them(server: Server, rng: np.random.Generator) -> None:
    x = digits(rng)
    logits = server.infer("digits", [x])["logits"]
    truth = scipy.special.softmax(logits.astype(np.float64), axis=1)
    for binary in (True, False):
        asked: dict[str, Any] = {"softmax": True, "binary_data": binary}
        answer = server.infer("digits", [x], outputs=[{"name": "logits", "parameters": asked}])
        assert answer.tensors["logits"].datatype is Datatype.FP32
        np.testing.assert_allclose(answer["logits"], truth, rtol=1e-5, atol=1e-7)
        best = server.infer("digits", [x], outputs=[{"name": "logits", "parameters": asked | {"classification": 1}}])
        for row, (entry,) in zip(truth, best["logits"], strict=True):
            value, index, _ = entry.decode().split(":")
            assert int(index) == row.argmax()
            assert float(value) == pytest.approx(row.max(), abs=1e-5)


def test_softmax_of_what_is_no_class_score_is_refused(server: Server, rng: np.random.Generator) -> None:
    proba = Tensor(name="x", datatype=Datatype.FP32, array=rng.random((4, 4), dtype=np.float32))
    multi = [
        Tensor(name="a", datatype=Datatype.FP32, array=rng.random((1, 3), dtype=np.float32)),
        Tensor(name="b", datatype=Datatype.INT64, array=np.zeros((1, 2, 2), np.int64)),
    ]
    for model, tensors, output, parameter, said in [
        ("proba", [proba], "probabilities", True, "role is probabilities"),
        ("digits", [digits(rng)], "embedding", True, "role is embedding"),
        ("multi", multi, "first", True, "this one is INT64"),
        ("multi", multi, "total", True, "class axis"),
        ("digits", [digits(rng)], "logits", 1, "must be true or false"),
    ]:
        wanted = [{"name": output, "parameters": {"softmax": parameter}}]
        status, text = server.refused(model, *wire.request(tensors, outputs=wanted))
        assert (status, said in text, f"'{output}'" in text) == (400, True, True), text


# ---- numbers that JSON has not


def test_nan_in_an_answer_is_an_error_in_json_and_travels_in_binary(server: Server) -> None:
    x = Tensor(name="x", datatype=Datatype.FP32, array=np.array([[np.inf, -np.inf]], np.float32))
    headers, body = wire.request([x])
    status, text = server.refused("varlen", headers, body)
    assert (status, "'sum'" in text, "binary_data" in text) == (500, True, True)
    answer = server.infer("varlen", [x], parameters={"binary_data_output": True})
    assert np.isnan(answer["sum"]).all()


def test_one_nan_does_not_touch_the_requests_beside_it(server: Server, rng: np.random.Generator) -> None:
    good = Tensor(name="x", datatype=Datatype.FP32, array=rng.random((1, 2), dtype=np.float32))
    bad = Tensor(name="x", datatype=Datatype.FP32, array=np.array([[np.nan, 1]], np.float32))
    results: list[bool] = []

    def send_good() -> None:
        for _ in range(40):
            results.append(bool(np.allclose(server.infer("varlen", [good])["sum"], good.array.sum(axis=1))))

    def send_bad() -> None:
        headers, body = wire.request([bad])
        for _ in range(40):
            results.append(server.refused("varlen", headers, body)[0] == 500)

    threads = [threading.Thread(target=t) for t in (send_good, send_bad, send_good)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 120
