"""What annotators see of a case, and what the model said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.contracts.arrays import decode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Manifest, TaskKind
from export.contracts.signature import InputKind, InputSpec
from monitoring.case_rows import InputState
from monitoring.images import is_picture, tensor_png, to_array
from monitoring.integrations.contracts import Sheet
from monitoring.rows import CaseRow, TensorRow
from monitoring.store import Store
from monitoring.thumbnails import DIRECTION as THUMBNAILS

SIDE = 256  # pixels to which small pictures are enlarged
LARGEST = 2048  # pixels to which large files are shrunk
MAX_TEXT = 20_000  # characters
MAX_VALUES = 500  # of a table


class CannotShow(ValueError):
    """There is nothing of this case that an annotator could look at; the text says why, for people."""


def make_sheet(store: Store, case: CaseRow, manifest: Manifest, batch: str = "", link: str = "") -> Sheet:
    """A case as an annotator sees it.

    Raises:
        CannotShow: its input was not kept, or cannot be drawn.
    """
    pictures: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    tables: dict[str, dict[str, str]] = {}
    if case.input_state == InputState.THUMBNAIL:
        pictures = {row.name: row.data for row in store.case_tensors(case.id, THUMBNAILS)}
    elif case.input_state == InputState.KEPT:
        specs = {spec.name: spec for spec in manifest.signature.inputs}
        for tensor in store.case_tensors(case.id, "in"):
            spec = specs.get(tensor.name)
            if spec is None:
                continue
            try:
                _draw(case, tensor, spec, manifest, pictures, texts, tables)
            except (ValueError, IndexError):
                raise CannotShow("the input does not fit its signature and cannot be drawn") from None
    wanted = [spec.name for spec in manifest.signature.inputs]
    missing = [name for name in wanted if name not in pictures and name not in texts and name not in tables]
    if missing:
        raise CannotShow("the input was not kept" if len(missing) == len(wanted) else "part of the input was not kept")
    return Sheet(
        case=case.id,
        model=case.model,
        version=case.version,
        batch=batch,
        pictures=pictures,
        texts=texts,
        tables=tables,
        answer=answer_of(case, manifest),
        confidence=case.confidence,
        link=link,
    )


def answer_of(case: CaseRow, manifest: Manifest) -> Any:
    """What the model said, as a label would say it; boxes as corners with the name of their class."""
    kind, answer = manifest.task.kind, case.answer
    if kind is TaskKind.CLASSIFICATION:
        return case.predicted_label if case.predicted_label is not None else _text(case.predicted)
    if kind is TaskKind.REGRESSION:
        return answer.get("value") if isinstance(answer, dict) else answer
    names = manifest.task.class_names
    if kind is TaskKind.MULTI_LABEL:
        return _labels(answer, names)
    if kind is TaskKind.DETECTION and isinstance(answer, list):
        return [{"box": b["box"], "class": _name(b["class"], names)} for b in answer]
    return None


def picture_size(manifest: Manifest) -> tuple[int, int] | None:
    """Width and height of the first picture as the model sees it; None where they are not fixed."""
    spec = next((s for s in manifest.signature.inputs if is_picture(s)), None)
    if spec is None:
        return None
    own = spec.behind()
    layout = own.display.layout or "HW"
    axes: Mapping[str, int] = dict(zip(layout, own.shape[-len(layout) :], strict=False))
    width, height = axes.get("W", -1), axes.get("H", -1)
    return (width, height) if width > 0 and height > 0 else None


def _draw(
    case: CaseRow,
    tensor: TensorRow,
    spec: InputSpec,
    manifest: Manifest,
    pictures: dict[str, bytes],
    texts: dict[str, str],
    tables: dict[str, dict[str, str]],
) -> None:
    datatype = Datatype(tensor.datatype)
    row = case.row if tensor.shape and tensor.shape[0] > 1 else 0
    if is_picture(spec):
        # Boxes are measured on the picture, so it keeps its size; a file that is too large is shrunk.
        grow = 1 if manifest.task.kind is TaskKind.DETECTION else SIDE
        side = LARGEST if spec.preprocess is not None else grow
        pictures[spec.name] = tensor_png(tensor.data, datatype, tensor.shape, row, spec, side)
    elif datatype is Datatype.BYTES:
        parts = decode_bytes(tensor.data, tensor.shape)[row].reshape(-1)
        texts[spec.name] = "\n".join(_plain(part) for part in parts)[:MAX_TEXT]
    else:
        values = to_array(tensor.data, datatype, tensor.shape)[row]
        if spec.display.kind is InputKind.TABULAR:
            flat = values.reshape(-1)[:MAX_VALUES].tolist()
            names = spec.display.feature_names
            tables[spec.name] = {
                names[i] if i < len(names) else f"{spec.name}[{i}]": f"{v:.6g}" for i, v in enumerate(flat)
            }
        else:
            texts[spec.name] = f"{tensor.datatype} {list(values.shape)}\n{values}"[:MAX_TEXT]


def _labels(answer: Any, names: tuple[str, ...]) -> list[str] | None:
    given = answer.get("labels") if isinstance(answer, dict) else answer
    if not isinstance(given, list):
        return None
    return [_name(x.get("class") if isinstance(x, dict) else x, names) for x in given]


def _name(index: Any, names: tuple[str, ...]) -> str:
    return names[index] if isinstance(index, int) and 0 <= index < len(names) else str(index)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _plain(part: Any) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
