"""Answers: from a batch's output arrays to the bytes that one request gets back.

An `AnswerPlan` is the list of wanted outputs, and how each travels. Plans are shared by all requests that want the
same, and remember the constant text of their answers, so that the common answer (all outputs binary, fixed shapes) is
one join of four byte strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import orjson

from export.contracts.bf16 import numbers
from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed
from export.contracts.signature import OutputRole, OutputSpec, Signature
from serving.postprocess import classify, softmax
from serving.tensors import Array, encode_bytes, encode_json

_TEMPLATES_KEPT = 256
_PLANS_KEPT = 256
_BINARY_HEADERS = (
    b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n"
)
_JSON_HEADERS = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """One wanted output: its index in the signature, binary or JSON, and the classes wanted (0: the tensor itself).

    `softmax` asks for probabilities in the place of class scores.
    """

    index: int
    binary: bool
    classification: int = 0
    softmax: bool = False


class BatchOutputs:
    """The outputs of one execution, with what slicing them by rows needs.

    Args:
        arrays: By index into the signature's outputs; None for outputs that were not run.
        rows: Rows of the batch.
        batched: Whether axis 0 is the batch axis.

    Raises:
        ModelFailed: an output has another number of rows than the inputs had.
    """

    __slots__ = ("_finite", "_rows_json", "arrays", "key", "row_bytes", "row_shapes", "views")

    def __init__(self, specs: Sequence[OutputSpec], arrays: Sequence[Array | None], rows: int, batched: bool) -> None:
        self.arrays = arrays
        self.views: list[memoryview | None] = []
        self.row_bytes: list[int] = []
        self.row_shapes: list[tuple[int, ...]] = []
        for spec, array in zip(specs, arrays, strict=True):
            if array is None:
                self.views.append(None)
                self.row_bytes.append(0)
                self.row_shapes.append(())
                continue
            shape = array.shape
            if batched and (not shape or shape[0] != rows):
                got = shape[0] if shape else "no"
                raise ModelFailed(f"output '{spec.name}' has {got} rows for {rows} rows of input")
            self.views.append(None if array.dtype.hasobject else bytes_view(array))
            self.row_bytes.append(array.nbytes // rows)
            self.row_shapes.append(shape[1:] if batched else shape)
        self.key = tuple(self.row_shapes)
        self._finite: dict[int, bool] = {}
        self._rows_json: dict[int, list[bytes] | None] = {}

    def finite(self, index: int) -> bool:
        """Whether a float output is finite everywhere; looked at once a batch."""
        known = self._finite.get(index)
        if known is None:
            array = self.arrays[index]
            assert array is not None  # a wanted output is always run
            known = self._finite[index] = bool(np.isfinite(array).all())
        return known

    def rows_json(self, index: int, start: int, rows: int) -> bytes | None:
        """Rows of a finite (row, element) output as one flat JSON list, when that is cheaper than by themselves.

        The second request of a batch that asks has the whole output written as JSON at once; the first is not made to
        wait for rows that nobody may want as JSON.
        """
        array = self.arrays[index]
        assert array is not None  # a wanted output is always run
        if array.ndim != 2 or not array.shape[1] or array.dtype.hasobject:
            return None
        if index not in self._rows_json:
            self._rows_json[index] = None
            return None
        lines = self._rows_json[index]
        if lines is None:
            text = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
            lines = self._rows_json[index] = text[2:-2].split(b"],[")
        return b"[" + (lines[start] if rows == 1 else b",".join(lines[start : start + rows])) + b"]"


def bytes_view(array: Array) -> memoryview:
    """The bytes of an array that lies in one piece."""
    return array.data.cast("B") if array.size else memoryview(b"")


@dataclass(frozen=True, slots=True)
class _Template:
    """Constant text around the id of an all-binary answer."""

    headers: bytes
    before_id: bytes
    after_id: bytes


class AnswerPlan:
    """How to answer requests that want these outputs.

    Args:
        plans: The version's names, specs and settings.
        wanted: In the order in which the answer lists them.
    """

    __slots__ = ("_heads", "_plain", "_plans", "_single", "_templates", "extra", "wanted")

    def __init__(self, plans: AnswerPlans, wanted: tuple[WantedOutput, ...]) -> None:
        self.wanted = wanted
        self.extra = tuple(w.index for w in wanted if w.index not in plans.always)  # must be run for this answer
        self._plans = plans
        self._plain = all(
            w.binary and not w.classification and not w.softmax and plans.specs[w.index].datatype is not Datatype.BYTES
            for w in wanted
        )
        self._single = wanted[0].index if len(wanted) == 1 else -1
        self._heads: dict[tuple[int, tuple[tuple[int, ...], ...]], list[bytes]] = {}
        self._templates: dict[tuple[int, int, tuple[tuple[int, ...], ...]], _Template] = {}

    def render(self, outputs: BatchOutputs, id_json: bytes, start: int, rows: int) -> tuple[bytes, bytes]:
        """The answer of the request that owns rows [start, start + rows).

        Args:
            outputs: The batch's outputs.
            id_json: The id, escaped for JSON, without quotes.
            start: First row.
            rows: Number of rows.

        Returns:
            Header lines with the blank line that ends them, and the body.

        Raises:
            InvalidRequest: an output cannot travel in the wanted form.
            ModelFailed: non-finite values in JSON, when settings make that an error.
        """
        if not self._plain:
            return self._render_mixed(outputs, id_json, start, rows)
        key = (rows, len(id_json), outputs.key)
        template = self._templates.get(key)
        if template is None:
            template = self._make_template(key, outputs)
        single = self._single
        if single >= 0:
            view, size = outputs.views[single], outputs.row_bytes[single]
            assert view is not None  # a wanted output is always run
            data = view[start * size : (start + rows) * size]
            return template.headers, b"".join((template.before_id, id_json, template.after_id, data))
        parts = [template.before_id, id_json, template.after_id]
        for wanted in self.wanted:
            view, size = outputs.views[wanted.index], outputs.row_bytes[wanted.index]
            assert view is not None
            parts.append(view[start * size : (start + rows) * size])  # type: ignore[arg-type]
        return template.headers, b"".join(parts)

    def _make_template(self, key: tuple[int, int, Any], outputs: BatchOutputs) -> _Template:
        rows, id_length, _ = key
        before = self._plans.before_id
        items, total = [], 0
        for wanted in self.wanted:
            size = outputs.row_bytes[wanted.index] * rows
            total += size
            items.append(self._describe(wanted, outputs, rows) + b',"parameters":{"binary_data_size":%d}}' % size)
        after = b'","outputs":[' + b",".join(items) + b"]}"
        length = len(before) + id_length + len(after)
        template = _Template(_BINARY_HEADERS % (length, length + total), before, after)
        if len(self._templates) >= _TEMPLATES_KEPT:
            self._templates.clear()
        self._templates[key] = template
        return template

    def _describe(self, wanted: WantedOutput, outputs: BatchOutputs, rows: int) -> bytes:
        spec = self._plans.specs[wanted.index]
        shape = outputs.row_shapes[wanted.index]
        full = (rows, *shape) if self._plans.batched else shape
        return _head(spec.name, spec.datatype, full)

    def _render_mixed(self, outputs: BatchOutputs, id_json: bytes, start: int, rows: int) -> tuple[bytes, bytes]:
        plans, items = self._plans, []
        binary: list[bytes | memoryview] = []
        for wanted, described in zip(self.wanted, self._described(outputs, rows), strict=True):
            spec, head = plans.specs[wanted.index], described
            part, datatype = self.part(wanted, outputs, start, rows)
            if wanted.classification:
                head = _head(spec.name, datatype, part.shape)
            if wanted.binary:
                data = encode_bytes(part) if datatype is Datatype.BYTES else bytes_view(part)
                binary.append(data)
                items.append(head + b',"parameters":{"binary_data_size":%d}}' % len(data))
            else:
                finite = not datatype.is_float or outputs.finite(wanted.index)
                text = None
                same = datatype is spec.datatype and not wanted.softmax
                if finite and plans.batched and same and datatype is not Datatype.BF16:
                    text = outputs.rows_json(wanted.index, start, rows)
                data = text or encode_json(part, datatype, spec.name, None if finite else plans.non_finite)
                items.append(head + b',"data":' + data + b"}")
        text = plans.before_id + id_json + b'","outputs":[' + b",".join(items) + b"]}"
        if not binary:
            return _JSON_HEADERS % len(text), text
        body = b"".join((text, *binary))
        return _BINARY_HEADERS % (len(text), len(body)), body

    def part(self, wanted: WantedOutput, outputs: BatchOutputs, start: int, rows: int) -> tuple[Array, Datatype]:
        """One request's rows of an output, with done to them what it wants done, and what they are then."""
        spec, array = self._plans.specs[wanted.index], outputs.arrays[wanted.index]
        assert array is not None  # a wanted output is always run
        part = array[start : start + rows] if self._plans.batched else array
        if wanted.softmax:
            part = softmax(part, spec)
        if wanted.classification:
            scores = numbers(spec.datatype, part)
            return classify(
                scores, wanted.classification, self._plans.labels(spec), self._plans.batched
            ), Datatype.BYTES
        return part, spec.datatype

    def _described(self, outputs: BatchOutputs, rows: int) -> list[bytes]:
        """The constant beginning of each output's description."""
        key = (rows, outputs.key)
        heads = self._heads.get(key)
        if heads is None:
            if len(self._heads) >= _TEMPLATES_KEPT:
                self._heads.clear()
            heads = self._heads[key] = [self._describe(w, outputs, rows) for w in self.wanted]
        return heads


class AnswerPlans:
    """All answer plans of one version, and what they share.

    Args:
        model, version: Echoed in every answer.
        signature: The outputs.
        class_names: Labels for the classification extension, when they fit the output.
        non_finite: What NaN and infinity become in JSON.
        always: Indices of the outputs that every batch runs anyway.
    """

    def __init__(
        self,
        model: str,
        version: str,
        signature: Signature,
        class_names: Sequence[str],
        non_finite: str,
        always: Sequence[int],
    ) -> None:
        self.always = frozenset(always)
        self.specs = signature.outputs
        self.batched = signature.batched
        self.non_finite = non_finite
        self.before_id = b'{"model_name":%s,"model_version":%s,"id":"' % (_text(model), _text(version))
        self._class_names = tuple(class_names)
        self._plans: dict[tuple[WantedOutput, ...], AnswerPlan] = {}
        default = [i for i, spec in enumerate(self.specs) if spec.role.answered_by_default]
        self._default = {
            binary: self.make(tuple(WantedOutput(i, binary) for i in default or range(len(self.specs))))
            for binary in (False, True)
        }

    def make(self, wanted: tuple[WantedOutput, ...]) -> AnswerPlan:
        """A plan for the transport of these answers: HTTP, unless a subclass says otherwise."""
        return AnswerPlan(self, wanted)

    def default(self, *, binary: bool) -> AnswerPlan:
        """The plan of a request that names no outputs: all but embeddings and internal ones."""
        return self._default[binary]

    def plan(self, wanted: tuple[WantedOutput, ...]) -> AnswerPlan:
        """The plan for exactly these outputs."""
        found = self._plans.get(wanted)
        if found is None:
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            found = self._plans[wanted] = self.make(wanted)
        return found

    def labels(self, spec: OutputSpec) -> tuple[str, ...]:
        """Class names that belong to an output; empty when it is not the class scores."""
        return self._class_names if spec.role in (OutputRole.LOGITS, OutputRole.PROBABILITIES) else ()


def _head(name: str, datatype: Datatype, shape: tuple[int, ...]) -> bytes:
    """An output's description up to its data or parameters, without the closing brace."""
    dims = ",".join(map(str, shape))
    return b'{"name":%s,"datatype":"%s","shape":[%s]' % (_text(name), datatype.encode(), dims.encode())


def _text(value: str) -> bytes:
    return msgspec.json.encode(value)


def escaped(request_id: bytes) -> bytes:
    """A client's id as it stands between the quotes of a JSON string."""
    return msgspec.json.encode(request_id.decode())[1:-1]
