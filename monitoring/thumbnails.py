"""Small pictures in place of inputs, where the privacy settings keep no more."""

from __future__ import annotations

import logging
from typing import Any

from monitoring.case_rows import InputState, Loaded
from monitoring.images import is_picture, thumbnail

logger = logging.getLogger(__name__)

DIRECTION = "png"  # in `case_tensors`, beside "in" and "out"


def only_thumbnails(x: Loaded, tensors: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], InputState]:
    """The rows of `case_tensors` with every input replaced by a small picture of the case's row, or left out.

    An input that is no picture is left out: nothing smaller says what it was.
    """
    manifest, batch = x.baseline.manifest, x.batch
    outputs = [row for row in tensors if row["direction"] != "in"]
    pictures: list[dict[str, Any]] = []
    specs = (
        () if manifest is None else [s for s in manifest.signature.inputs if is_picture(s) and s.name in batch.inputs]
    )
    worst = int(x.scored.worst[x.record]) if len(batch.row_record) else 0
    for position, spec in enumerate(specs):
        try:
            png = thumbnail(batch.inputs[spec.name][worst], spec)
        except (ValueError, IndexError) as error:
            logger.info("an input of %s cannot be drawn: %s", batch.model, type(error).__name__)
            continue
        row = {"case_id": tensors[0]["case_id"], "direction": DIRECTION, "name": spec.name, "position": position}
        pictures.append(row | {"datatype": "BYTES", "shape": [1], "data": png})
    return pictures + outputs, InputState.THUMBNAIL if pictures else InputState.NOT_RECORDED
