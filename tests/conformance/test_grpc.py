"""The gRPC surface itself: who may call what, health, typed contents, the same answers as over HTTP, and junk."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from serving.auth import hash_token
from serving.grpc.messages import HEALTH, REFLECTION, SERVICE, messages, method_path, pool
from serving.grpc.service import INFER, OPEN_METHODS, STREAM_INFER
from serving.options import ApiKey, AuthOptions
from tests.conformance.conftest import OPTIONS, Models, leaks
from tests.support import wire
from tests.support.server import Server, infer_path, standalone
from tests.support.wire import Tensor

TRANSPORTS = ("fast", "asgi", "haproxy")
M = messages()
TOKEN = "t0p-secret"


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_netloc) as made:
        yield made


def unary(channel: grpc.Channel, path: str, body: bytes = b"", **how: Any) -> tuple[str, str, bytes]:
    """Code, text and answer of a call."""
    call = channel.unary_unary(path).future(body, timeout=20, **how)
    code, text = call.code().name, call.details() or ""
    assert not leaks(text.encode()), text
    return code, text, call.result() if code == "OK" else b""


def infer_message(model: str, *tensors: Tensor, typed: bool = False, **more: Any) -> Any:
    """A ModelInferRequest with raw contents."""
    message = M.ModelInferRequest(model_name=model, **more)
    for tensor in tensors:
        one = message.inputs.add(name=tensor.name, datatype=str(tensor.datatype), shape=tensor.array.shape)
        if typed:
            one.contents.fp32_contents.extend(tensor.array.ravel().tolist())
        else:
            message.raw_input_contents.append(tensor.array.tobytes())
    return message


def x_of(rng: np.random.Generator, *shape: int) -> Tensor:
    return Tensor(name="x", datatype=Datatype.FP32, array=rng.random(shape, dtype=np.float32))


# who may call


ALL_METHODS = [
    (method_path(method.name, service), method.client_streaming or method.server_streaming)
    for service in (SERVICE, HEALTH, REFLECTION)
    for method in pool().FindServiceByName(service).methods
]


@pytest.fixture(scope="module", params=["fast", "asgi"])
def guarded(
    request: pytest.FixtureRequest, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    from dataclasses import replace

    options = replace(OPTIONS, auth=AuthOptions(keys=(ApiKey(name="ci", sha256=hash_token(TOKEN)),)))
    folder = tmp_path_factory.mktemp(f"guarded-{request.param}")
    with standalone(folder, models.root, lane=request.param, options=options, token=TOKEN) as running:
        yield running


def _code(channel: grpc.Channel, path: str, streams: bool, **how: Any) -> str:
    if not streams:
        return unary(channel, path, **how)[0]
    call = channel.stream_stream(path)(iter([b""]), timeout=2, **how)
    try:
        next(call)
    except grpc.RpcError as error:
        return str(error.code().name)
    except StopIteration:
        return "OK"
    call.cancel()
    return "OK"


@pytest.mark.parametrize(("path", "streams"), [*ALL_METHODS, (method_path("NoSuchMethod"), False), ("/x.Y/Z", False)])
def test_every_method_but_three_asks_for_a_credential(guarded: Server, path: str, streams: bool):
    """S03: the methods are those of the contract, so that a new one is asked too."""
    with grpc.insecure_channel(guarded.grpc_netloc) as channel:
        without = _code(channel, path, streams)
        wrong = _code(channel, path, streams, metadata=[("authorization", "Bearer nonsense")])
        right = _code(channel, path, streams, metadata=[("authorization", f"Bearer {TOKEN}")])
    if path in OPEN_METHODS:
        assert (without, wrong) == ("OK", "OK")
    else:
        assert (without, wrong) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert right != "UNAUTHENTICATED"


# health


def test_health_of_the_server_and_of_the_service(channel: grpc.Channel):
    for service, wanted in (("", "OK"), (SERVICE, "OK"), ("other", "NOT_FOUND")):
        body = M.HealthCheckRequest(service=service).SerializeToString()
        code, _, answer = unary(channel, method_path("Check", HEALTH), body)
        assert code == wanted
        assert wanted != "OK" or M.HealthCheckResponse.FromString(answer).status == 1
    watch = channel.unary_stream(method_path("Watch", HEALTH))
    for service, status in (("", 1), ("other", 3)):
        call = watch(M.HealthCheckRequest(service=service).SerializeToString(), timeout=10)
        assert M.HealthCheckResponse.FromString(next(call)).status == status
        call.cancel()


# reflection


def test_a_client_without_proto_files_learns_the_whole_contract(channel: grpc.Channel):
    """With gRPC's own reflection client, as grpcurl does it: list, then describe, down to the fields."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    database = ProtoReflectionDescriptorDatabase(channel)  # it speaks v1alpha
    assert set(database.get_services()) == {SERVICE, HEALTH, REFLECTION}
    learned = DescriptorPool(database)
    for name in (SERVICE, HEALTH):
        told, ours = learned.FindServiceByName(name), pool().FindServiceByName(name)
        assert [m.name for m in told.methods] == [m.name for m in ours.methods]
    fields = learned.FindMessageTypeByName("inference.ModelInferRequest").fields_by_name
    assert fields["raw_input_contents"].number == 7


@pytest.mark.parametrize(
    ("question", "kind", "code"),
    [
        ({"list_services": ""}, "list_services_response", None),
        ({"file_by_filename": "health.proto"}, "file_descriptor_response", None),
        ({"file_containing_symbol": "inference.NoSuchThing"}, "error_response", 5),
        ({"file_by_filename": "x" * 100_000}, "error_response", 5),
        ({"all_extension_numbers_of_type": "inference.ModelInferRequest"}, "error_response", 12),
        ({}, "error_response", 3),
    ],
)
def test_reflection_version_1_answers_every_question(
    channel: grpc.Channel, question: dict[str, str], kind: str, code: int | None
):
    request = M.ServerReflectionRequest(host="h", **question)
    call = channel.stream_stream(method_path("ServerReflectionInfo", REFLECTION))(
        iter([request.SerializeToString()] * 3), timeout=20
    )
    answers = [M.ServerReflectionResponse.FromString(data) for data in call]
    assert len(answers) == 3, "one stream takes many questions"
    for answer in answers:
        assert answer.WhichOneof("message_response") == kind
        assert answer.original_request == request
        assert code is None or answer.error_response.error_code == code
        assert len(answer.error_response.error_message) < 300


def test_methods_that_are_not_offered(channel: grpc.Channel):
    assert unary(channel, method_path("CudaSharedMemoryRegister"))[0] == "UNIMPLEMENTED"
    assert unary(channel, method_path("TraceSetting"))[0] == "UNIMPLEMENTED"


# the same answers as over HTTP


def test_typed_and_raw_contents_and_http_give_equal_tensors(
    server: Server, channel: grpc.Channel, rng: np.random.Generator
):
    x = x_of(rng, 5, 1, 8, 8)
    over_http = server.infer("digits", [x], parameters={"binary_data_output": True})["logits"]
    for typed in (False, True):
        message = infer_message("digits", x, typed=typed, id="same")
        code, text, body = unary(channel, INFER, message.SerializeToString())
        assert code == "OK", text
        answer = M.ModelInferResponse.FromString(body)
        assert (answer.id, answer.outputs[0].name, list(answer.outputs[0].shape)) == ("same", "logits", [5, 10])
        np.testing.assert_array_equal(
            np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(5, 10), over_http
        )


CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED"}


def _wrong(rng: np.random.Generator) -> dict[str, tuple[str, str | None, list[Tensor], dict[str, Any]]]:
    x = x_of(rng, 1, 1, 8, 8)
    other = Tensor(name="nothing", datatype=Datatype.FP32, array=x.array)
    double = Tensor(name="x", datatype=Datatype.FP64, array=x.array.astype(np.float64))
    return {
        "model": ("nothing", None, [x], {}),
        "version": ("digits", "77", [x], {}),
        "shape": ("digits", None, [x_of(rng, 1, 1, 8, 7)], {}),
        "rank": ("digits", None, [x_of(rng, 8, 8)], {}),
        "empty batch": ("digits", None, [x_of(rng, 0, 1, 8, 8)], {}),
        "rows": ("digits", None, [x_of(rng, 513, 1, 8, 8)], {}),
        "datatype": ("digits", None, [double], {}),
        "unknown input": ("digits", None, [other], {}),
        "given twice": ("digits", None, [x, x], {}),
        "missing input": ("digits", None, [], {}),
        "unknown output": ("digits", None, [x], {"outputs": ["nothing"]}),
        "output named twice": ("digits", None, [x], {"outputs": ["logits", "logits"]}),
        "priority": ("digits", None, [x], {"parameters": {"priority": -1}}),
        "timeout": ("digits", None, [x], {"parameters": {"timeout": "soon"}}),
        "reserved": ("digits", None, [x], {"parameters": {"triton_x": 1}}),
        "id": ("digits", None, [x], {"id": "x" * 200}),
    }


@pytest.mark.parametrize("case", list(_wrong(np.random.default_rng(0))))
def test_errors_are_those_of_http(server: Server, channel: grpc.Channel, rng: np.random.Generator, case: str):
    model, version, tensors, more = _wrong(rng)[case]
    plain: dict[str, Any] = {
        "inputs": [
            {
                "name": t.name,
                "shape": list(t.array.shape),
                "datatype": str(t.datatype),
                "parameters": {"binary_data_size": t.array.nbytes},
            }
            for t in tensors
        ]
    }
    message = infer_message(model, *tensors, model_version=version or "", id=more.get("id", ""))
    for name in more.get("outputs", ()):
        plain.setdefault("outputs", []).append({"name": name})
        message.outputs.add(name=name)
    for name, value in more.get("parameters", {}).items():
        plain.setdefault("parameters", {})[name] = value
        field = "string_param" if isinstance(value, str) else "int64_param"
        setattr(message.parameters[name], field, value)
    if "id" in more:
        plain["id"] = more["id"]
    head = json.dumps(plain).encode()
    body = head + b"".join(t.array.tobytes() for t in tensors)
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    response = server.client.post(infer_path(model, version), content=body, headers=headers)
    code, text, _ = unary(channel, INFER, message.SerializeToString())
    assert (code, text) == (CODES[response.status_code], response.json()["error"])


def test_statistics_count_both_transports_alike(server: Server, channel: grpc.Channel, rng: np.random.Generator):
    def counts() -> tuple[int, int, int]:
        (stats,) = server.get("/v2/models/unbatched/stats")["model_stats"]
        inference = stats["inference_stats"]
        return stats["inference_count"], inference["success"]["count"], inference["fail"]["count"]

    before = counts()
    x = Tensor(name="x", datatype=Datatype.FP32, array=rng.random(3, dtype=np.float32))
    wrong = Tensor(name="x", datatype=Datatype.FP32, array=rng.random(4, dtype=np.float32))
    for _ in range(3):
        assert unary(channel, INFER, infer_message("unbatched", x).SerializeToString())[0] == "OK"
        server.infer("unbatched", [x])
        assert unary(channel, INFER, infer_message("unbatched", wrong).SerializeToString())[0] == "INVALID_ARGUMENT"
        headers, body = wire.request([wrong])
        server.refused("unbatched", headers, body)
    assert tuple(b - a for a, b in zip(before, counts(), strict=True)) == (6, 6, 6)


# junk


def _mutated(body: bytes, chance: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        kind, at = chance.randrange(5), chance.randrange(len(data) + 1)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at:at] = chance.randbytes(chance.randint(1, 9))
        elif kind == 2:
            del data[at : at + chance.randint(1, 40)]
        elif kind == 3:
            data[at:] = b""
        else:
            data[at : at + 1] = b"\xff" * chance.randint(1, 6)
        if not data:
            return b""
    return bytes(data)


def test_mutated_messages_never_break_the_server(server: Server, channel: grpc.Channel, rng: np.random.Generator):
    """F53: thousands of damaged messages, unary and streamed: each is answered, none with INTERNAL."""
    chance = random.Random(53)
    a = Tensor(name="a", datatype=Datatype.FP32, array=rng.random((2, 3), dtype=np.float32))
    b = Tensor(name="b", datatype=Datatype.INT64, array=rng.integers(0, 9, (2, 2, 2)))
    seeds = [
        infer_message("multi", a, b, id="f").SerializeToString(),
        infer_message("digits", x_of(rng, 1, 1, 8, 8), typed=True).SerializeToString(),
        infer_message("varlen", x_of(rng, 2, 3)).SerializeToString(),
        M.ModelMetadataRequest(name="digits", version="1").SerializeToString(),
    ]
    count = 600
    infer = channel.unary_unary(INFER)
    paths = [method_path(name) for name in ("ModelMetadata", "ModelStatistics", "RepositoryIndex", "ModelReady")]
    codes: dict[str, int] = {}
    for _ in range(count // 50):
        calls = [infer.future(_mutated(chance.choice(seeds), chance), timeout=30) for _ in range(50)]
        calls += [
            channel.unary_unary(chance.choice(paths)).future(_mutated(seeds[3], chance), timeout=30) for _ in range(6)
        ]
        for call in calls:
            codes[call.code().name] = codes.get(call.code().name, 0) + 1
            assert "internal" not in (call.details() or "")
    assert set(codes) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}, codes
    assert codes["INVALID_ARGUMENT"] > count / 4, "positive control: many were damaged"
    stream = channel.stream_stream(STREAM_INFER)
    bodies = [_mutated(chance.choice(seeds), chance) for _ in range(300)]
    answers = [M.ModelStreamInferResponse.FromString(a) for a in stream(iter(bodies), timeout=60)]
    assert len(answers) == 300
    assert not any("internal" in a.error_message for a in answers)
    assert unary(channel, INFER, seeds[0])[0] == "OK"


def test_overload_says_when_to_ask_again(tmp_path: Path, models: Models, rng: np.random.Generator):
    from dataclasses import replace

    from serving.options import BatchOptions

    options = replace(OPTIONS, batch=BatchOptions(queue_rows=4, max_rows=1))
    with (
        standalone(tmp_path, models.root, options=options) as server,
        grpc.insecure_channel(server.grpc_netloc) as channel,
    ):
        x = Tensor(name="x", datatype=Datatype.FP32, array=rng.random((1, 64), dtype=np.float32))
        body = infer_message("slow", x).SerializeToString()
        calls = [channel.unary_unary(INFER).future(body, timeout=30) for _ in range(60)]
        shed = [call for call in calls if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert shed, "positive control: the queue was full"
        trailers = dict(shed[0].trailing_metadata())
        assert int(trailers["grpc-retry-pushback-ms"]) == 1000 * int(trailers["retry-after"]) > 0
        assert {call.code().name for call in calls} == {"OK", "RESOURCE_EXHAUSTED"}
