"""The unmodified `tritonclient.grpc`, synchronous, asyncio and streaming, as the judge of the gRPC surface."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import scipy.special
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.conformance.conftest import Models
from tests.support.server import Server

TRANSPORTS = ("fast", "asgi", "haproxy")


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc_netloc) as made:
        yield made


def as_input(name: str, array: np.ndarray) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def test_health_and_metadata(client: triton.InferenceServerClient):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "99")
    assert not client.is_model_ready("nothing")
    server = client.get_server_metadata(as_json=True)
    assert server["name"] == "hardcase"
    assert {"statistics", "schedule_policy", "classification"} <= set(server["extensions"])
    model = client.get_model_metadata("digits", as_json=True)
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "1", "8", "8"]}]
    assert [o["name"] for o in model["outputs"]] == ["logits", "embedding"]
    assert "1" in model["versions"]


def test_config_statistics_and_index(client: triton.InferenceServerClient, rng: np.random.Generator):
    client.infer("digits", [as_input("x", rng.random((3, 1, 8, 8), dtype=np.float32))])
    config = client.get_model_config("digits").config
    assert config.max_batch_size == 64
    assert config.input[0].dims == [1, 8, 8]
    assert config.dynamic_batching.default_queue_policy.allow_timeout_override
    (stats,) = client.get_inference_statistics("digits", "1").model_stats
    assert stats.inference_stats.success.count >= 1
    assert stats.inference_count >= 3
    assert stats.batch_stats[0].compute_infer.ns > 0
    everything = {s.name for s in client.get_inference_statistics().model_stats}
    assert {"digits", "echo", "varlen"} <= everything
    models = {(m.name, m.version, m.state) for m in client.get_model_repository_index().models}
    assert ("digits", "1", "READY") in models


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_inference(
    client: triton.InferenceServerClient, models: Models, rng: np.random.Generator, compression: str | None
):
    x = rng.random((30, 1, 8, 8), dtype=np.float32)
    for _ in range(2):  # the second time the head is known
        result = client.infer(
            "digits",
            [as_input("x", x)],
            outputs=[triton.InferRequestedOutput("logits"), triton.InferRequestedOutput("embedding")],
            request_id="r1",
            compression_algorithm=compression,
        )
        truth = models.run("digits", {"x": x})
        for name in ("logits", "embedding"):
            np.testing.assert_allclose(result.as_numpy(name), truth[name], rtol=1e-5, atol=1e-5)
        answer = result.get_response()
        assert (answer.id, answer.model_name, answer.model_version) == ("r1", "digits", "1")


def test_without_an_id_the_server_makes_one(client: triton.InferenceServerClient, rng: np.random.Generator):
    x = rng.random((1, 1, 8, 8), dtype=np.float32)
    ids = {client.infer("digits", [as_input("x", x)]).get_response().id for _ in range(3)}
    assert len(ids) == 3
    assert "" not in ids


def test_default_outputs_leave_the_embedding_out(client: triton.InferenceServerClient, rng: np.random.Generator):
    result = client.infer("digits", [as_input("x", rng.random((2, 1, 8, 8), dtype=np.float32))])
    assert result.as_numpy("logits").shape == (2, 10)
    assert result.as_numpy("embedding") is None


def test_every_datatype(client: triton.InferenceServerClient, models: Models, rng: np.random.Generator):
    metadata = client.get_model_metadata("dtypes")
    inputs, given = [], {}
    for spec in metadata.inputs:
        if spec.datatype == "BYTES":
            array = np.array([[b"a", "ü".encode()], [b"", b"xyz"]], dtype=np.object_)
        elif spec.datatype == "BOOL":
            array = np.array([[True, False], [False, True]])
        else:
            kind = {"FP": "float", "IN": "int", "UI": "uint"}[spec.datatype[:2]]
            bits = spec.datatype.removeprefix("FP").removeprefix("U").removeprefix("INT")
            array = rng.integers(0, 100, (2, 2)).astype(f"{kind}{bits}")
        given[spec.name] = array
        inputs.append(as_input(spec.name, array))
    result = client.infer("dtypes", inputs)
    for name, array in given.items():
        np.testing.assert_array_equal(result.as_numpy(name.replace("in_", "out_")), array)


def test_bf16(client: triton.InferenceServerClient):
    x = np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16)
    wanted = triton.InferInput("in_BF16", [1, 2], "BF16")
    wanted.set_data_from_numpy(x)
    answer = client.infer("bf16", [wanted]).get_response()
    assert answer.raw_output_contents[0] == x.tobytes()


def test_bf16_is_computed_and_answered_as_bf16(
    client: triton.InferenceServerClient, models: Models, rng: np.random.Generator
):
    x = rng.normal(size=(5, 16)).astype(ml_dtypes.bfloat16)
    for _ in range(2):  # the second time the head is known
        logits = client.infer("bf16script", [as_input("x", x)]).as_numpy("logits")
        assert (logits.dtype, logits.shape) == (ml_dtypes.bfloat16, (5, 4))
        np.testing.assert_allclose(logits.astype(np.float32), models.bf16(x), rtol=0.03, atol=0.03)


def test_softmax_and_classes_of_bf16_scores(
    server: Server, client: triton.InferenceServerClient, models: Models, rng: np.random.Generator
):
    x = rng.normal(size=(3, 16)).astype(ml_dtypes.bfloat16)
    truth = scipy.special.softmax(models.bf16(x), axis=1)
    message = triton.service_pb2.ModelInferRequest(model_name="bf16script")
    message.inputs.add(name="x", datatype="BF16", shape=[3, 16])
    message.raw_input_contents.append(x.tobytes())
    output = message.outputs.add(name="logits")
    output.parameters["softmax"].bool_param = True
    with grpc.insecure_channel(server.grpc_netloc) as channel:
        infer = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        answer = infer(message, timeout=10)
    assert answer.outputs[0].datatype == "BF16"
    p = np.frombuffer(answer.raw_output_contents[0], ml_dtypes.bfloat16).reshape(3, 4).astype(np.float32)
    np.testing.assert_allclose(p, truth, atol=0.02)
    wanted = [triton.InferRequestedOutput("logits", class_count=2)]
    texts = client.infer("bf16script", [as_input("x", x)], outputs=wanted).as_numpy("logits")
    assert [[float(t.split(b":")[0]) for t in row] for row in texts] == [
        pytest.approx(sorted(row)[:1:-1], abs=0.03, rel=0.03) for row in models.bf16(x)
    ]


def test_strings_and_several_inputs(client: triton.InferenceServerClient, models: Models, rng: np.random.Generator):
    words = np.array([["grüße".encode()], [b""], [b"plain"]], dtype=np.object_)
    np.testing.assert_array_equal(client.infer("echo", [as_input("text", words)]).as_numpy("echo"), words)
    a, b = rng.random((4, 3), dtype=np.float32), rng.integers(-9, 9, (4, 2, 2))
    truth = models.run("multi", {"a": a, "b": b})
    for inputs in ([as_input("a", a), as_input("b", b)], [as_input("b", b), as_input("a", a)]):
        result = client.infer("multi", inputs)
        for name, array in truth.items():
            np.testing.assert_allclose(result.as_numpy(name), array)


def test_variable_and_unbatched_shapes(client: triton.InferenceServerClient, rng: np.random.Generator):
    for width in (1, 7):
        x = rng.random((3, width), dtype=np.float32)
        np.testing.assert_allclose(client.infer("varlen", [as_input("x", x)]).as_numpy("sum"), x.sum(1), rtol=1e-5)
    x = rng.random(3, dtype=np.float32)
    np.testing.assert_allclose(client.infer("unbatched", [as_input("x", x)]).as_numpy("y"), 2 * x)


def test_classification(client: triton.InferenceServerClient, rng: np.random.Generator):
    x = rng.random((2, 1, 8, 8), dtype=np.float32)
    plain = client.infer("digits", [as_input("x", x)]).as_numpy("logits")
    result = client.infer("digits", [as_input("x", x)], outputs=[triton.InferRequestedOutput("logits", class_count=3)])
    classes = result.as_numpy("logits")
    assert classes.shape == (2, 3)
    for row in range(2):
        assert int(classes[row, 0].decode().split(":")[1]) == int(plain[row].argmax())


def test_versions_by_name(client: triton.InferenceServerClient, models: Models, rng: np.random.Generator):
    client.load_model("digits", config=None)
    x = rng.random((1, 1, 8, 8), dtype=np.float32)
    request: dict[str, Any] = {"parameters": {"hardcase_version": "2"}}
    stub = client._client_stub
    from tritonclient.grpc import service_pb2

    load = service_pb2.RepositoryModelLoadRequest(model_name="digits")
    load.parameters["hardcase_version"].string_param = request["parameters"]["hardcase_version"]
    stub.RepositoryModelLoad(load)
    result = client.infer("digits", [as_input("x", x)], model_version="2")
    assert result.get_response().model_version == "2"
    np.testing.assert_allclose(
        result.as_numpy("logits"), models.run("digits", {"x": x}, "2")["logits"], rtol=1e-5, atol=1e-5
    )
    unload = service_pb2.RepositoryModelUnloadRequest(model_name="digits")
    unload.parameters["hardcase_version"].string_param = "2"
    stub.RepositoryModelUnload(unload)


def test_priority_and_timeout_are_taken(client: triton.InferenceServerClient, rng: np.random.Generator):
    x = rng.random((1, 1, 8, 8), dtype=np.float32)
    assert client.infer("digits", [as_input("x", x)], priority=1, timeout=5_000_000).as_numpy("logits") is not None


@pytest.mark.parametrize(
    ("model", "array", "code", "text"),
    [
        ("nothing", np.zeros((1, 1, 8, 8), np.float32), "NOT_FOUND", "unknown model"),
        ("digits", np.zeros((1, 1, 8, 9), np.float32), "INVALID_ARGUMENT", "shape[3] is 9, the model takes 8"),
        ("digits", np.zeros((1, 8, 8), np.float32), "INVALID_ARGUMENT", "shape has 3 dimensions"),
        ("digits", np.zeros((1, 1, 8, 8), np.float64), "INVALID_ARGUMENT", "datatype is FP64, the model takes FP32"),
        ("digits", np.zeros((600, 1, 8, 8), np.float32), "INVALID_ARGUMENT", "600 rows, the limit is 512"),
    ],
)
def test_errors(client: triton.InferenceServerClient, model: str, array: np.ndarray, code: str, text: str):
    for _ in range(2):
        with pytest.raises(InferenceServerException, match=code) as caught:
            client.infer(model, [as_input("x", array)])
        assert text in caught.value.message()


def test_async_infer_of_the_sync_client(client: triton.InferenceServerClient, rng: np.random.Generator):
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    arrays = {str(n): rng.random((1, 5), dtype=np.float32) for n in range(40)}
    for name, array in arrays.items():
        client.async_infer(
            "varlen", [as_input("x", array)], lambda result, error: answers.put((result, error)), request_id=name
        )
    for _ in range(40):
        result, error = answers.get(timeout=20)
        assert error is None
        array = arrays.pop(result.get_response().id)
        np.testing.assert_allclose(result.as_numpy("sum"), array.sum(axis=1), rtol=1e-5)


def test_a_stream_keeps_the_order_and_survives_errors(client: triton.InferenceServerClient, rng: np.random.Generator):
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    arrays = [rng.random((1 + n % 3, 5), dtype=np.float32) for n in range(60)]
    for n, array in enumerate(arrays):
        client.async_stream_infer("nothing" if n % 10 == 7 else "varlen", [as_input("x", array)], request_id=str(n))
    for n, array in enumerate(arrays):
        result, error = answers.get(timeout=20)
        if n % 10 == 7:
            assert "unknown model" in str(error)
            continue
        assert error is None
        assert result.get_response().id == str(n)
        np.testing.assert_allclose(result.as_numpy("sum"), array.sum(axis=1), rtol=1e-5)
    client.stop_stream()


async def test_the_asyncio_client(server: Server, models: Models, rng: np.random.Generator):
    async with triton_aio.InferenceServerClient(server.grpc_netloc) as client:
        assert await client.is_server_ready()
        arrays = [rng.random((1 + n % 4, 1, 8, 8), dtype=np.float32) for n in range(64)]
        results = await asyncio.gather(*[client.infer("digits", [as_input("x", x)]) for x in arrays])
        for x, result in zip(arrays, results, strict=True):
            truth = models.run("digits", {"x": x})["logits"]
            np.testing.assert_allclose(result.as_numpy("logits"), truth, rtol=1e-5, atol=1e-5)

        async def requests() -> Any:
            for n, x in enumerate(arrays):
                yield {"model_name": "digits", "inputs": [as_input("x", x)], "request_id": str(n)}

        seen = []
        async for result, error in client.stream_infer(requests()):
            assert error is None
            seen.append(result.get_response().id)
        assert seen == [str(n) for n in range(64)]


def test_a_large_tensor(client: triton.InferenceServerClient, rng: np.random.Generator):
    x = rng.random((8, 100_000), dtype=np.float32)  # 3.2 MB: many frames and several flow control windows
    np.testing.assert_allclose(client.infer("varlen", [as_input("x", x)]).as_numpy("sum"), x.sum(1), rtol=1e-3)
    text = np.array([[rng.bytes(500_000).hex().encode()], [rng.bytes(750_000).hex().encode()]], dtype=np.object_)
    np.testing.assert_array_equal(client.infer("echo", [as_input("text", text)]).as_numpy("echo"), text)
