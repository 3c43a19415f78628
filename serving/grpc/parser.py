"""The parser of gRPC inference requests: the same checks and error texts as over HTTP, on another notation.

A version has one, beside its HTTP parser; both end in the same `PlanMaker`. The plan of a request whose tensors are raw
depends on its head alone, so it is remembered by the head's bytes, as `serving.protocol` does it for binary HTTP
requests. `docs/decisions/0081-grpc-messages-by-hand.md` has the measurement.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from google.protobuf.message import DecodeError

from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest
from export.contracts.signature import InputSpec, Signature
from serving.grpc.answer import MessageAnswers
from serving.grpc.messages import messages
from serving.grpc.scan import InferMessage
from serving.options import Limits
from serving.protocol import Buffer, ParsedRequest, checked_bools
from serving.queueing.policy import DEFAULT_POLICY, QueuePolicy
from serving.request_plan import (
    InputHead,
    OutputHead,
    PlanMaker,
    RequestHead,
    RequestPlan,
    Scalar,
    checked_request_id,
)
from serving.tensors import Array, decode_bytes

_PLANS_KEPT = 512
_PLAN_KEY_BYTES = 4096
_TYPED = msgspec.Raw(b"[]")  # stands for the data of an input with typed contents

# The field of InferTensorContents in which a datatype's elements travel.
CONTENTS = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}


def decoded(given: InferMessage) -> Any:
    """The message that protobuf makes of a request: without id and raw contents where those were split off.

    Raises:
        InvalidRequest: it is none.
    """
    if given.message is None:
        source = given.body if given.head is None else given.head
        try:
            given.message = messages().ModelInferRequest.FromString(source)
        except (DecodeError, UnicodeDecodeError):
            raise InvalidRequest("request: not a valid ModelInferRequest message") from None
        if given.head is None:
            given.id = given.message.id.encode()
    return given.message


class MessageParser:
    """Parses gRPC requests for one version.

    Args:
        signature: What the tensors must look like.
        limits: Rows and elements.
        answers: Answer plans of the version for gRPC.
        policy: What priorities and time limits mean.
    """

    def __init__(
        self, signature: Signature, limits: Limits, answers: MessageAnswers, policy: QueuePolicy = DEFAULT_POLICY
    ) -> None:
        self._inputs = signature.inputs
        self._maker = PlanMaker(signature, limits, answers, policy)
        self._plans: dict[bytes, RequestPlan] = {}
        self._plain = all(spec.datatype not in (Datatype.BYTES, Datatype.BOOL) for spec in signature.inputs)

    def parse(self, given: InferMessage) -> ParsedRequest:
        """Check one request.

        Raises:
            InvalidRequest, PayloadTooLarge, NotSupported: the text names the field.
        """
        plan = self._plans.get(given.head) if given.head is not None and given.raws else None
        if plan is None:
            return self._parse_new(given)
        if given.id:
            checked_request_id(given.id)
        raws = given.raws
        if len(raws) != len(plan.order):
            raise _wrong_number(len(raws), len(plan.order))
        view = memoryview(given.body)
        if len(raws) == 1:
            start, end = raws[0]
            buffers: tuple[Buffer, ...] = (view[start:end],)
        else:
            buffers = tuple(view[raws[position][0] : raws[position][1]] for position in plan.order)
        if not self._plain:
            buffers = self._read(plan, buffers)
        for buffer, size in zip(buffers, plan.sizes, strict=True):
            if isinstance(buffer, memoryview) and len(buffer) != size:
                return self._parse_new(given)  # says which input it is, and what it needs
        return ParsedRequest(plan, buffers)

    def _parse_new(self, given: InferMessage) -> ParsedRequest:
        message = decoded(given)
        view = memoryview(given.body)
        raws: list[memoryview] = [view[start:end] for start, end in given.raws]
        if given.head is None:
            raws = [memoryview(raw) for raw in message.raw_input_contents]
        head = _request_head(message, given.id, [len(raw) for raw in raws])
        plan = self._maker.plan(head)
        if not raws:
            return ParsedRequest(plan, self._typed(plan, message.inputs))
        buffers = self._read(plan, tuple(raws[position] for position in plan.order))
        if given.head is not None and len(given.head) <= _PLAN_KEY_BYTES:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            self._plans[given.head] = plan
        return ParsedRequest(plan, buffers)

    def _read(self, plan: RequestPlan, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Raw tensors, with BYTES decoded and BOOL looked at."""
        if self._plain:
            return buffers
        read: list[Buffer] = []
        for index, (spec, buffer) in enumerate(zip(self._inputs, buffers, strict=True)):
            if spec.datatype is Datatype.BYTES and isinstance(buffer, memoryview):
                shape = plan.shapes[index]
                field = f"inputs[{plan.order[index]}] '{spec.name}'"
                read.append(decode_bytes(buffer, int(np.prod(shape)), field).reshape(shape))
            else:
                read.append(buffer)
        return checked_bools(self._inputs, read)

    def _typed(self, plan: RequestPlan, inputs: Any) -> tuple[Buffer, ...]:
        """Tensors that came as typed contents, in signature order."""
        return tuple(
            typed_contents(inputs[position].contents, spec, shape, f"inputs[{position}] '{spec.name}'")
            for position, spec, shape in zip(plan.order, self._inputs, plan.shapes, strict=True)
        )


def _request_head(message: Any, request_id: bytes, sizes: list[int]) -> RequestHead:
    """A message in the words of the HTTP protocol, which are the plan maker's."""
    if sizes and len(sizes) != len(message.inputs):
        raise _wrong_number(len(sizes), len(message.inputs))
    inputs = []
    for position, given in enumerate(message.inputs):
        field = f"inputs[{position}] '{given.name[:64]}'"
        own = _parameters(given.parameters, field)
        own.pop("binary_data_size", None)
        if sizes:
            if given.HasField("contents"):
                raise InvalidRequest(f"{field}: has contents, and the request has raw_input_contents: give one")
            own["binary_data_size"] = sizes[position]
        inputs.append(InputHead(given.name, list(given.shape), given.datatype, own, msgspec.UNSET if sizes else _TYPED))
    outputs = [
        OutputHead(output.name, _parameters(output.parameters, f"outputs[{position}] '{output.name[:64]}'"))
        for position, output in enumerate(message.outputs)
    ]
    checked_request_id(request_id)
    return RequestHead(inputs, "", _parameters(message.parameters, "parameters"), outputs)


def _parameters(given: Any, field: str) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidRequest(f"{field}: parameter '{name[:64]}' has no value")
        found[name] = getattr(value, kind)
    return found


def _wrong_number(raws: int, inputs: int) -> InvalidRequest:
    return InvalidRequest(f"raw_input_contents: {raws} tensors for {inputs} inputs: give one for each")


def typed_contents(contents: Any, spec: InputSpec, shape: tuple[int, ...], field: str) -> Array | memoryview:
    """The elements of an InferTensorContents.

    Args:
        contents: The message.
        spec: The input; its datatype says in which field the elements are.
        shape: The declared shape, checked against the signature.
        field: Where this is in the request, for error texts.

    Returns:
        Little-endian elements; BYTES as an object array of the shape.

    Raises:
        InvalidRequest: another field is used, the number of elements is not the shape's, or one does not fit.
    """
    name = CONTENTS.get(spec.datatype)
    if name is None:
        raise InvalidRequest(f"{field}.contents: {spec.datatype} has no typed contents: send raw_input_contents")
    for used, _ in contents.ListFields():
        if used.name != name:
            raise InvalidRequest(f"{field}.contents: {used.name} is set, {spec.datatype} travels in {name}")
    values = getattr(contents, name)
    elements = int(np.prod(shape))
    if len(values) != elements:
        raise InvalidRequest(f"{field}.data: data has {len(values)} elements, shape {list(shape)} needs {elements}")
    if spec.datatype is Datatype.BYTES:
        array = np.empty(elements, dtype=object)
        array[:] = list(values)
        return array.reshape(shape)
    try:
        return memoryview(np.fromiter(values, spec.datatype.numpy, elements).tobytes())
    except OverflowError:
        raise InvalidRequest(f"{field}.data: a number does not fit into {spec.datatype}") from None
