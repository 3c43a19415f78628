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
from typing import TypeAlias

import msgspec

from export.contracts.datatypes import Datatype
from export.contracts.errors import HardcaseError, InvalidRequest, NotSupported, PayloadTooLarge
from export.contracts.signature import InputSpec, Signature
from serving.answer import AnswerPlan, AnswerPlans, WantedOutput
from serving.options import Limits
from serving.tensors import Array, decode_bytes, decode_json

MAX_ID_BYTES = 128
MAX_OUTPUTS = 256
_PLANS_KEPT = 512
_PLAN_KEY_BYTES = 2048
_DATA = b'"data":['
_DATA_SKIP = len(_DATA) - 1

DEFAULT_PRIORITY = 2  # priority 0 or none; 1 goes before it, 3 and more after it

QueueKey: TypeAlias = tuple[int, tuple[tuple[int, ...], ...] | None]
Scalar: TypeAlias = str | int | float | bool
Buffer: TypeAlias = memoryview | Array


class InputHead(msgspec.Struct):
    """One input as the JSON part describes it."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Scalar] | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class OutputHead(msgspec.Struct):
    """One wanted output as the JSON part describes it."""

    name: str
    parameters: dict[str, Scalar] | None = None


class RequestHead(msgspec.Struct):
    """The JSON part of an inference request."""

    inputs: list[InputHead]
    id: str = ""
    parameters: dict[str, Scalar] | None = None
    outputs: list[OutputHead] | None = None


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """Everything about a request except its tensors.

    Attributes:
        id: The client's id as UTF-8; empty when it gave none.
        rows: Size of the batch axis; 1 for unbatched models.
        queue: Priority level, and row shapes of all inputs when the signature leaves some variable (else None):
            requests with equal keys may share a batch.
        shapes: Shape of each input, batch axis included, in signature order.
        sizes: Bytes of each binary input, in signature order; -1 for JSON inputs.
        order: For each signature input, its position in the request.
        answer: What goes back, and how.
        timeout_ns: The client's time limit, 0 for none.
        params: The request's parameters as JSON, for the record.
    """

    id: bytes
    rows: int
    queue: QueueKey
    shapes: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    order: tuple[int, ...]
    answer: AnswerPlan
    timeout_ns: int
    params: bytes | None


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
    """

    def __init__(self, signature: Signature, limits: Limits, answers: AnswerPlans) -> None:
        self._signature = signature
        self._limits = limits
        self._answers = answers
        self._index = {spec.name: i for i, spec in enumerate(signature.inputs)}
        self._outputs = {spec.name: i for i, spec in enumerate(signature.outputs)}
        self._variable = any(-1 in spec.shape[signature.batched :] for spec in signature.inputs)
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
        return ParsedRequest(plan, (decode_json(body[begin:end], spec.datatype, plan.shapes[0], field),))

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
        plan = self._plan(head)
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
                buffers.append(decode_json(_raw(head.inputs[position]), spec.datatype, shape, f"{field}.data"))
            elif spec.datatype is Datatype.BYTES:
                part = view[offsets[index] : offsets[index] + size]
                buffers.append(decode_bytes(part, math.prod(shape), field).reshape(shape))
            else:
                buffers.append(view[offsets[index] : offsets[index] + size])
        return _checked_bools(self._signature.inputs, buffers)

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
        self._check_elements(spec.name, shape)
        plan = RequestPlan(
            id=b"",
            rows=1,
            queue=(DEFAULT_PRIORITY, (tuple(dims),) if self._variable else None),
            shapes=(shape,),
            sizes=(len(body),),
            order=(0,),
            answer=self._answers.default(binary=True),
            timeout_ns=0,
            params=None,
        )
        return ParsedRequest(plan, _checked_bools(self._signature.inputs, (buffer,)))

    def _plan(self, head: RequestHead) -> RequestPlan:
        """Check everything that the JSON part says against the signature."""
        positions: dict[int, int] = {}
        for position, given in enumerate(head.inputs):
            index = self._index.get(given.name)
            if index is None:
                known = ", ".join(self._index)
                raise InvalidRequest(f"inputs[{position}]: unknown input '{given.name[:64]}'; the model has {known}")
            if index in positions:
                raise InvalidRequest(f"inputs[{position}]: input '{given.name}' is given twice")
            positions[index] = position
        missing = [spec.name for i, spec in enumerate(self._signature.inputs) if i not in positions]
        if missing:
            raise InvalidRequest(f"inputs: input '{missing[0]}' is missing")
        shapes, sizes = [], []
        for index, spec in enumerate(self._signature.inputs):
            position = positions[index]
            shape, size = self._check_input(head.inputs[position], spec, f"inputs[{position}] '{spec.name}'")
            shapes.append(shape)
            sizes.append(size)
        rows = self._check_rows(shapes)
        parameters = head.parameters or {}
        return RequestPlan(
            id=_request_id(head.id),
            rows=rows,
            queue=(
                _whole(parameters, "priority") or DEFAULT_PRIORITY,
                tuple(s[self._signature.batched :] for s in shapes) if self._variable else None,
            ),
            shapes=tuple(shapes),
            sizes=tuple(sizes),
            order=tuple(positions[i] for i in range(len(shapes))),
            answer=self._answer(head, parameters),
            timeout_ns=_whole(parameters, "timeout") * 1000,
            params=msgspec.json.encode(parameters) if parameters else None,
        )

    def _check_input(self, given: InputHead, spec: InputSpec, field: str) -> tuple[tuple[int, ...], int]:
        """Shape and binary size (-1 for JSON data) of one input."""
        if given.datatype != spec.datatype:
            raise InvalidRequest(f"{field}: datatype is {given.datatype[:16]}, the model takes {spec.datatype}")
        shape = tuple(given.shape)
        if len(shape) != len(spec.shape):
            raise InvalidRequest(
                f"{field}: shape has {len(shape)} dimensions, the model takes {len(spec.shape)}: {list(spec.shape)}"
            )
        for axis, (size, wanted) in enumerate(zip(shape, spec.shape, strict=True)):
            if size < 0:
                raise InvalidRequest(f"{field}: shape[{axis}] is {size}: dimensions are not negative")
            if wanted not in (-1, size):
                raise InvalidRequest(f"{field}: shape[{axis}] is {size}, the model takes {wanted}")
        elements = self._check_elements(spec.name, shape, field)
        parameters = given.parameters or {}
        for name in parameters:
            if name.startswith("shared_memory"):
                raise NotSupported(f"{field}: parameter '{name[:64]}': shared memory is not supported")
        has_size, has_data = "binary_data_size" in parameters, given.data is not msgspec.UNSET
        if has_size == has_data:
            both = "both data and binary_data_size" if has_size else "neither data nor binary_data_size"
            raise InvalidRequest(f"{field}: has {both}: give exactly one")
        if not has_size:
            return shape, -1
        size = _whole(parameters, "binary_data_size", field)
        if spec.datatype is Datatype.BYTES:
            if size < 4 * elements:
                raise InvalidRequest(f"{field}: binary_data_size is {size}, {elements} elements need {4 * elements}")
        elif size != elements * spec.datatype.itemsize:
            raise InvalidRequest(
                f"{field}: binary_data_size is {size}, shape {list(shape)} of {spec.datatype} "
                f"needs {elements * spec.datatype.itemsize}"
            )
        return shape, size

    def _check_elements(self, name: str, shape: tuple[int, ...], field: str | None = None) -> int:
        elements = math.prod(shape)
        if elements > self._limits.elements:
            where = field or f"input '{name}'"
            raise PayloadTooLarge(f"{where}: shape has {elements} elements, the limit is {self._limits.elements}")
        return elements

    def _check_rows(self, shapes: Sequence[tuple[int, ...]]) -> int:
        if not self._signature.batched:
            return 1
        rows = shapes[0][0]
        for spec, shape in zip(self._signature.inputs, shapes, strict=True):
            if shape[0] != rows:
                first = self._signature.inputs[0].name
                raise InvalidRequest(
                    f"inputs: batch sizes differ: '{first}' has {rows} rows, '{spec.name}' has {shape[0]}"
                )
        if rows == 0:
            raise InvalidRequest(f"inputs: input '{self._signature.inputs[0].name}' has an empty batch")
        if rows > self._limits.rows:
            name = self._signature.inputs[0].name
            raise InvalidRequest(f"inputs: input '{name}' has {rows} rows, the limit is {self._limits.rows}")
        return rows

    def _answer(self, head: RequestHead, parameters: dict[str, Scalar]) -> AnswerPlan:
        for name in parameters:
            if name.startswith(("triton_", "hardcase_")):
                raise InvalidRequest(f"parameters: '{name[:64]}' is reserved and unknown")
        binary = _flag(parameters, "binary_data_output", False, "parameters")
        if not head.outputs:
            return self._answers.default(binary=binary)
        if len(head.outputs) > MAX_OUTPUTS:
            raise InvalidRequest(f"outputs: {len(head.outputs)} are wanted, at most {MAX_OUTPUTS} can be")
        wanted: list[WantedOutput] = []
        for position, output in enumerate(head.outputs):
            field = f"outputs[{position}] '{output.name[:64]}'"
            index = self._outputs.get(output.name)
            if index is None:
                raise InvalidRequest(f"{field}: unknown output; the model has {', '.join(self._outputs)}")
            if any(w.index == index for w in wanted):
                raise InvalidRequest(f"{field}: named twice")
            wanted.append(self._wanted(output, index, binary, field))
        return self._answers.plan(tuple(wanted))

    def _wanted(self, output: OutputHead, index: int, binary: bool, field: str) -> WantedOutput:
        own = output.parameters or {}
        for name in own:
            if name.startswith("shared_memory"):
                raise NotSupported(f"{field}: parameter '{name[:64]}': shared memory is not supported")
        classes = _whole(own, "classification", field)
        if "classification" in own:
            spec = self._signature.outputs[index]
            if classes < 1:
                raise InvalidRequest(f"{field}: classification is {classes}: ask for at least 1 class")
            if spec.datatype in (Datatype.BYTES, Datatype.BF16, Datatype.BOOL):
                raise InvalidRequest(f"{field}: classification needs a numeric output, this one is {spec.datatype}")
        return WantedOutput(index, _flag(own, "binary_data", binary, field), classes)


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


def _checked_bools(specs: Sequence[InputSpec], buffers: Sequence[Buffer]) -> tuple[Buffer, ...]:
    """Refuse BOOL bytes that are neither 0 nor 1: numpy would take them and compute nonsense."""
    for spec, buffer in zip(specs, buffers, strict=True):
        is_binary = spec.datatype is Datatype.BOOL and isinstance(buffer, memoryview)
        if is_binary and bytes(buffer).translate(None, b"\x00\x01"):
            raise InvalidRequest(f"input '{spec.name}': a BOOL byte is neither 0 nor 1")
    return tuple(buffers)


def _request_id(text: str) -> bytes:
    try:
        value = text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("id: holds a lone surrogate") from None
    if len(value) > MAX_ID_BYTES:
        raise InvalidRequest(f"id: is {len(value)} bytes long, at most {MAX_ID_BYTES} are taken")
    return value


def _whole(parameters: dict[str, Scalar], name: str, field: str = "parameters") -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise InvalidRequest(f"{field}: parameter '{name}' must be a whole number, not negative")
    return value


def _flag(parameters: dict[str, Scalar], name: str, default: bool, field: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{field}: parameter '{name}' must be true or false")
    return value


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
