"""The parser's fuzz target: bytes → a request → parser and oracle must agree, and only HardcaseError may come out.

`check` is driven by Hypothesis in the suite and by libFuzzer (`benchmarks/fuzz_parser.py`). The first byte picks a
signature, the second how the rest is used: as a body as it is, or as a list of choices that build a request which is
valid but for what the choices spoil. Parsers live as long as the process, so what they remember between requests is
under test as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import HardcaseError
from export.contracts.signature import InputSpec, OutputRole, OutputSpec, Signature
from serving.answer import AnswerPlans
from serving.options import Limits
from serving.protocol import ParsedRequest, RequestParser
from serving.queueing.policy import DEFAULT_POLICY
from tests.support.parser_oracle import Expected, Refused, expect

LIMITS = Limits(rows=8, elements=4096, json_header_bytes=4096)
MAX_MESSAGE_CHARS = 600


def _signature(inputs: list[tuple[str, Datatype, tuple[int, ...]]], *, batched: bool = True) -> Signature:
    return Signature(
        inputs=tuple(InputSpec(name=n, datatype=d, shape=s) for n, d, s in inputs),
        outputs=(
            OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, 10), role=OutputRole.LOGITS),
            OutputSpec(name="embedding", datatype=Datatype.FP32, shape=(-1, 4), role=OutputRole.EMBEDDING),
            OutputSpec(name="words", datatype=Datatype.BYTES, shape=(-1, 2)),
        ),
        batched=batched,
    )


@dataclass(frozen=True)
class Subject:
    """A signature and the one parser that all executions share."""

    signature: Signature
    parser: RequestParser


def _subject(signature: Signature) -> Subject:
    answers = AnswerPlans("m", "1", signature, ("a", "b"), "error", [0])
    return Subject(signature, RequestParser(signature, LIMITS, answers))


SUBJECTS = tuple(
    _subject(s)
    for s in (
        _signature([("x", Datatype.FP32, (-1, 1, 2, 2))]),
        _signature([("x", Datatype.FP32, (-1, -1))]),
        _signature([("a", Datatype.FP32, (-1, 3)), ("b", Datatype.INT64, (-1, 2, 2))]),
        _signature([("text", Datatype.BYTES, (-1, 1))]),
        _signature([(d.value, d, (-1, 2)) for d in (Datatype.BOOL, Datatype.UINT8, Datatype.INT8, Datatype.BF16)]),
        _signature([(d.value, d, (-1, 2)) for d in (Datatype.UINT16, Datatype.INT16, Datatype.UINT32)]),
        _signature([(d.value, d, (-1, 2)) for d in (Datatype.INT32, Datatype.UINT64, Datatype.FP64)]),
        _signature([("x", Datatype.FP32, (3,)), ("n", Datatype.UINT8, ())], batched=False),
        _signature([("flag", Datatype.BOOL, (-1, -1)), ("w", Datatype.BYTES, (-1, -1))]),
        _signature([("h", Datatype.FP16, (-1, -1, -1))]),
    )
)


class Choices:
    """A stream of decisions read from bytes; zeros when they are used up, so that short inputs are plain requests."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)
        # The next byte. The target's speed is the speed of this call.
        self.byte: Callable[[], int] = partial(next, self._bytes, 0)

    def take(self, count: int) -> bytes:
        """The next bytes, filled up with zeros."""
        return bytes(islice(self._bytes, count)).ljust(count, b"\x00")

    def oddly(self) -> bool:
        """True for one byte in sixteen."""
        return self.byte() % 16 == 15

    def rest(self) -> bytes:
        """All that is left."""
        return bytes(self._bytes)


ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 4096, 1 << 31, 1 << 62, 1 << 64, 10**30, 10**5000, 0.0, 1.0, 0.5, -0.0, 1e300),
    *("", "x", "1", "\ud800", "é" * 70, "y" * 200, [], [1], [[]], {}, {"a": 1}, [None], math.nan, math.inf),
)
NAMES = ("logits", "embedding", "words", "x", "a", "b", "text", "FP64", "nowhere", "", "\ud800")
PARAMETERS = (
    *("binary_data_size", "binary_data", "binary_data_output", "classification", "softmax", "timeout", "priority"),
    *("triton_x", "hardcase_x", "shared_memory_region", "mine"),
)


def build(data: bytes) -> tuple[Subject, bytes | None, bytes]:
    """The subject, the raw header value and the body that some bytes stand for."""
    choices = Choices(data)
    subject = SUBJECTS[choices.byte() % len(SUBJECTS)]
    mode = choices.byte() % 16
    if mode == 0:
        return subject, None, choices.rest()
    if mode == 1:
        return subject, b"0", choices.rest()
    if mode == 2:
        return subject, choices.take(choices.byte() % 21).rstrip(b"\x00"), choices.rest()
    if mode == 3:
        length = int.from_bytes(choices.take(2), "little")
        return subject, b"%d" % length, choices.rest()
    return (subject, *_request(subject.signature, choices))


def _request(signature: Signature, choices: Choices) -> tuple[bytes | None, bytes]:
    binary = choices.byte() % 3  # 0 all binary, 1 all JSON, 2 as each input says
    rows = 1 + choices.byte() % 3
    inputs, tail = [], b""
    order = list(signature.inputs)
    if choices.oddly():
        order.reverse()
    for spec in order:
        item, data = _input(spec, rows, signature.batched, binary, choices)
        inputs.append(item)
        tail += data
    if choices.oddly() and inputs:
        inputs.append(inputs[choices.byte() % len(inputs)])
    if choices.oddly():
        inputs.pop()
    head: dict[str, Any] = {"inputs": inputs}
    if choices.byte() % 4 == 1:
        head["id"] = "r" + choices.take(2).hex()
    if choices.byte() % 4 == 1:
        head["parameters"] = _parameters(choices)
    if choices.byte() % 4 == 1:
        head["outputs"] = [_output(choices) for _ in range(choices.byte() % 4)]
    if choices.oddly():
        head[("id", "inputs", "outputs", "parameters", "extra")[choices.byte() % 5]] = _odd(choices)
    text = _dumps(head)
    if choices.oddly():
        at = choices.byte() * 3 % (len(text) + 1)
        text = text[:at] + choices.take(1 + choices.byte() % 2) + text[at + choices.byte() % 3 :]
    if choices.oddly():
        tail = tail[: choices.byte()] + choices.take(choices.byte() % 5)
    length: bytes | None = b"%d" % len(text)
    if choices.oddly():
        length = (None, b"0", b"-1", b"+1", b"01", b"", b"1e1", b"%d" % (len(text) + 1), b"9" * 19)[choices.byte() % 9]
    elif not tail and choices.byte() % 2:
        length = None
    return length, text + tail


def _input(spec: InputSpec, rows: int, batched: bool, binary: int, choices: Choices) -> tuple[dict[str, Any], bytes]:
    shape = [choices.byte() % 4 if d == -1 else d for d in spec.shape]
    if batched:
        shape[0] = rows
    item: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype.value, "shape": shape}
    elements = math.prod(shape)
    data = b""
    as_json = binary == 1 or (binary == 2 and choices.byte() % 2 == 1)
    if as_json and spec.datatype is not Datatype.BF16:
        flat = _json_elements(spec.datatype, elements, choices)
        item["data"] = _nest(flat, shape) if choices.byte() % 2 and shape else flat
    else:
        data = _binary_elements(spec.datatype, elements, choices)
        item["parameters"] = {"binary_data_size": len(data)}
    if choices.oddly():
        field = ("name", "datatype", "shape", "data", "parameters")[choices.byte() % 5]
        if field == "shape" and choices.byte() % 2:
            item["shape"] = [*shape[:-1], _odd(choices)]
        elif field == "parameters" and choices.byte() % 2:
            item["parameters"] = {**item.get("parameters", {}), **_parameters(choices)}
        elif choices.byte() % 4 == 1:
            item.pop(field, None)
        else:
            item[field] = _odd(choices)
    return item, data


def _json_elements(datatype: Datatype, elements: int, choices: Choices) -> list[Any]:
    flat: list[Any] = []
    for _ in range(elements):
        value = choices.byte()
        if datatype is Datatype.BYTES:
            flat.append("é" * (value % 3))
        elif datatype is Datatype.BOOL:
            flat.append(value % 2 == 1)
        else:
            flat.append(value % 128 / 4 if datatype.is_float else value % 128)
    if flat and choices.oddly():
        flat[choices.byte() % len(flat)] = _odd(choices)
    if flat and choices.oddly():
        info = (127, 128, 255, 256, -128, -129, 1 << 63, -(1 << 63), (1 << 64) - 1, 65504, 65505, 3.5e38, 1 << 128)
        flat[choices.byte() % len(flat)] = info[choices.byte() % len(info)]
    if choices.oddly():
        flat.append(0)
    return flat


def _binary_elements(datatype: Datatype, elements: int, choices: Choices) -> bytes:
    if datatype is Datatype.BYTES:
        parts = []
        for _ in range(elements):
            word = choices.take(choices.byte() % 4)
            size = len(word) if not choices.oddly() else (choices.byte(), 1 << 31, (1 << 32) - 1)[choices.byte() % 3]
            parts.append(size.to_bytes(4, "little") + word)
        return b"".join(parts)
    size = elements * datatype.itemsize
    data = choices.take(min(size, 8)).ljust(size, b"\x01")
    return bytes(b & 1 for b in data) if datatype is Datatype.BOOL and not choices.oddly() else data


def _nest(flat: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) == 1:
        return flat
    step = math.prod(shape[1:])
    return [_nest(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _output(choices: Choices) -> dict[str, Any]:
    item: dict[str, Any] = {"name": NAMES[choices.byte() % len(NAMES)]}
    if choices.byte() % 2:
        item["parameters"] = _parameters(choices)
    return item


def _parameters(choices: Choices) -> dict[str, Any]:
    plain = (True, False, 0, 1, 3, 250_000)
    names = [PARAMETERS[choices.byte() % len(PARAMETERS)] for _ in range(choices.byte() % 3)]
    return {n: _odd(choices) if choices.oddly() else plain[choices.byte() % len(plain)] for n in names}


def _odd(choices: Choices) -> Any:
    return ODD_VALUES[choices.byte() % len(ODD_VALUES)]


_HUGE = "1" + "0" * 5000


_ENCODER = json.JSONEncoder()


def _dumps(head: dict[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(head).encode()
    except ValueError:  # Python refuses to print integers of more than 4300 digits, but a client may send them
        return _dumps_huge(head).encode()


def _dumps_huge(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{_dumps_huge(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumps_huge, value)) + "]"
    return _HUGE if isinstance(value, int) and value.bit_length() > 10_000 else json.dumps(value)


def check(data: bytes) -> bool:
    """Parse what `data` stands for with both, and compare.

    Returns:
        Whether the request was valid.

    Raises:
        AssertionError: they differ, or an error text is not fit for the public.
    """
    subject, header_length, body = build(data)
    expected, why = None, ""
    try:
        expected = expect(subject.signature, LIMITS, body, header_length)
    except Refused as refused:
        why = str(refused)
    parsed = _parse(subject, body, header_length)
    if isinstance(parsed, HardcaseError):
        assert expected is None, f"refused a valid request: {parsed.message}"
        assert 0 < len(parsed.message) <= MAX_MESSAGE_CHARS, len(parsed.message)
        parsed.message.encode()
        assert 400 <= parsed.http_status < 500 or parsed.http_status == 501, parsed.http_status
        return False
    if expected is None:
        # Known and accepted: strings of fields that nobody reads are skipped without being decoded.
        skipped = why == "not JSON" and _holds_other_than_utf8(body, header_length)
        assert skipped, f"took a request that is not valid: {why}"
        return True
    _compare(subject, parsed, expected)
    return True


def _parse(subject: Subject, body: bytes, header_length: bytes | None) -> ParsedRequest | HardcaseError:
    try:
        return subject.parser.parse(body, header_length)
    except HardcaseError as error:
        return error


def _holds_other_than_utf8(body: bytes, header_length: bytes | None) -> bool:
    head = body if header_length is None else body[: int(header_length)]
    try:
        head.decode()
    except UnicodeDecodeError:
        return True
    return False


def _compare(subject: Subject, parsed: ParsedRequest, expected: Expected) -> None:
    plan = parsed.plan
    assert (plan.id.decode(), plan.rows, plan.shapes) == (expected.id, expected.rows, expected.shapes)
    assert (plan.timeout_ns, plan.queue[0]) == (expected.timeout_us * 1000, DEFAULT_POLICY.level(expected.priority))
    names = [spec.name for spec in subject.signature.outputs]
    wanted = tuple((names[w.index], w.binary, w.classification, w.softmax) for w in plan.answer.wanted)
    defaults = tuple((n, expected.binary_output, 0, False) for n in ("logits", "words"))
    assert wanted == (defaults if expected.outputs is None else expected.outputs)
    assert len(parsed.buffers) == len(expected.tensors)
    for spec, shape, buffer, tensor in zip(
        subject.signature.inputs, expected.shapes, parsed.buffers, expected.tensors, strict=True
    ):
        if isinstance(tensor, list):
            assert isinstance(buffer, np.ndarray)
            assert (buffer.shape, buffer.ravel().tolist()) == (shape, tensor)
        elif isinstance(buffer, np.ndarray):
            assert (buffer.shape, buffer.dtype) == (shape, spec.datatype.numpy)
            assert buffer.tobytes() == tensor
        else:
            assert bytes(buffer) == tensor
            assert np.frombuffer(buffer, dtype=spec.datatype.numpy).reshape(shape).size == math.prod(shape)
