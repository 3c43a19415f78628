"""What an encoded image says of itself, read from its bytes before any decoder sees them.

Three formats, told by their first bytes. The container is walked here, with bounded work, for four reasons: size limits
hold before anything is allocated; the orientation is known; files with thousands of segments or scans, which cost a
decoder minutes, are refused; and JPEG and PNG reach the decoder without what pixels do not need (EXIF, XMP, colour
profiles, texts, animation), so that none of those parsers can be attacked.

References:
    ITU-T T.81 (JPEG), annex B; W3C PNG 3rd edition, sections 5 and 11; RFC 9649 (WebP), section 2; TIFF 6.0 and
    Exif 2.32, tag 274.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import StrEnum

MAX_SIDE = 65_535  # JPEG's own limit; a resampler's tables grow with the side, not with the area
MAX_SEGMENTS = 4096  # of a JPEG before its first scan
MAX_SCANS = 64  # of a JPEG; each may visit every pixel again. Encoders write at most about 14
MAX_CHUNKS = 65_536  # of a PNG: 0.5 GB in the 8 KiB pieces that libpng writes
MAX_DIRECTORY = 1024  # entries of a TIFF directory
NOT_AN_IMAGE = "not a JPEG, PNG or WebP image"

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_ORIENTATION = 0x0112
_SHORT = 3
_SOI, _EOI, _SOS, _DNL_ALONE = 0xD8, 0xD9, 0xDA, 0x01
_APP0, _APP1, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_SCAN_OR_END = re.compile(rb"\xff[\xd9\xda]")  # one pass, three times as fast as bytes.find
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # DHT, JPG and DAC are no frame headers


class ImageRefused(ValueError):
    """The bytes are no image that is decoded here. The text is public: it says why and holds nothing of the bytes."""


class ImageFormat(StrEnum):
    """A file format that is decoded; the value is its media type."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """An encoded image whose container was walked.

    Attributes:
        width: Pixels as stored, before turning upright.
        height: Likewise.
        orientation: EXIF's, 1 to 8; 1 where there is none.
        data: The file, without what pixels do not need.
    """

    format: ImageFormat
    width: int
    height: int
    orientation: int
    data: bytes

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height after turning upright."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def examine(data: bytes, max_pixels: int) -> ImageFile:
    """Walk a file's container.

    Args:
        data: The whole file.
        max_pixels: Width times height at most.

    Raises:
        ImageRefused: another format, cut off, contradictory, or too large.
    """
    try:
        if data[:3] == b"\xff\xd8\xff":
            found = _jpeg(data)
        elif data[:8] == _PNG:
            found = _png(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            found = _webp(data)
        else:
            raise ImageRefused(NOT_AN_IMAGE if data else "empty: an image file is expected")
    except (struct.error, IndexError):  # a field reaches past the end
        raise ImageRefused("the image file is truncated") from None
    if not found.width or not found.height:
        raise ImageRefused("the image has no pixels")
    if max(found.width, found.height) > MAX_SIDE:
        raise ImageRefused(f"the image is {found.width} x {found.height}, the limit is {MAX_SIDE} a side")
    if found.width * found.height > max_pixels:
        raise ImageRefused(
            f"the image has {found.width} x {found.height} = {found.width * found.height} pixels, "
            f"the limit is {max_pixels}"
        )
    return found


def _jpeg(data: bytes) -> ImageFile:
    kept, size, orientation, position = [data[:2]], None, 1, 2
    for _ in range(MAX_SEGMENTS):
        position = data.find(b"\xff", position)  # decoders skip stray bytes between segments, too
        if position < 0:
            raise ImageRefused("the image file is truncated")
        marker = data[position + 1]
        if marker in (0xFF, 0x00):  # fill byte, stuffed byte
            position += 1
            continue
        if marker == _DNL_ALONE or 0xD0 <= marker <= _SOI:
            position += 2
            continue
        if marker == _EOI:
            raise ImageRefused("the image file ends before its pixels")
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        if marker == _SOS:
            return _with_scans(data, position, kept, size, orientation)
        if length < 2 or end > len(data):
            raise ImageRefused("the image file is truncated")
        if marker in _FRAMES:
            if size is not None:
                raise ImageRefused("the image file has two frame headers")
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = width, height
        if marker == _APP1 and data[position + 4 : position + 10] == b"Exif\0\0" and orientation == 1:
            orientation = _orientation(data[position + 10 : end])
        if not (_APP0 < marker < _APP14 or marker in (_APP15, _COMMENT)):
            kept.append(data[position:end])
        position = end
    raise ImageRefused(f"the image file has more than {MAX_SEGMENTS} segments")


def _with_scans(
    data: bytes, position: int, kept: list[bytes], size: tuple[int, int] | None, orientation: int
) -> ImageFile:
    if size is None:
        raise ImageRefused("the image file has no frame header")
    # In entropy-coded data 0xFF is always stuffed, so these are markers; what follows the end (a second image) is cut.
    end = len(data)
    for scans, marker in enumerate(_SCAN_OR_END.finditer(data, position)):
        if data[marker.start() + 1] == _EOI:
            end = marker.end()
            break
        if scans == MAX_SCANS:
            raise ImageRefused(f"the image file has more than {MAX_SCANS} scans")
    kept.append(data[position:end])
    return ImageFile(
        format=ImageFormat.JPEG, width=size[0], height=size[1], orientation=orientation, data=b"".join(kept)
    )


def _png(data: bytes) -> ImageFile:
    kept, orientation, position = [_PNG], 1, 8
    width, height = struct.unpack_from(">II", data, 16)
    if data[8:16] != b"\0\0\0\x0dIHDR":
        raise ImageRefused("the image file does not begin with its header")
    for _ in range(MAX_CHUNKS):
        (length,) = struct.unpack_from(">I", data, position)
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if end > len(data):
            raise ImageRefused("the image file is truncated")
        if kind in _PNG_KEPT:
            kept.append(data[position:end])
        if kind == b"eXIf":
            orientation = _orientation(data[position + 8 : end - 4])
        if kind == b"IEND":
            return ImageFile(
                format=ImageFormat.PNG, width=width, height=height, orientation=orientation, data=b"".join(kept)
            )
        position = end
    raise ImageRefused(f"the image file has more than {MAX_CHUNKS} chunks")


def _webp(data: bytes) -> ImageFile:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise ImageRefused("the image file is truncated")
    kind, orientation = data[12:16], 1
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        if len(data) >= 30 and data[20] & 0x08:
            orientation = _webp_orientation(data, size + 8)
    elif kind == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise ImageRefused("the image file has no key frame")
        width, height = (n & 0x3FFF for n in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L" and data[20:21] == b"\x2f":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        raise ImageRefused("the image file has no picture")
    return ImageFile(
        format=ImageFormat.WEBP, width=width, height=height, orientation=orientation, data=data[: size + 8]
    )


def _webp_orientation(data: bytes, end: int) -> int:
    position = 12
    for _ in range(MAX_SEGMENTS):
        if position + 8 > end:
            break
        (length,) = struct.unpack_from("<I", data, position + 4)
        if data[position : position + 4] == b"EXIF":
            block = data[position + 8 : min(position + 8 + length, end)]
            return _orientation(block[6:] if block.startswith(b"Exif\0\0") else block)
        position += 8 + length + length % 2
    return 1


def _orientation(block: bytes) -> int:
    """Tag 274 of a TIFF block's first directory. A block that makes no sense turns nothing."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, start)
        for index in range(min(entries, MAX_DIRECTORY)):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * index)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
