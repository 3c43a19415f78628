"""The hand-written reader and writer of inference messages against protobuf's own, both ways."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts.datatypes import Datatype
from export.contracts.errors import HardcaseError, InvalidRequest, NotSupported
from export.contracts.signature import InputSpec, OutputSpec, Signature
from serving.answer import BatchOutputs
from serving.grpc.answer import MessageAnswers, varint
from serving.grpc.messages import messages
from serving.grpc.parser import CONTENTS, MessageParser, decoded
from serving.grpc.scan import scan
from serving.options import Limits

M = messages()
TEXT = st.text(max_size=20)
VALUES = st.one_of(
    st.booleans().map(lambda v: {"bool_param": v}),
    st.integers(-(2**63), 2**63 - 1).map(lambda v: {"int64_param": v}),
    TEXT.map(lambda v: {"string_param": v}),
    st.floats(allow_nan=False).map(lambda v: {"double_param": v}),
    st.integers(0, 2**64 - 1).map(lambda v: {"uint64_param": v}),
)


@st.composite
def requests(draw: Any) -> Any:
    """Any ModelInferRequest, sensible or not."""
    message = M.ModelInferRequest(
        model_name=draw(TEXT),
        model_version=draw(TEXT),
        id=draw(TEXT),
        raw_input_contents=draw(st.lists(st.binary(max_size=300), max_size=3)),
    )
    for name, value in draw(st.dictionaries(TEXT, VALUES, max_size=3)).items():
        message.parameters[name].CopyFrom(M.InferParameter(**value))
    for _ in range(draw(st.integers(0, 3))):
        one = message.inputs.add(
            name=draw(TEXT), datatype=draw(TEXT), shape=draw(st.lists(st.integers(-2, 2**40), max_size=4))
        )
        if draw(st.booleans()):
            one.contents.fp32_contents.extend(draw(st.lists(st.floats(width=32, allow_nan=False), max_size=5)))
    for _ in range(draw(st.integers(0, 2))):
        message.outputs.add(name=draw(TEXT)).parameters["classification"].int64_param = draw(st.integers(-1, 9))
    return message


def _same(body: bytes) -> None:
    """What `scan` and `decoded` make of bytes is what protobuf makes of them."""
    found = scan(body)
    whole, part = M.ModelInferRequest.FromString(body), decoded(found)
    assert found.id == whole.id.encode()
    if found.head is not None:
        assert [body[a:b] for a, b in found.raws] == list(whole.raw_input_contents)
        rest = M.ModelInferRequest()
        rest.CopyFrom(whole)
        rest.ClearField("raw_input_contents")
        rest.ClearField("id")
        assert part == rest
    else:
        assert part == whole


@given(requests())
def test_every_message_reads_as_protobuf_reads_it(message: Any):
    body = message.SerializeToString()
    assert scan(body).head is not None, "what protobuf writes is canonical"
    _same(body)


@given(requests(), st.data())
def test_truncated_and_damaged_messages_read_as_protobuf_reads_them(message: Any, data: st.DataObject):
    body = bytearray(message.SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    _damaged(bytes(body[:cut]))


@given(st.binary(max_size=200))
def test_junk_reads_as_protobuf_reads_it(body: bytes):
    _damaged(body)


def _damaged(body: bytes) -> None:
    found = scan(body)
    try:
        whole = M.ModelInferRequest.FromString(body)
    except DecodeError:
        # Only what is cut out may hide a fault from protobuf: the id, which the parser checks by itself.
        try:
            decoded(found)
        except InvalidRequest:
            return
        with pytest.raises(UnicodeDecodeError):
            found.id.decode()
        return
    assert decoded(found) is not None
    if found.head is not None:
        assert [body[a:b] for a, b in found.raws] == list(whole.raw_input_contents)
        assert found.id == whole.id.encode()


@given(st.permutations(range(4)), requests())
def test_fields_in_any_order_mean_the_same(order: list[int], message: Any):
    pieces = [
        M.ModelInferRequest(model_name=message.model_name).SerializeToString(),
        M.ModelInferRequest(inputs=message.inputs, outputs=message.outputs).SerializeToString(),
        M.ModelInferRequest(raw_input_contents=message.raw_input_contents).SerializeToString(),
        M.ModelInferRequest(id=message.id, parameters=message.parameters).SerializeToString(),
    ]
    _same(b"".join(pieces[n] for n in order))


def test_a_field_given_twice_has_its_last_value():
    twice = M.ModelInferRequest(model_name="a", id="1").SerializeToString() * 2
    assert scan(twice).head is None
    _same(twice)
    _same(twice + M.ModelInferRequest(id="2").SerializeToString())


# the parser

SIGNATURE = Signature(
    batched=True,
    inputs=(
        InputSpec(name="a", datatype=Datatype.FP32, shape=(-1, 2)),
        InputSpec(name="b", datatype=Datatype.INT8, shape=(-1, -1)),
    ),
    outputs=(
        OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 3)),
        OutputSpec(name="t", datatype=Datatype.BYTES, shape=(-1,)),
    ),
)
ANSWERS = MessageAnswers("m", "1", SIGNATURE, (), (0, 1))


def parser(signature: Signature = SIGNATURE) -> MessageParser:
    return MessageParser(signature, Limits(), MessageAnswers("m", "1", signature, (), (0,)))


def request_of(*tensors: tuple[str, str, tuple[int, ...], bytes], **more: Any) -> Any:
    message = M.ModelInferRequest(model_name="m", **more)
    for name, datatype, shape, raw in tensors:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_input_contents.append(raw)
    return message


A = ("a", "FP32", (2, 2), np.arange(4, dtype=np.float32).tobytes())
B = ("b", "INT8", (2, 3), bytes(range(6)))


@pytest.mark.parametrize("tensors", [(A, B), (B, A)])
def test_raw_tensors_come_in_signature_order_and_the_plan_is_remembered(tensors: tuple[Any, ...]):
    own = parser()
    first = own.parse(scan(request_of(*tensors, id="x").SerializeToString()))
    again = own.parse(scan(request_of(*tensors, id="another").SerializeToString()))
    assert again.plan is first.plan
    for parsed in (first, again):
        assert [bytes(buffer) for buffer in parsed.buffers] == [A[3], B[3]]
        assert parsed.plan.rows == 2


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (request_of(A), "input 'b' is missing"),
        (request_of(A, ("b", "INT8", (2, 3), b"12345")), "binary_data_size is 5, shape [2, 3] of INT8 needs 6"),
        (request_of(A, ("b", "INT8", (3, 2), bytes(6))), "batch sizes differ"),
        (request_of(A, B, raw_input_contents=[b"more"]), "3 tensors for 2 inputs"),
        (request_of(A, B, id="x" * 129), "id: is 129 bytes long"),
        (request_of(A, ("c", "INT8", (2, 3), bytes(6))), "unknown input 'c'"),
    ],
)
def test_refusals_name_the_field_also_when_the_head_is_known(message: Any, text: str):
    own = parser()
    own.parse(scan(request_of(A, B).SerializeToString()))
    for _ in range(2):
        with pytest.raises(InvalidRequest) as caught:
            own.parse(scan(message.SerializeToString()))
        assert text in caught.value.message


def test_a_known_head_with_tensors_of_another_size_is_refused():
    own = parser()
    own.parse(scan(request_of(A, B).SerializeToString()))
    with pytest.raises(InvalidRequest, match="binary_data_size is 5"):
        own.parse(scan(request_of(A, ("b", "INT8", (2, 3), b"12345")).SerializeToString()))
    short = request_of(A, B)
    del short.raw_input_contents[1]
    with pytest.raises(InvalidRequest, match="1 tensors for 2 inputs"):
        own.parse(scan(short.SerializeToString()))


@pytest.mark.parametrize("datatype", list(CONTENTS), ids=str)
def test_typed_contents_of_every_datatype(datatype: Datatype):
    signature = Signature(
        batched=True,
        inputs=(InputSpec(name="x", datatype=datatype, shape=(-1, 3)),),
        outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1,)),),
    )
    message = M.ModelInferRequest(model_name="m")
    one = message.inputs.add(name="x", datatype=str(datatype), shape=[1, 3])
    values: list[Any] = [b"a", b"", b"\xff"] if datatype is Datatype.BYTES else [1, 0, 1]
    getattr(one.contents, CONTENTS[datatype]).extend(values)
    (buffer,) = parser(signature).parse(scan(message.SerializeToString())).buffers
    if datatype is Datatype.BYTES:
        assert buffer.tolist() == [values]  # type: ignore[union-attr]
    else:
        np.testing.assert_array_equal(np.frombuffer(buffer, datatype.numpy), np.array(values, datatype.numpy))


def test_typed_contents_that_do_not_fit_are_refused():
    def one_input(datatype: Datatype, **contents: Any) -> tuple[MessageParser, bytes]:
        signature = Signature(
            batched=True,
            inputs=(InputSpec(name="x", datatype=datatype, shape=(-1, 2)),),
            outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1,)),),
        )
        message = M.ModelInferRequest(model_name="m")
        made = message.inputs.add(name="x", datatype=str(datatype), shape=[1, 2])
        made.contents.CopyFrom(M.InferTensorContents(**contents))
        return parser(signature), message.SerializeToString()

    for datatype, contents, text in (
        (Datatype.INT8, {"int_contents": [1, 300]}, "a number does not fit into INT8"),
        (Datatype.UINT16, {"uint_contents": [1, 70_000]}, "a number does not fit into UINT16"),
        (Datatype.FP32, {"fp32_contents": [1.0]}, "data has 1 elements, shape [1, 2] needs 2"),
        (Datatype.FP32, {"fp64_contents": [1.0, 2.0]}, "fp64_contents is set, FP32 travels in fp32_contents"),
        (Datatype.FP32, {}, "data has 0 elements"),
        (Datatype.FP16, {"fp32_contents": [1.0, 2.0]}, "FP16 has no typed contents"),
        (Datatype.BF16, {"fp32_contents": [1.0, 2.0]}, "BF16 has no typed contents"),
    ):
        own, body = one_input(datatype, **contents)
        with pytest.raises(InvalidRequest) as caught:
            own.parse(scan(body))
        assert text in caught.value.message


def test_raw_and_typed_contents_do_not_mix_and_shared_memory_is_not_supported():
    mixed = request_of(A, B)
    mixed.inputs[0].contents.fp32_contents.extend([0.0] * 4)
    with pytest.raises(InvalidRequest, match="has contents, and the request has raw_input_contents"):
        parser().parse(scan(mixed.SerializeToString()))
    shared = request_of(A, B)
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(NotSupported):
        parser().parse(scan(shared.SerializeToString()))
    empty = request_of(A, B)
    empty.parameters["priority"].SetInParent()
    with pytest.raises(InvalidRequest, match="parameter 'priority' has no value"):
        parser().parse(scan(empty.SerializeToString()))


@given(requests())
@settings(max_examples=200)
def test_any_message_is_parsed_or_refused_with_a_text(message: Any):
    own = parser()
    for _ in range(2):
        with contextlib.suppress(HardcaseError):
            own.parse(scan(message.SerializeToString()))


# answers


@given(st.integers(0, 2**40))
def test_lengths_are_written_as_protobuf_writes_them(value: int):
    from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]

    assert varint(value) == _VarintBytes(value)


@given(st.integers(1, 9), st.data(), TEXT)
def test_answers_are_the_messages_that_protobuf_would_write(rows: int, data: st.DataObject, request_id: str):
    start = data.draw(st.integers(0, rows - 1))
    count = data.draw(st.integers(1, rows - start))
    y = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    texts = np.array([f"ü{n}" for n in range(rows)], dtype=object)
    outputs = BatchOutputs(SIGNATURE.outputs, [y, texts], rows, True)
    headers, body = ANSWERS.default(binary=False).render(outputs, request_id.encode(), start, count)
    assert headers == b""
    answer = M.ModelInferResponse.FromString(body)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", request_id)
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [
        ("y", "FP32", [count, 3]),
        ("t", "BYTES", [count]),
    ]
    assert answer.raw_output_contents[0] == y[start : start + count].tobytes()
    words = b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in texts[start : start + count])
    assert answer.raw_output_contents[1] == words
    again = M.ModelInferResponse.FromString(answer.SerializeToString())
    assert again == answer
