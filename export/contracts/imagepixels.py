"""Encoded images as pixels and as a model's input, with Pillow's decoders. One code path for export, serving, monitor.

Everything here is a pure function of the file's bytes and the declaration. Decoding and resampling happen in C without
the interpreter's lock, so threads decode side by side. Colour profiles are not applied: values are taken as sRGB.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.imagefile import ImageFile, ImageFormat, ImageRefused, examine
from export.contracts.preprocess import Colour, ImageDecode, Interpolation, PixelLayout, Resize

if TYPE_CHECKING:
    from PIL.Image import Image

Array: TypeAlias = npt.NDArray[Any]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Box: TypeAlias = tuple[float, float, float, float]
PREVIEW_GAP = 2.0  # as `ImageDecode.jpeg_gap`, for pictures that only people look at


def decode_image(data: bytes, decode: ImageDecode, out: Array | None = None) -> Array:
    """One encoded image as one row of a model's input.

    Args:
        data: The file.
        decode: What to make of it.
        out: Where to write, `decode.tensor_shape` of its datatype; a new array by default.

    Raises:
        ImageRefused: the bytes cannot or must not be decoded; the text is public.
    """
    file = examine(data, decode.max_pixels)
    height, width = decode.size
    target, box = _placed(file.upright, decode)
    grey = decode.colour is Colour.GREY
    image = _upright(file, _draft_size(target, box, decode.jpeg_gap), decode.background)
    if grey:
        image = image.convert("L")
    image = _resized(image, target, box, file.upright, decode.interpolation)
    if target != (width, height):  # letterbox
        from PIL import Image as pil

        canvas = pil.new(image.mode, (width, height), decode.pad if grey else (decode.pad,) * 3)
        canvas.paste(image, ((width - target[0]) // 2, (height - target[1]) // 2))
        image = canvas
    return _normalised(np.asarray(image), decode, out)


def preview(data: bytes, side: int, max_pixels: int) -> Pixels:
    """The upright image, shrunk until neither side is longer than `side`: (height, width[, 3]), grey files grey.

    Raises:
        ImageRefused: as `decode_image`.
    """
    file = examine(data, max_pixels)
    width, height = file.upright
    factor = min(1.0, side / max(width, height))
    target = max(1, round(width * factor)), max(1, round(height * factor))
    box = (0.0, 0.0, float(width), float(height))
    image = _upright(file, _draft_size(target, box, PREVIEW_GAP), (255, 255, 255))
    return np.asarray(_resized(image, target, box, file.upright, Interpolation.BILINEAR))


def _placed(upright: tuple[int, int], decode: ImageDecode) -> tuple[tuple[int, int], Box]:
    """Width and height of what is resized, and the part of the upright image that it shows.

    The centre of `SHORTER_SIDE` is cut out of the source instead of the result: the same pixels (resampling looks past
    the box's edges), and no work or memory for those that are cut away.
    """
    (height, width), (w, h) = decode.size, upright
    whole = (0.0, 0.0, float(w), float(h))
    if decode.resize is Resize.STRETCH:
        return (width, height), whole
    if decode.resize is Resize.LETTERBOX:
        factor = min(width / w, height / h)
        return (min(width, max(1, round(w * factor))), min(height, max(1, round(h * factor)))), whole
    side = decode.shorter_side
    if side:  # rounded as torchvision's Resize and CenterCrop do
        full_w, full_h = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
    else:
        factor = max(width / w, height / h)
        full_w, full_h = max(width, round(w * factor)), max(height, round(h * factor))
    left, top = round((full_w - width) / 2), round((full_h - height) / 2)
    x, y = w / full_w, h / full_h
    box = left * x, top * y, min(float(w), (left + width) * x), min(float(h), (top + height) * y)
    return (width, height), box


def _draft_size(target: tuple[int, int], box: Box, gap: float) -> tuple[float, float] | None:
    """Scale, at most 1 a side, at which the upright image has enough pixels; None to decode it whole."""
    if not gap:
        return None
    return target[0] * gap / (box[2] - box[0]), target[1] * gap / (box[3] - box[1])


def _upright(file: ImageFile, least: tuple[float, float] | None, background: tuple[int, int, int]) -> Image:
    """Decode: 8-bit RGB or grey, upright, nothing transparent.

    Raises:
        ImageRefused: the decoder gives up.
    """
    from PIL import Image as pil

    try:
        image = _open(file)
        if image.size != (file.width, file.height):
            raise ImageRefused("the image file contradicts itself in its size")
        if least is not None and file.format is ImageFormat.JPEG:
            x, y = least if file.orientation < 5 else least[::-1]
            image.draft(image.mode, (max(1, math.ceil(file.width * x)), max(1, math.ceil(file.height * y))))
        image.load()
        image = _flat(image, background)
    except ImageRefused:
        raise
    except MemoryError:
        raise ImageRefused("the image needs more memory than there is") from None
    except Exception:  # a decoder's complaint about a broken file has no common type
        raise ImageRefused(f"the {file.format.name} image is damaged or truncated") from None
    turn = {
        2: pil.Transpose.FLIP_LEFT_RIGHT,
        3: pil.Transpose.ROTATE_180,
        4: pil.Transpose.FLIP_TOP_BOTTOM,
        5: pil.Transpose.TRANSPOSE,
        6: pil.Transpose.ROTATE_270,
        7: pil.Transpose.TRANSVERSE,
        8: pil.Transpose.ROTATE_90,
    }.get(file.orientation)
    return image if turn is None else image.transpose(turn)


def _open(file: ImageFile) -> Any:
    """Pillow's decoder of exactly this format: its registry of some forty others is never asked."""
    stream = io.BytesIO(file.data)
    if file.format is ImageFormat.JPEG:
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile(stream)
    if file.format is ImageFormat.PNG:
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(stream)
    from PIL.WebPImagePlugin import WebPImageFile

    return WebPImageFile(stream)


def _flat(image: Any, background: tuple[int, int, int]) -> Image:
    """8-bit RGB or grey, with transparent pixels over the background. 16-bit samples keep their upper byte."""
    from PIL import Image as pil

    mode = image.mode
    if mode.startswith("I"):
        upper = np.asarray(image).astype(np.int64) >> 8
        return pil.fromarray(np.clip(upper, 0, 255).astype(np.uint8))
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        flat = pil.new("RGB", image.size, background)
        flat.paste(image, mask=image)
        return flat
    if mode == "1":
        return image.convert("L")  # type: ignore[no-any-return]  # a plugin's image is Any
    return image if mode in ("RGB", "L") else image.convert("RGB")  # type: ignore[no-any-return]


def _resized(image: Image, target: tuple[int, int], box: Box, upright: tuple[int, int], how: Interpolation) -> Image:
    """Resample the box, given in pixels of the whole image, to the target's size. A JPEG may come in smaller."""
    from PIL import Image as pil

    # A JPEG at 1/n has ceil(side / n) pixels a side: n is a power of two, so the nearest one is what it was.
    shrunk = [2 ** round(math.log2(whole / side)) for whole, side in zip(upright, image.size, strict=True)]
    n = max(shrunk)
    part = (box[0] / n, box[1] / n, min(box[2] / n, image.width), min(box[3] / n, image.height))
    if image.size == target and part == (0, 0, *target):
        return image
    return image.resize(target, pil.Resampling[how.name], box=part)


def _normalised(pixels: Array, decode: ImageDecode, out: Array | None) -> Array:
    """(height, width[, 3]) RGB or grey pixels in the declared layout, channel order and values."""
    if out is None:
        out = np.empty(decode.tensor_shape, dtype=decode.datatype.numpy)
    planes = [pixels] if pixels.ndim == 2 else [pixels[..., c] for c in range(pixels.shape[-1])]
    if decode.colour is not Colour.GREY and len(planes) == 1:  # a grey file
        planes *= 3
    elif decode.colour is Colour.BGR:
        planes.reverse()
    for channel, (plane, table) in enumerate(zip(planes, _tables(decode), strict=True)):
        if decode.layout is PixelLayout.CHW:
            to = out[channel]
        else:
            to = out[..., channel] if decode.layout is PixelLayout.HWC else out
        if table is None:
            to[...] = plane
        else:
            np.take(table, plane, out=to, mode="clip")  # half the time of table[plane]
    return out


@lru_cache(maxsize=64)
def _tables(decode: ImageDecode) -> tuple[Array | None, ...]:
    """What each of the 256 pixel values becomes, by channel; None leaves it. Rounded once, from float64."""
    if decode.scale == 1.0 and not decode.mean and not decode.std:
        return (None,) * decode.channels
    scaled = np.arange(256, dtype=np.float64) * decode.scale
    mean, std = decode.mean or (0.0,) * decode.channels, decode.std or (1.0,) * decode.channels
    return tuple(((scaled - m) / s).astype(decode.datatype.numpy) for m, s in zip(mean, std, strict=True))
