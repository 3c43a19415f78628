"""What is declared of an encoded image before a model sees it: how a JPEG, PNG or WebP file becomes a tensor.

The declaration is data in the manifest. `export.contracts.imagepixels` carries it out, the same code at export, in
serving and in the monitor, so that no code of the user runs in the server.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from export.contracts.datatypes import Datatype

IMAGE_DECODE_VERSION = 1
MAX_SIDE = 8192  # pixels of a model's image
MAX_PIXELS = 500_000_000  # what a declaration may allow


class PixelLayout(StrEnum):
    """Order of a decoded image's axes."""

    CHW = "CHW"  # channel, height, width
    HWC = "HWC"  # height, width, channel
    HW = "HW"  # height, width; grey only


class Colour(StrEnum):
    """Channels of a decoded image, in order."""

    RGB = "RGB"
    BGR = "BGR"
    GREY = "GREY"  # ITU-R BT.601 luma: 0.299 R + 0.587 G + 0.114 B


class Resize(StrEnum):
    """How an image of any shape becomes one of the declared size."""

    STRETCH = "stretch"  # both sides to the size; the aspect ratio is lost
    SHORTER_SIDE = "shorter_side"  # the shorter side to `shorter_side`, then the centre of the declared size
    LETTERBOX = "letterbox"  # as large as fits, centred, the rest filled with `pad`


class Interpolation(StrEnum):
    """Resampling filter. All but nearest widen with the reduction, so that shrinking does not alias."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"  # triangle
    BICUBIC = "bicubic"  # Catmull-Rom, a = -0.5
    LANCZOS = "lanczos"  # three lobes


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDecode:
    """How an encoded image becomes one row of a model's input.

    In this order: decode (first frame), turn upright by the EXIF orientation, put transparent pixels over `background`,
    take the colour channels, resize, and `(pixel * scale - mean) / std` per channel.

    Attributes:
        size: Height and width of the result, pixels.
        layout: Order of its axes.
        colour: Its channels.
        resize: What happens to other shapes.
        shorter_side: For `SHORTER_SIDE`, pixels of the shorter side before the centre is cut out; 0: as small as still
            covers the size. 256 and a size of 224 is what most ImageNet models were evaluated with.
        pad: For `LETTERBOX`, the level of the filled area, 0 to 255.
        interpolation: Resampling filter.
        background: Red, green, blue behind transparent pixels, 0 to 255.
        scale: Factor of the 8-bit pixel, 1/255 for values from 0 to 1.
        mean: Per channel of the result, in units of the scaled pixel; empty is 0.
        std: Likewise; empty is 1.
        datatype: FP32, FP16, or UINT8 (which takes neither scale, mean nor std).
        max_pixels: Larger images are refused before they are decoded.
        jpeg_gap: A JPEG may be decoded at 1/2, 1/4 or 1/8 while it stays at least this many times larger than what it
            is resized to; 0 always decodes it whole.
        schema_version: Of this declaration's meaning.

    Example:
        >>> decode = ImageDecode(size=(224, 224), scale=1 / 255)
        >>> decode.tensor_shape
        (3, 224, 224)
    """

    size: tuple[int, int]
    layout: PixelLayout = PixelLayout.CHW
    colour: Colour = Colour.RGB
    resize: Resize = Resize.STRETCH
    shorter_side: int = 0
    pad: int = 0
    interpolation: Interpolation = Interpolation.BILINEAR
    background: tuple[int, int, int] = (255, 255, 255)
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    datatype: Datatype = Datatype.FP32
    max_pixels: int = 25_000_000
    jpeg_gap: float = 2.0
    schema_version: int = IMAGE_DECODE_VERSION

    def __post_init__(self) -> None:
        """Refuse a declaration that cannot be carried out.

        Raises:
            ValueError: names the field and what is wrong with it.
        """
        if self.schema_version != IMAGE_DECODE_VERSION:
            raise ValueError(f"schema_version is {self.schema_version}, this release knows {IMAGE_DECODE_VERSION}")
        if not all(1 <= side <= MAX_SIDE for side in self.size):
            raise ValueError(f"size is {list(self.size)}: height and width lie in 1..{MAX_SIDE}")
        if self.layout is PixelLayout.HW and self.colour is not Colour.GREY:
            raise ValueError(f"layout HW has no channel axis, and colour is {self.colour}")
        if self.shorter_side and self.resize is not Resize.SHORTER_SIDE:
            raise ValueError(f"shorter_side means nothing to resize '{self.resize}'")
        if self.shorter_side and not max(self.size) <= self.shorter_side <= MAX_SIDE:
            raise ValueError(f"shorter_side is {self.shorter_side}: it lies in {max(self.size)}..{MAX_SIDE}, or is 0")
        if not all(0 <= level <= 255 for level in (self.pad, *self.background)):
            raise ValueError("pad and background lie in 0..255")
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise ValueError(f"max_pixels is {self.max_pixels}: it lies in 1..{MAX_PIXELS}")
        if not (self.jpeg_gap == 0 or 1 <= self.jpeg_gap <= 64):
            raise ValueError(f"jpeg_gap is {self.jpeg_gap:g}: it is 0 or lies in 1..64")
        self._check_values()

    def _check_values(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values and len(values) != self.channels:
                raise ValueError(f"{name} has {len(values)} values for {self.channels} channels")
        if not all(map(math.isfinite, (self.scale, *self.mean, *self.std))) or 0.0 in (self.scale, *self.std):
            raise ValueError("scale, mean and std are finite numbers, scale and std not 0")
        if self.datatype not in (Datatype.FP32, Datatype.FP16, Datatype.UINT8):
            raise ValueError(f"datatype is {self.datatype}: images become FP32, FP16 or UINT8")
        if self.datatype is Datatype.UINT8 and (self.scale != 1.0 or self.mean or self.std):
            raise ValueError("datatype UINT8 takes the pixels as they are: leave scale, mean and std out")

    @property
    def channels(self) -> int:
        """Channels of the result."""
        return 1 if self.colour is Colour.GREY else 3

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """Axes of one decoded image."""
        height, width = self.size
        if self.layout is PixelLayout.CHW:
            return (self.channels, height, width)
        return (height, width, self.channels) if self.layout is PixelLayout.HWC else (height, width)
