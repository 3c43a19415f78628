"""A case's inputs for a page: pictures, values with what is usual, text, heat maps."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from export.contracts import descriptors
from export.contracts.arrays import decode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Manifest
from export.contracts.signature import InputKind, InputSpec
from monitoring.baseline import Baseline, QuantityKind
from monitoring.case_rows import InputState
from monitoring.console import words
from monitoring.console.build import Builder
from monitoring.console.input_parts import Cell, InputKindShown, InputsBlock, InputView
from monitoring.images import is_picture, to_array
from monitoring.rows import CaseRow, TensorRow
from monitoring.thumbnails import DIRECTION as THUMBNAILS

MAX_CELLS = 64
MAX_TEXT = 20_000  # characters
MAX_WATCHED_BYTES = 8 << 20  # of an input whose look is measured for a page
LOW, HIGH = 1, 99  # percentiles of the reference between which a value is usual
Array = npt.NDArray[Any]


def inputs_of(builder: Builder, row: CaseRow, tensors: tuple[TensorRow, ...]) -> InputsBlock:
    """Everything there is to see of what came in.

    Args:
        builder: Store and catalogue.
        row: The case.
        tensors: What was kept of it.
    """
    manifest = builder.view.manifest(row.model, row.version)
    specs = {} if manifest is None else {s.name: s for s in manifest.signature.inputs}
    kept = [t for t in tensors if t.direction == ("in" if row.input_state == InputState.KEPT else THUMBNAILS)]
    if not kept:
        why = words.plain(row.input_state)
        return InputsBlock(views=(InputView(name="input", kind=InputKindShown.NOTHING, note="", why=why),), unusual=())
    baseline = builder.view.baseline(row.model, row.version)
    values = _values(manifest, baseline, row, kept)
    usual = [_cell(baseline, i, name, value) for name, (i, value) in values.items()]
    views = tuple(_view(row, t, specs.get(t.name), baseline, values) for t in kept)
    looks = {q.name for q in baseline.quantities if q.kind is QuantityKind.DESCRIPTOR}
    several = len(kept) > 1
    return InputsBlock(
        views=views,
        unusual=tuple(
            Cell(name=_look(c.name, several), value=c.value, usual=c.usual, level=c.level)
            for c in usual
            if c.level and c.name in looks
        ),
    )


def _view(
    row: CaseRow,
    tensor: TensorRow,
    spec: InputSpec | None,
    baseline: Baseline,
    values: dict[str, tuple[int, float]],
) -> InputView:
    shape = ", ".join(str(n) for n in tensor.shape)
    note = f"{tensor.datatype} [{shape}] · {words.size(len(tensor.data))}"
    asked = urlencode({"name": tensor.name})
    download = f"/api/cases/{row.id}/input?{asked}"
    if tensor.direction == THUMBNAILS:
        src = f"/api/cases/{row.id}/input.png?{asked}"
        return InputView(name=tensor.name, kind=InputKindShown.PICTURE, note=words.plain(row.input_state), src=src)
    if spec is not None and is_picture(spec):
        src = f"/api/cases/{row.id}/input.png?{asked}"
        width, height = _size(spec, tensor)
        kind = InputKindShown.PICTURE
        return InputView(name=tensor.name, kind=kind, note=note, src=src, width=width, height=height, download=download)
    try:
        return _numbers_or_text(row, tensor, spec, baseline, values, note, download)
    except (ValueError, IndexError):
        why = "what was recorded does not fit the signature"
        return InputView(name=tensor.name, kind=InputKindShown.NOTHING, note=note, download=download, why=why)


def _numbers_or_text(
    row: CaseRow,
    tensor: TensorRow,
    spec: InputSpec | None,
    baseline: Baseline,
    values: dict[str, tuple[int, float]],
    note: str,
    download: str,
) -> InputView:
    place = row_of(row, tensor)
    if tensor.datatype == Datatype.BYTES:
        items = decode_bytes(tensor.data, tensor.shape)[place]
        text = "\n".join(bytes(item).decode("utf-8", "replace") for item in np.atleast_1d(items).reshape(-1))
        shown = visible(text[:MAX_TEXT])
        return InputView(
            name=tensor.name,
            kind=InputKindShown.TEXT,
            note=note,
            text=shown,
            cut=len(text) > MAX_TEXT,
            download=download,
        )
    array = to_array(tensor.data, Datatype(tensor.datatype), tensor.shape)[place]
    names = feature_names(spec, tensor.name, array.size)
    tabular = spec is not None and spec.display.kind is InputKind.TABULAR
    if not tabular and not (array.ndim <= 1 and array.size <= MAX_CELLS):
        src = f"/api/cases/{row.id}/heat.png?{urlencode({'name': tensor.name})}"
        finite = array[np.isfinite(array)]
        spread = f" · {words.figure(float(finite.min()))} to {words.figure(float(finite.max()))}" if finite.size else ""
        kind = InputKindShown.HEAT
        return InputView(name=tensor.name, kind=kind, note=note + spread, src=src, download=download)
    cells = [
        _cell(baseline, values[name][0], name, float(value)) if name in values else _plain(name, float(value))
        for name, value in zip(names, array.reshape(-1), strict=True)
    ]
    cells = [Cell(name=_short(c.name, tensor.name), value=c.value, usual=c.usual, level=c.level) for c in cells]
    order = sorted(range(len(cells)), key=lambda i: (not cells[i].level, i))[:MAX_CELLS]
    chosen = tuple(cells[i] for i in order)
    return InputView(
        name=tensor.name,
        kind=InputKindShown.TABLE,
        note=note,
        cells=chosen,
        hidden=len(cells) - len(chosen),
        download=download,
    )


def _size(spec: InputSpec, tensor: TensorRow) -> tuple[int, int]:
    """Width and height in the picture's own pixels; zeros for encoded images, whose files say it."""
    layout = spec.display.layout or ""
    if spec.preprocess is not None or len(tensor.shape) < len(layout):
        return 0, 0
    inner = dict(zip(layout, tensor.shape[-len(layout) :], strict=True))
    return inner.get("W", 0), inner.get("H", 0)


def row_of(case: CaseRow, tensor: TensorRow) -> int:
    """Where the case's row is in a kept tensor, which holds the whole request or just that row."""
    return case.row if tensor.shape and tensor.shape[0] > 1 else 0


def feature_names(spec: InputSpec | None, name: str, count: int) -> list[str]:
    """Names of the elements, as the reference calls them."""
    if spec is not None and len(spec.display.feature_names) == count:
        return [f"{name}.{feature}" for feature in spec.display.feature_names]
    return [f"{name}[{i}]" for i in range(count)]


def visible(text: str) -> str:
    r"""Text whose control characters and direction marks can be seen, so that what is read is what was sent.

    Example:
        >>> visible("a\u202eb\x07\n")
        'a⟨U+202E⟩b⟨U+0007⟩\n'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else f"⟨U+{ord(c):04X}⟩" for c in text)


def _values(
    manifest: Manifest | None, baseline: Baseline, row: CaseRow, kept: list[TensorRow]
) -> dict[str, tuple[int, float]]:
    """{watched column: (its place in the baseline, its value in this row)}; empty where that cannot be worked out."""
    if manifest is None or not baseline.input_columns or sum(len(t.data) for t in kept) > MAX_WATCHED_BYTES:
        return {}
    inputs: dict[str, Array] = {}
    try:
        for t in kept:
            place = row_of(row, t)
            if t.datatype == Datatype.BYTES:
                array = decode_bytes(t.data, t.shape)
            elif t.datatype == Datatype.BF16:
                array = np.frombuffer(t.data, dtype=np.uint16).reshape(t.shape)
            else:
                array = to_array(t.data, Datatype(t.datatype), t.shape)
            inputs[t.name] = array[place : place + 1] if manifest.signature.batched else array
        frame = descriptors.frame(manifest.signature, inputs)
    except (ValueError, KeyError, IndexError):
        return {}  # recorded under another signature, or incomplete: shown without what is usual
    names = descriptors.columns(manifest.signature)
    return {n: (baseline.index[n], float(frame[0, i])) for i, n in enumerate(names) if n in baseline.index}


def _cell(baseline: Baseline, place: int, name: str, value: float) -> Cell:
    low, high = float(baseline.edges[place, LOW]), float(baseline.edges[place, HIGH])
    known = bool(baseline.counted[place]) and low <= high
    level = ""
    if known and not math.isfinite(value):
        level = "not a number"
    elif known and value < low:
        level = "far below usual"
    elif known and value > high:
        level = "far above usual"
    usual = f"{words.figure(low)} to {words.figure(high)}" if known else ""
    return Cell(name=name, value=words.figure(value), usual=usual, level=level)


def _plain(name: str, value: float) -> Cell:
    return Cell(name=name, value=words.figure(value), usual="", level="")


def _short(name: str, tensor: str) -> str:
    return name.removeprefix(f"{tensor}.") if name.startswith(f"{tensor}.") else name


def _look(name: str, several: bool) -> str:
    tensor, _, look = name.rpartition(":")
    return f"{look} of {tensor}" if several else look
