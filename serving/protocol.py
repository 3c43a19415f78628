"""The one parser of inference requests: bytes in, a checked request or an error that names the field out.

Pure: no clock, no loop, no transport. A parser belongs to one version, because a request is checked against its
signature while it is read. A request whose tensors are all binary is described completely by its JSON part, so that
part's parse (a `RequestPlan`) is remembered: clients send the same few hundred bytes again and again.
`docs/decisions/0004-head-and-plan-caches.md` has the measurement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import msgspec

from export.contracts.datatypes import Datatype
from export.contracts.errors import HardcaseError, InvalidRequest, PayloadTooLarge
from export.contracts.signature import InputSpec, Signature
from serving.answer import AnswerPlans
from serving.options import Limits
from serving.queueing.policy import DEFAULT_POLICY, QueuePolicy
from serving.request_plan import InputHead, PlanMaker, RequestHead, RequestPlan
from serving.tensors import Array, decode_bytes, decode_json, from_base64

_PLANS_KEPT = 512
_PLAN_KEY_BYTES = 2048
_DATA = b'"data":['
_DATA_SKIP = len(_DATA) - 1

Buffer: TypeAlias = memoryview | Array


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A checked request: `buffers` holds one input each, in signature order.

    A buffer is a memoryview of the body (raw little-endian elements) or an array with the request's full shape.
    """

    plan: RequestPlan
    buffers: tuple[Buffer, ...]


_HEAD = msgspec.json.Decoder(RequestHead)


class RequestParser:
    """Parses requests for one version.

    Args:
        signature: What the tensors must look like.
        limits: Rows, elements and header bytes.
        answers: Answer plans of the version, shared with whoever renders.
        policy: What priorities and time limits mean.
    """

    def __init__(
        self, signature: Signature, limits: Limits, answers: AnswerPlans, policy: QueuePolicy = DEFAULT_POLICY
    ) -> None:
        self._signature = signature
        self._limits = limits
        self._answers = answers
        self._maker = PlanMaker(signature, limits, answers, policy)
        self._plans: dict[bytes, RequestPlan] = {}
        self._lengths: dict[bytes, int] = {}

    def parse(self, body: bytes, header_length: bytes | None) -> ParsedRequest:
        """Parse and check one request body.

        Args:
            body: The whole body, inflated.
            header_length: Raw value of `Inference-Header-Content-Length`, None without that header.

        Raises:
            InvalidRequest, PayloadTooLarge, NotSupported: the text names the field.
        """
        if header_length is None:
            return self._parse_again(body) or self._parse_json(body, len(body))
        length = self._lengths.get(header_length)
        if length is None or length > len(body):
            length = self._header_length(header_length, len(body))
        if length == 0:
            return self._parse_raw(body)
        if length <= _PLAN_KEY_BYTES:
            plan = self._plans.get(body[:length])
            if plan is not None:
                return ParsedRequest(plan, _slices(plan, body, length))
        return self._parse_json(body, length)

    def _parse_again(self, body: bytes) -> ParsedRequest | None:
        """A JSON request that differs from an earlier one only in the numbers of its one flat list, or None.

        JSON's grammar lets any list stand where a list stood, so what lies around it needs no second parse; the list
        itself is decoded as strictly as ever.
        """
        begin = body.find(_DATA) + _DATA_SKIP
        end = body.find(b"]", begin) + 1
        if begin < _DATA_SKIP or not end or len(body) - end + begin > _PLAN_KEY_BYTES:
            return None
        plan = self._plans.get(body[:begin] + body[end:])
        if plan is None:
            return None
        spec = self._signature.inputs[0]
        field = f"inputs[0] '{spec.name}'.data"
        return ParsedRequest(plan, (_from_json(body[begin:end], spec, plan.shapes[0], field),))

    def _remember(self, head: RequestHead, plan: RequestPlan, body: bytes, length: int) -> None:
        """Keep the plan of a request whose like will come again: without an id, which is different every time."""
        if head.id:
            return
        if -1 not in plan.sizes:
            if length > _PLAN_KEY_BYTES or self._needs_reading():
                return
            key = body[:length]
        else:
            begin = body.find(_DATA) + _DATA_SKIP
            end = body.find(b"]", begin) + 1
            one = len(head.inputs) == 1 and length == len(body) and body.count(_DATA) == 1
            if not one or _raw(head.inputs[0]) != body[begin:end] or len(body) - end + begin > _PLAN_KEY_BYTES:
                return
            key = body[:begin] + body[end:]
        if len(self._plans) >= _PLANS_KEPT:
            self._plans.clear()
        self._plans[key] = plan

    def _parse_json(self, body: bytes, length: int) -> ParsedRequest:
        try:
            head = _HEAD.decode(memoryview(body)[:length])
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"request: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = str(error) if isinstance(error, msgspec.DecodeError) else "not UTF-8"
            raise InvalidRequest(f"request: not valid JSON: {reason}") from None
        except RecursionError:
            raise InvalidRequest("request: JSON is nested too deeply") from None
        plan = self._maker.plan(head)
        binary = sum(size for size in plan.sizes if size >= 0)
        if binary != len(body) - length:
            raise InvalidRequest(
                f"the body has {len(body) - length} bytes of binary data, "
                f"the inputs' binary_data_size add up to {binary}"
            )
        self._remember(head, plan, body, length)
        if -1 not in plan.sizes and not self._needs_reading():
            return ParsedRequest(plan, _slices(plan, body, length))
        return ParsedRequest(plan, self._read_tensors(head, plan, body, length))

    def _needs_reading(self) -> bool:
        """Whether binary data has to be looked at before it is used."""
        return any(spec.datatype in (Datatype.BYTES, Datatype.BOOL) for spec in self._signature.inputs)

    def _read_tensors(self, head: RequestHead, plan: RequestPlan, body: bytes, length: int) -> tuple[Buffer, ...]:
        """Tensors of a request that holds JSON data, BYTES or BOOL, in signature order."""
        view = memoryview(body)
        offsets = _offsets(plan, length)
        buffers: list[Buffer] = []
        for index, spec in enumerate(self._signature.inputs):
            position = plan.order[index]
            field = f"inputs[{position}] '{spec.name}'"
            size, shape = plan.sizes[index], plan.shapes[index]
            if size < 0:
                buffers.append(_from_json(_raw(head.inputs[position]), spec, shape, f"{field}.data"))
            elif spec.datatype is Datatype.BYTES:
                part = view[offsets[index] : offsets[index] + size]
                buffers.append(decode_bytes(part, math.prod(shape), field).reshape(shape))
            else:
                buffers.append(view[offsets[index] : offsets[index] + size])
        return checked_bools(self._signature.inputs, buffers)

    def _header_length(self, value: bytes, body_length: int) -> int:
        name = "header 'Inference-Header-Content-Length'"
        if not value.isdigit() or len(value) > 18 or (value[:1] == b"0" and value != b"0"):
            raise InvalidRequest(f"{name} is not a canonical decimal number")
        length = int(value)
        if length > body_length:
            raise InvalidRequest(f"{name} is {length}, the body has only {body_length} bytes")
        if length > self._limits.json_header_bytes:
            raise PayloadTooLarge(f"{name} is {length}, the limit is {self._limits.json_header_bytes} bytes")
        if len(self._lengths) < _PLANS_KEPT:
            self._lengths[value] = length
        return length

    def _parse_raw(self, body: bytes) -> ParsedRequest:
        """The raw form: the body is the one tensor of a model with one input, all outputs come back binary."""
        spec, batched = self._signature.inputs[0], self._signature.batched
        if len(self._signature.inputs) != 1:
            raise InvalidRequest(f"raw binary request: the model has {len(self._signature.inputs)} inputs, not one")
        dims = list(spec.shape[batched:])
        if spec.datatype is Datatype.BYTES:
            if math.prod(dims) not in (1, -1):
                raise InvalidRequest(f"raw binary request: BYTES input '{spec.name}' must have shape [1]")
            dims = [1] * len(dims)
            array = decode_bytes(memoryview(len(body).to_bytes(4, "little") + body), 1, spec.name)
            buffer: Buffer = array.reshape(([1, *dims]) if batched else dims)
        else:
            dims = _deduce(dims, spec, len(body))
            buffer = memoryview(body)
        shape = (1, *dims) if batched else tuple(dims)
        self._maker.check_elements(spec.name, shape)
        policy = self._maker.policy
        plan = RequestPlan(
            id=b"",
            rows=1,
            queue=(policy.default_level, (tuple(dims),) if self._maker.variable else None),
            shapes=(shape,),
            sizes=(len(body),),
            order=(0,),
            answer=self._answers.default(binary=True),
            timeout_ns=policy.timeout_ns(policy.default_level, 0),
            params=None,
        )
        return ParsedRequest(plan, checked_bools(self._signature.inputs, (buffer,)))


def _from_json(text: bytes, spec: InputSpec, shape: tuple[int, ...], field: str) -> Buffer:
    """An input's JSON data. Encoded images are Base64 there: no image is text."""
    decoded = decode_json(text, spec.datatype, shape, field)
    return decoded if spec.preprocess is None else from_base64(cast("Array", decoded), field)


def _raw(given: InputHead) -> bytes:
    """The JSON text of an input's data."""
    assert isinstance(given.data, msgspec.Raw)  # _check_input saw it
    return bytes(given.data)


def _slices(plan: RequestPlan, body: bytes, start: int) -> tuple[memoryview, ...]:
    """Views of the binary inputs of a plan without JSON data, in signature order."""
    view = memoryview(body)
    if len(plan.sizes) == 1:
        if len(body) - start != plan.sizes[0]:
            raise _leftover(len(body) - start, plan.sizes[0])
        return (view[start:],)
    total = sum(plan.sizes)
    if len(body) - start != total:
        raise _leftover(len(body) - start, total)
    offsets = _offsets(plan, start)
    return tuple(view[o : o + s] for o, s in zip(offsets, plan.sizes, strict=True))


def _leftover(given: int, wanted: int) -> HardcaseError:
    return InvalidRequest(f"the body has {given} bytes of binary data, the inputs' binary_data_size add up to {wanted}")


def _offsets(plan: RequestPlan, start: int) -> list[int]:
    """Where each signature input's binary data begins: tensors lie in the order of the request's inputs."""
    offsets = [0] * len(plan.order)
    position = start
    for index in sorted(range(len(plan.order)), key=plan.order.__getitem__):
        offsets[index] = position
        position += max(plan.sizes[index], 0)
    return offsets


def checked_bools(specs: Sequence[InputSpec], buffers: Sequence[Buffer]) -> tuple[Buffer, ...]:
    """Refuse BOOL bytes that are neither 0 nor 1: numpy would take them and compute nonsense."""
    for spec, buffer in zip(specs, buffers, strict=True):
        is_binary = spec.datatype is Datatype.BOOL and isinstance(buffer, memoryview)
        if is_binary and bytes(buffer).translate(None, b"\x00\x01"):
            raise InvalidRequest(f"input '{spec.name}': a BOOL byte is neither 0 nor 1")
    return tuple(buffers)


def _deduce(dims: list[int], spec: InputSpec, nbytes: int) -> list[int]:
    """Fill in at most one variable dimension from the number of bytes."""
    variable = [axis for axis, size in enumerate(dims) if size == -1]
    if len(variable) > 1:
        raise InvalidRequest(f"raw binary request: input '{spec.name}' has {len(variable)} variable dimensions")
    known = math.prod(size for size in dims if size != -1) * spec.datatype.itemsize
    if variable:
        if nbytes % known or nbytes == 0:
            raise InvalidRequest(f"raw binary request: {nbytes} bytes are no multiple of {known} for '{spec.name}'")
        dims[variable[0]] = nbytes // known
    elif nbytes != known:
        raise InvalidRequest(f"raw binary request: the body has {nbytes} bytes, input '{spec.name}' needs {known}")
    return dims
