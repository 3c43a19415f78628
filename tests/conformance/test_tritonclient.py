"""The unmodified `tritonclient.http`, synchronous and asyncio, as the judge of the REST surface; and `curl`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.conformance.conftest import Models
from tests.support.server import Server

# gevent, below the synchronous client, is imported after ssl by pytest's plugins.
pytestmark = pytest.mark.filterwarnings("ignore:.*Monkey-patching ssl.*")


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.netloc) as made:
        yield made


def as_input(name: str, array: np.ndarray, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("request_compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_compression", [None, "gzip", "deflate"])
def test_sync_inference(
    client: triton.InferenceServerClient,
    models: Models,
    rng: np.random.Generator,
    binary: bool,
    request_compression: str | None,
    response_compression: str | None,
) -> None:
    x = rng.random((30, 1, 8, 8), dtype=np.float32)
    result = client.infer(
        "digits",
        [as_input("x", x, binary)],
        outputs=[triton.InferRequestedOutput("logits", binary_data=binary), triton.InferRequestedOutput("embedding")],
        request_id="r1",
        request_compression_algorithm=request_compression,
        response_compression_algorithm=response_compression,
    )
    truth = models.run("digits", {"x": x})
    for name in ("logits", "embedding"):
        np.testing.assert_allclose(result.as_numpy(name), truth[name], rtol=1e-5, atol=1e-5)
    assert result.get_response()["id"] == "r1"


def test_the_default_outputs_are_binary(client: triton.InferenceServerClient, rng: np.random.Generator) -> None:
    result = client.infer("digits", [as_input("x", rng.random((2, 1, 8, 8), dtype=np.float32))])
    assert result.as_numpy("logits").shape == (2, 10)
    assert result.as_numpy("embedding") is None
    assert result.get_output("logits")["parameters"] == {"binary_data_size": 80}


def test_async_infer_of_the_sync_client(client: triton.InferenceServerClient, rng: np.random.Generator) -> None:
    arrays = [rng.random((1, 5), dtype=np.float32) for _ in range(20)]
    pending = [client.async_infer("varlen", [as_input("x", a)]) for a in arrays]
    for array, request in zip(arrays, pending, strict=True):
        np.testing.assert_allclose(request.get_result().as_numpy("sum"), array.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_strings(client: triton.InferenceServerClient, binary: bool) -> None:
    words = np.array([["grüße".encode()], [b""], [b"plain"]], dtype=np.object_)
    outputs = [triton.InferRequestedOutput("echo", binary_data=binary)]
    result = client.infer("echo", [as_input("text", words, binary)], outputs=outputs)
    out = result.as_numpy("echo")
    assert [v if isinstance(v, bytes) else v.encode() for v in out.ravel()] == words.ravel().tolist()


def test_classification(client: triton.InferenceServerClient, rng: np.random.Generator) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=3)]
    result = client.infer("proba", [as_input("x", rng.random((2, 4), dtype=np.float32))], outputs=outputs)
    labels = result.as_numpy("probabilities")
    assert labels.shape == (2, 3)
    assert {entry.decode().rpartition(":")[2] for entry in labels[0]} == {"ant", "bee", "cat"}


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "2")
    assert not client.is_model_ready("nowhere")
    assert client.get_server_metadata()["name"] == "hardcase"
    metadata = client.get_model_metadata("digits")
    assert metadata == {
        "name": "digits",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "embedding", "datatype": "FP32", "shape": [-1, 64]},
        ],
    }
    assert client.get_model_metadata("script", "1")["platform"] == "pytorch_torchscript"
    config = client.get_model_config("digits")
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (64, [1, 8, 8])


def test_bf16_is_computed_and_answered_as_bf16(
    client: triton.InferenceServerClient, models: Models, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(5, 16)).astype(ml_dtypes.bfloat16)
    result = client.infer("bf16script", [as_input("x", x)], outputs=[triton.InferRequestedOutput("logits")])
    logits = result.as_numpy("logits")
    assert (logits.dtype, logits.shape) == (ml_dtypes.bfloat16, (5, 4))
    np.testing.assert_allclose(logits.astype(np.float32), models.bf16(x), rtol=0.03, atol=0.03)
    assert client.get_model_metadata("bf16script")["inputs"][0]["datatype"] == "BF16"
    with pytest.raises(InferenceServerException, match="BF16 has no JSON form"):
        client.infer(
            "bf16script", [as_input("x", x)], outputs=[triton.InferRequestedOutput("logits", binary_data=False)]
        )
    with pytest.raises(InferenceServerException, match="FP32"):
        client.infer("bf16script", [as_input("x", x.astype(np.float32))])


def test_classes_of_bf16_scores(client: triton.InferenceServerClient, models: Models, rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 16)).astype(ml_dtypes.bfloat16)
    wanted = [triton.InferRequestedOutput("logits", class_count=1)]
    texts = client.infer("bf16script", [as_input("x", x)], outputs=wanted).as_numpy("logits").ravel()
    truth = models.bf16(x)
    for text, row in zip(texts, truth, strict=True):
        value, index, label = text.decode().split(":")
        assert row[int(index)] == pytest.approx(row.max(), abs=0.03, rel=0.03)
        assert (float(value), label) == (pytest.approx(row.max(), abs=0.03, rel=0.03), "abcd"[int(index)])


def test_statistics_count_what_was_asked(client: triton.InferenceServerClient, rng: np.random.Generator) -> None:
    def counts() -> tuple[int, int, int, int]:
        (entry,) = client.get_inference_statistics("unbatched", "1")["model_stats"]
        stats = entry["inference_stats"]
        return entry["inference_count"], stats["success"]["count"], stats["fail"]["count"], stats["queue"]["ns"]

    before = counts()
    for _ in range(5):
        client.infer("unbatched", [as_input("x", rng.random(3, dtype=np.float32))])
    with pytest.raises(InferenceServerException):
        client.infer("unbatched", [as_input("x", rng.random(4, dtype=np.float32))])
    after = counts()
    assert [b - a for a, b in zip(before[:3], after[:3], strict=True)] == [5, 5, 1]
    assert after[3] > before[3]
    everything = client.get_inference_statistics()["model_stats"]
    assert {"digits", "echo", "unbatched"} <= {entry["name"] for entry in everything}


def test_batches_are_counted_by_their_size(client: triton.InferenceServerClient, rng: np.random.Generator) -> None:
    client.infer("digits", [as_input("x", rng.random((13, 1, 8, 8), dtype=np.float32))])
    versions = client.get_inference_statistics("digits")["model_stats"]  # another one may still be on its way out
    (entry,) = [v for v in versions if v["version"] == "1"]
    (thirteen,) = [b for b in entry["batch_stats"] if b["batch_size"] == 13]
    assert thirteen["compute_infer"]["count"] >= 1
    assert thirteen["compute_infer"]["ns"] > 0


def test_repository_load_answer_unload(
    client: triton.InferenceServerClient, server: Server, models: Models, rng: np.random.Generator
) -> None:
    x = rng.random((2, 1, 8, 8), dtype=np.float32)
    response = server.post("/v2/repository/models/digits/load", {"parameters": {"hardcase_version": "2"}})
    assert response.status_code == 200, response.text
    index = {(e["name"], e["version"]): e for e in client.get_model_repository_index()}
    assert index["digits", "2"]["state"] == "READY"
    result = client.infer("digits", [as_input("x", x)], model_version="2")
    truth = models.run("digits", {"x": x}, "2")["logits"]
    np.testing.assert_allclose(result.as_numpy("logits"), truth, rtol=1e-5, atol=1e-5)
    assert client.get_model_metadata("digits")["versions"] == ["1", "2"]
    assert client.infer("digits", [as_input("x", x)]).get_response()["model_version"] == "1"
    response = server.post("/v2/repository/models/digits/unload", {"parameters": {"hardcase_version": "2"}})
    assert response.status_code == 200, response.text
    assert not client.is_model_ready("digits", "2")
    client.load_model("digits")  # the plan's version: loaded already


def test_the_plans_version_cannot_be_unloaded(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="plan") as raised:
        client.unload_model("digits")
    assert raised.value.status() == "409"
    assert client.is_model_ready("digits")


@pytest.mark.parametrize("how", [{"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b""}}])
def test_nothing_but_registered_versions_can_be_loaded(server: Server, how: dict[str, object]) -> None:
    parameters = {name: "e30=" if name == "files" else value for name, value in how.items()}
    if "files" in parameters:
        parameters["file:1/model.onnx"] = parameters.pop("files")
    response = server.post("/v2/repository/models/digits/load", {"parameters": parameters})
    assert response.status_code == 501
    assert "registry" in response.json()["error"]


def test_errors_reach_the_client_with_status_and_text(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.infer("nowhere", [as_input("x", np.zeros((1, 1), np.float32))])
    assert raised.value.status() == "404"
    with pytest.raises(InferenceServerException, match=r"shape\[2\] is 9") as raised:
        client.infer("digits", [as_input("x", np.zeros((1, 1, 9, 8), np.float32))])
    assert raised.value.status() == "400"


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
async def test_asyncio_client(
    server: Server, models: Models, rng: np.random.Generator, compression: str | None
) -> None:
    x = rng.random((30, 1, 8, 8), dtype=np.float32)
    truth = models.run("digits", {"x": x})["logits"]
    async with triton_aio.InferenceServerClient(server.netloc) as client:
        assert await client.is_server_live()
        assert await client.is_model_ready("digits")
        for binary in (True, False):
            made = triton_aio.InferInput("x", list(x.shape), "FP32")
            made.set_data_from_numpy(x, binary_data=binary)
            result = await client.infer(
                "digits",
                [made],
                outputs=[triton_aio.InferRequestedOutput("logits", binary_data=binary)],
                request_compression_algorithm=compression,
                response_compression_algorithm=compression,
            )
            np.testing.assert_allclose(result.as_numpy("logits"), truth, rtol=1e-5, atol=1e-5)
        assert (await client.get_inference_statistics("digits"))["model_stats"]
        assert await client.get_model_repository_index()
        assert (await client.get_model_config("digits"))["name"] == "digits"


CURL = shutil.which("curl")


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl(server: Server, models: Models, tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.random((1, 1, 8, 8), dtype=np.float32)
    truth = models.run("digits", {"x": x})["logits"]

    def curl(*arguments: str) -> str:
        command = [str(CURL), "--silent", "--show-error", "--fail-with-body", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    assert json.loads(curl(f"{server.url}/v2/health/ready")) == {"ready": True}
    body = tmp_path / "request.json"
    body.write_text(
        json.dumps({"inputs": [{"name": "x", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": x.tolist()}]})
    )
    url = f"{server.url}/v2/models/digits/infer"
    for extra in ((), ("--compressed",), ("-H", "Expect: 100-continue"), ("-H", "Transfer-Encoding: chunked"), ("-0",)):
        answer = json.loads(curl("--data-binary", f"@{body}", *extra, url))
        np.testing.assert_allclose(answer["outputs"][0]["data"], truth.ravel(), rtol=1e-5, atol=1e-5)
    raw = tmp_path / "x.bin"
    raw.write_bytes(x.tobytes())
    curl("--data-binary", f"@{raw}", "-H", "Inference-Header-Content-Length: 0", "-o", str(tmp_path / "out"), url)
    assert (tmp_path / "out").read_bytes()[-40:] == np.float32(truth).tobytes()
