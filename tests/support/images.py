"""Encoded images for tests, and a package that takes them.

`image_package`: image BYTES [-1,1], declared preprocessing → pixels (what was decoded) and logits [-1,10].
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper
from PIL import Image

from export.contracts.datatypes import Datatype
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import InputSpec, OutputRole, OutputSpec, Signature
from export.images import decoded_rows, encoded_rows, image_input
from export.package import Golden, Package
from export.preprocess import Encoding
from tests.support import packages as p

SMALL = image_input(16)
# PIL's transposition that turns an upright image into one that is stored with the orientation
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth colour pixels, different in every corner, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encode(pixels: Any, fmt: str = "PNG", *, orientation: int = 1, **how: Any) -> bytes:
    """Pixels (or a PIL image) as a file, stored turned by the EXIF orientation."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    turn = STORED[orientation]
    image = image if turn is None else image.transpose(turn)
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        how["exif"] = exif
    if fmt == "JPEG":
        how = {"quality": 95, "subsampling": 0} | how
    if fmt == "WEBP":
        how = {"lossless": True} | how
    buffer = io.BytesIO()
    image.save(buffer, fmt, **how)
    return buffer.getvalue()


def png_of(width: int, height: int, colour_type: int = 2, bits: int = 8, data: bytes = b"") -> bytes:
    """A PNG whose header says what the arguments say, whatever its pixels hold: a bomb costs a few bytes."""
    body = zlib.compress(data or bytes(64))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
        + png_chunk(b"IDAT", body)
        + png_chunk(b"IEND", b"")
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def image_package(
    folder: Path,
    *,
    name: str = "images",
    version: str = "1",
    decode: ImageDecode = SMALL,
    golden_rows: int = 3,
    max_batch_rows: int = 8,
    batched: bool = True,
    extra: bool = False,
    seed: int = 0,
) -> Package:
    """An identity of the decoded image beside random logits of it; see the module.

    `extra` adds an input and an output FP32 [-1,1] that are no images, and leaves the golden cases out.
    """
    lead = (-1,) if batched else (1,)
    tensor = (*lead, *decode.tensor_shape)
    elements = int(np.prod(decode.tensor_shape))
    beside = [InputSpec(name="extra", datatype=Datatype.FP32, shape=(-1, 1))] if extra else []
    beside_out = [OutputSpec(name="extra_out", datatype=Datatype.FP32, shape=(-1, 1))] if extra else []
    model_signature = Signature(
        inputs=(InputSpec(name="image", datatype=decode.datatype, shape=tensor), *beside),
        outputs=(
            OutputSpec(name="pixels", datatype=decode.datatype, shape=tensor),
            OutputSpec(name="logits", datatype=Datatype.FP32, shape=(*lead, 10), role=OutputRole.LOGITS),
            *beside_out,
        ),
        batched=batched,
    )
    weights = {"w": np.random.default_rng(seed).normal(0, 0.2, (elements, 10)).astype(np.float32)}
    nodes = [
        helper.make_node("Identity", ["image"], ["pixels"]),
        helper.make_node("Cast", ["image"], ["float"], to=1),
        helper.make_node("Flatten", ["float"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    if extra:
        nodes.append(helper.make_node("Identity", ["extra"], ["extra_out"]))
    model = p.make_model(model_signature, nodes, weights)
    wire = Encoding(model_signature, {"image": decode}).wire
    golden: Golden | None = None
    if golden_rows and not extra:
        files = encoded_rows([encode(picture(seed=seed + i)) for i in range(golden_rows if batched else 1)])
        tensors = {"image": decoded_rows(files, decode, "image").reshape(-1, *tensor[1:])}
        made = p.golden_from_onnx(model, tensors, model_signature)
        given = files if batched else files.reshape(wire.inputs[0].shape)
        golden = replace(made, inputs={"image": given}, tensors=tensors)
    return p.package_model(
        folder,
        model,
        wire,
        name=name,
        version=version,
        task=p.DIGITS_TASK,
        golden=golden,
        max_batch_rows=max_batch_rows,
    )
