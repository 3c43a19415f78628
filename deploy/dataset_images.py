"""Folders of labelled images, by class or by split and class, as rows of a model's one input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy.errors import CommandError
from export.contracts.dataset import Split
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Manifest
from export.contracts.signature import InputSpec
from export.dataset.rows import Array

SPLITS = {"train": Split.TRAIN, "training": Split.TRAIN, "validation": Split.VALIDATION, "valid": Split.VALIDATION,
          "val": Split.VALIDATION, "test": Split.TEST}  # fmt: skip
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Examples as a file gives them.

    Attributes:
        inputs: By name, each with as many rows as there are labels.
        labels: Of each row, in any spelling.
        splits: "train", "validation" or "test" of each row; None: they are dealt out.
        groups: Of each row; rows of one group stay together. None: every row is its own.
        weights: Of each row; None: 1.
        where: How to name row i in an error.
    """

    inputs: Mapping[str, Sequence[Array] | Array]
    labels: Sequence[Any]
    splits: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    weights: Sequence[float] | None = None
    where: Callable[[int], str] = field(default=lambda i: f"row {i}")


def read_folder(path: Path, manifest: Manifest, on_start: Progress, on_rows: Progress) -> Raw:
    """`<class>/<file>`, or `<split>/<class>/<file>`."""
    specs = manifest.signature.inputs
    if len(specs) != 1:
        raise CommandError("a folder of images is for models with one input")
    tops = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    split_of = all(p.name.lower() in SPLITS for p in tops)
    files = [
        (file, kind.name, top.name if split_of else "")
        for top in tops
        for kind in (sorted(p for p in top.iterdir() if p.is_dir()) if split_of else [top])
        for file in sorted(kind.iterdir())
        if file.suffix.lower() in IMAGES
    ]
    if not files:
        raise CommandError(f"{path.name} holds no images in folders named as their classes")
    on_start(len(files))
    tensors = []
    for file, _, _ in files:
        tensors.append(_image(file, specs[0]))
        on_rows(1)
    return Raw(
        inputs={specs[0].name: tensors},
        labels=[kind for _, kind, _ in files],
        splits=[split for _, _, split in files] if split_of else None,
        where=lambda i: str(files[i][0].relative_to(path)),
    )


def _image(file: Path, spec: InputSpec) -> Array:
    """A file as one row of the input: as it is, where the model takes files, else as the tensor that it shows."""
    data = file.read_bytes()
    if spec.preprocess is not None:
        row = np.empty(spec.shape[1:] if len(spec.shape) > 1 else (1,), dtype=object)
        row[...] = data
        return row
    from export.contracts.imagefile import ImageRefused
    from export.contracts.imagepixels import preview

    layout = spec.display.layout
    if layout is None or spec.datatype is Datatype.BYTES:
        raise CommandError(f"input '{spec.name}' is no picture: its signature names no layout")
    shape = spec.shape[1:]
    size = dict(zip(layout, shape[-len(layout) :], strict=True))
    try:
        pixels = preview(data, 1 << 14, 1 << 28)
    except ImageRefused as error:
        raise CommandError(f"{file.name}: {error}") from None
    if pixels.shape[:2] != (size["H"], size["W"]):
        raise CommandError(
            f"{file.name} has {pixels.shape[1]} x {pixels.shape[0]} pixels, the model takes {size['W']} x {size['H']}"
        )
    channels = int(size.get("C", 1))
    colours = pixels[..., None] if pixels.ndim == 2 else pixels  # (H, W, C)
    if channels == 1 and colours.shape[-1] != 1:
        colours = np.rint(colours @ np.array([0.299, 0.587, 0.114]))[..., None]
    elif channels == 3 and colours.shape[-1] == 1:
        colours = np.repeat(colours, 3, axis=-1)
    low, high = spec.display.value_range or (0.0, 255.0)
    values = low + colours.astype(np.float64) / 255.0 * (high - low)
    if layout == "CHW":
        values = np.moveaxis(values, -1, 0)
    elif layout == "HW":
        values = values[..., 0]
    return values.reshape(shape).astype(spec.datatype.numpy)
