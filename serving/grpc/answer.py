"""Answers as ModelInferResponse messages, written by hand: the constant parts once, then one join an answer.

Outputs always travel as raw contents, in the order in which they are described, as Triton's do.
"""

from __future__ import annotations

from collections.abc import Sequence

from export.contracts.datatypes import Datatype
from export.contracts.signature import Signature
from serving.answer import AnswerPlan, AnswerPlans, BatchOutputs, WantedOutput, bytes_view
from serving.grpc.messages import messages
from serving.tensors import encode_bytes

_KEPT = 256
_ID = b"\x1a"  # ModelInferResponse.id
_RAW = b"\x32"  # ModelInferResponse.raw_output_contents


def varint(value: int) -> bytes:
    r"""A length as protobuf writes it.

    Example:
        >>> varint(300)
        b'\xac\x02'
    """
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


class MessageAnswerPlan(AnswerPlan):
    """How to answer gRPC requests that want these outputs; `render` returns no headers, and the message."""

    __slots__ = ("_descriptions", "_numeric")

    def __init__(self, plans: AnswerPlans, wanted: tuple[WantedOutput, ...]) -> None:
        super().__init__(plans, wanted)
        self._numeric = all(
            not w.classification and not w.softmax and plans.specs[w.index].datatype is not Datatype.BYTES
            for w in wanted
        )
        self._descriptions: dict[tuple[int, tuple[tuple[int, ...], ...]], tuple[bytes, tuple[bytes, ...]]] = {}

    def render(self, outputs: BatchOutputs, request_id: bytes, start: int, rows: int) -> tuple[bytes, bytes]:
        """The answer of the request that owns rows [start, start + rows).

        Args:
            outputs: The batch's outputs.
            request_id: The id as UTF-8.
            start: First row.
            rows: Number of rows.

        Returns:
            No header lines, and the serialised ModelInferResponse.
        """
        if not self._numeric:
            return b"", self._render_text(outputs, request_id, start, rows)
        key = (rows, outputs.key)
        known = self._descriptions.get(key)
        if known is None:
            known = self._describe_all(key, outputs)
        described, lengths = known
        parts: list[bytes | memoryview] = [self._plans.before_id, _ID, varint(len(request_id)), request_id, described]
        for wanted, length in zip(self.wanted, lengths, strict=True):
            view, size = outputs.views[wanted.index], outputs.row_bytes[wanted.index]
            assert view is not None  # a wanted output is always run
            parts.append(length)
            parts.append(view[start * size : (start + rows) * size])
        return b"", b"".join(parts)

    def _describe_all(
        self, key: tuple[int, tuple[tuple[int, ...], ...]], outputs: BatchOutputs
    ) -> tuple[bytes, tuple[bytes, ...]]:
        """All descriptions, and what stands before each raw content."""
        rows = key[0]
        plans = self._plans
        described, lengths = [], []
        for wanted in self.wanted:
            spec, shape = plans.specs[wanted.index], outputs.row_shapes[wanted.index]
            described.append(_description(spec.name, spec.datatype, (rows, *shape) if plans.batched else shape))
            lengths.append(_RAW + varint(outputs.row_bytes[wanted.index] * rows))
        known = b"".join(described), tuple(lengths)
        if len(self._descriptions) >= _KEPT:
            self._descriptions.clear()
        self._descriptions[key] = known
        return known

    def _render_text(self, outputs: BatchOutputs, request_id: bytes, start: int, rows: int) -> bytes:
        """The answer when BYTES or classes are among the outputs."""
        plans, raws = self._plans, []
        parts: list[bytes | memoryview] = [plans.before_id, _ID, varint(len(request_id)), request_id]
        for wanted in self.wanted:
            part, datatype = self.part(wanted, outputs, start, rows)
            data = encode_bytes(part) if datatype is Datatype.BYTES else bytes_view(part)
            parts.append(_description(plans.specs[wanted.index].name, datatype, part.shape))
            raws += [_RAW, varint(len(data)), data]
        return b"".join((*parts, *raws))


def _description(name: str, datatype: Datatype, shape: tuple[int, ...]) -> bytes:
    """One output without its data, as a field of ModelInferResponse."""
    message = messages().ModelInferResponse()
    message.outputs.add(name=name, datatype=datatype.value, shape=shape)
    described: bytes = message.SerializeToString()
    return described


class MessageAnswers(AnswerPlans):
    """All gRPC answer plans of one version, and what they share.

    Args:
        model, version: Echoed in every answer.
        signature: The outputs.
        class_names: Labels for the classification extension.
        always: Indices of the outputs that every batch runs anyway.
    """

    def __init__(
        self, model: str, version: str, signature: Signature, class_names: Sequence[str], always: Sequence[int]
    ) -> None:
        super().__init__(model, version, signature, class_names, "error", always)
        head = messages().ModelInferResponse(model_name=model, model_version=version)
        self.before_id = head.SerializeToString()

    def make(self, wanted: tuple[WantedOutput, ...]) -> AnswerPlan:
        """A plan that writes messages."""
        return MessageAnswerPlan(self, wanted)
