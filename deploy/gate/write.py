"""The files of a gate. Each is written whole; `verdict.json` is the last."""

from __future__ import annotations

import base64
import csv
import io
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from deploy.gate.inputs import LabelledSet
from export.contracts import codec
from export.contracts.imagefile import ImageRefused
from export.contracts.imagepixels import preview
from export.contracts.manifest import Manifest
from export.contracts.signature import InputDisplay, InputSpec
from monitoring.gate.evaluated import Compared, InputLine
from monitoring.gate.job import (
    INPUTS_FILE,
    JUNIT_FILE,
    LINEAGE_FILE,
    REPORT_FILE,
    VERDICT_FILE,
    GateRequest,
    GateResult,
)
from monitoring.gate.junit import junit_xml
from monitoring.gate.lineage import lineage_json
from monitoring.gate.report.choose import chosen_lines
from monitoring.gate.report.page import ShownInput, report_html
from monitoring.images import is_picture, to_png

SIDE = 64  # pixels of a thumbnail's longer side, at least
MOST_BYTES = 8 << 20  # of all thumbnails of a report together
COLUMNS = ("set", "id", "record", "truth", "champion", "candidate", "champion_confidence", "candidate_confidence",
           "champion_good", "candidate_good", "slices")  # fmt: skip


def write_files(
    output: Path,
    result: GateResult,
    compared: Sequence[Compared],
    sets: Mapping[str, LabelledSet],
    manifest: Manifest,
    request: GateRequest,
) -> None:
    """Everything but `verdict.json`.

    Args:
        output: Folder; made when missing.
        result: The verdict.
        compared: Every input of every set.
        sets: By name, for the pictures.
        manifest: Of the champion.
        request: For `report_rows`.
    """
    output.mkdir(parents=True, exist_ok=True)
    ended = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    _put(output / JUNIT_FILE, junit_xml(result))
    _put(output / LINEAGE_FILE, lineage_json(result, ended))
    _put(output / INPUTS_FILE, _table(compared))
    lines = chosen_lines(compared, request.report_rows)
    every = sum(len(c.lines) for c in compared)
    _put(output / REPORT_FILE, report_html(result, _shown(lines, sets, manifest), every).encode())


def write_verdict(output: Path, result: GateResult) -> None:
    """`verdict.json`; everything else must lie there."""
    _put(output / VERDICT_FILE, codec.dumps(result))


def _put(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _table(compared: Sequence[Compared]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in compared:
        for x in one.lines:
            sure = (_number(x.champion_sure), _number(x.candidate_sure))
            good = (_number(x.champion_good), _number(x.candidate_good))
            words = [_cell(w) for w in (x.set, x.id, x.record, x.truth, x.champion, x.candidate)]
            writer.writerow((*words, *sure, *good, _cell("; ".join(x.slices))))
    return text.getvalue().encode("utf-8", "replace")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _cell(text: str) -> str:
    """Never a formula: spreadsheets run what begins like one."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(lines: Sequence[InputLine], sets: Mapping[str, LabelledSet], manifest: Manifest) -> list[ShownInput]:
    """The lines with a picture each, or words, while there is room for pictures."""
    specs = manifest.signature.inputs
    spec = next((s for s in specs if is_picture(s)), None)
    used, shown = 0, []
    for line in lines:
        inputs = sets[line.set].inputs
        picture = "" if spec is None or used > MOST_BYTES else _picture(inputs[spec.name][line.row], spec)
        used += len(picture)
        words = "" if spec is not None else _words(inputs, line.row, specs)
        shown.append(ShownInput(line=line, picture=picture, words=words))
    return shown


def _picture(row: Any, spec: InputSpec) -> str:
    """A `data:` address; "" where it cannot be drawn."""
    try:
        if spec.preprocess is None:
            png = to_png(row, spec.display, SIDE // 2)
        else:
            pixels = preview(bytes(row.reshape(-1)[0]), SIDE, spec.preprocess.max_pixels)
            png = to_png(pixels, InputDisplay(layout="HW" if pixels.ndim == 2 else "HWC"))
    except (ValueError, ImageRefused):
        return ""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _words(inputs: Mapping[str, Any], row: int, specs: Sequence[InputSpec]) -> str:
    """The first few elements of an input that is no picture."""
    parts = []
    for spec in specs:
        flat = np.asarray(inputs[spec.name][row]).reshape(-1)
        names = spec.display.feature_names
        for i, value in enumerate(flat[:6].tolist()):
            text = value.decode("utf-8", "replace")[:160] if isinstance(value, bytes) else f"{value:.4g}"
            parts.append(f"{names[i]} {text}" if i < len(names) else text)
        if flat.size > 6:
            parts.append("…")
    return ", ".join(parts)[:240]
