"""What a request asks for, checked against a version's signature: everything about it except its tensors.

`RequestHead` is the JSON part as it came; `PlanMaker` turns it into a `RequestPlan` or refuses it, naming the field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest, NotSupported, PayloadTooLarge
from export.contracts.signature import InputSpec, Signature
from serving.answer import AnswerPlan, AnswerPlans, WantedOutput
from serving.options import Limits
from serving.postprocess import check_softmax
from serving.queueing.policy import DEFAULT_POLICY, QueuePolicy

MAX_ID_BYTES = 128
MAX_OUTPUTS = 256

Shapes: TypeAlias = tuple[tuple[int, ...], ...]
QueueKey: TypeAlias = tuple[int, Shapes | None]
Scalar: TypeAlias = str | int | float | bool


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
        timeout_ns: The client's time limit as far as the queue policy allows it, or the policy's; 0 for none.
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


class PlanMaker:
    """Makes the plans of one version.

    Args:
        signature: What the tensors must look like.
        limits: Rows and elements.
        answers: Answer plans of the version, shared with whoever renders.
        policy: What priorities and time limits mean.
    """

    def __init__(
        self, signature: Signature, limits: Limits, answers: AnswerPlans, policy: QueuePolicy = DEFAULT_POLICY
    ) -> None:
        self.policy = policy
        self._signature = signature
        self._limits = limits
        self._answers = answers
        self._index = {spec.name: i for i, spec in enumerate(signature.inputs)}
        self._outputs = {spec.name: i for i, spec in enumerate(signature.outputs)}
        self.variable = any(-1 in spec.shape[signature.batched :] for spec in signature.inputs)

    def plan(self, head: RequestHead) -> RequestPlan:
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
        level = self.policy.level(_whole(parameters, "priority"))
        return RequestPlan(
            id=_request_id(head.id),
            rows=rows,
            queue=(
                level,
                tuple(s[self._signature.batched :] for s in shapes) if self.variable else None,
            ),
            shapes=tuple(shapes),
            sizes=tuple(sizes),
            order=tuple(positions[i] for i in range(len(shapes))),
            answer=self._answer(head, parameters),
            timeout_ns=self.policy.timeout_ns(level, _whole(parameters, "timeout") * 1000),
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
        elements = self.check_elements(spec.name, shape, field)
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

    def check_elements(self, name: str, shape: tuple[int, ...], field: str | None = None) -> int:
        """Number of elements of a shape, if it is one that the limits allow."""
        elements = math.prod(shape)
        # A dimension must be possible by itself: [0, 2**62] has no elements and is still no array.
        most = max(elements, *shape) if shape else elements
        if most > self._limits.elements:
            where = field or f"input '{name}'"
            shown = str(most) if most < 1 << 63 else "2^63 or more"
            raise PayloadTooLarge(f"{where}: shape has {shown} elements, the limit is {self._limits.elements}")
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
            if spec.datatype in (Datatype.BYTES, Datatype.BOOL):
                raise InvalidRequest(f"{field}: classification needs a numeric output, this one is {spec.datatype}")
        softmax = _flag(own, "softmax", False, field)
        if softmax:
            check_softmax(self._signature.outputs[index], self._signature.batched, field)
        return WantedOutput(index, _flag(own, "binary_data", binary, field), classes, softmax)


def _request_id(text: str) -> bytes:
    try:
        value = text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("id: holds a lone surrogate") from None
    checked_request_id(value)
    return value


def checked_request_id(value: bytes) -> None:
    """Refuse an id that is too long or not UTF-8."""
    if len(value) > MAX_ID_BYTES:
        raise InvalidRequest(f"id: is {len(value)} bytes long, at most {MAX_ID_BYTES} are taken")
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest("id: is not UTF-8") from None


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
