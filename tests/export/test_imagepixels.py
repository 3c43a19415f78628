"""Decoding: against a naive pipeline, in every colour form, turned by every orientation; bombs, damage and lies."""

from __future__ import annotations

import io
import json
import math
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from export.contracts.datatypes import Datatype
from export.contracts.imagefile import MAX_SCANS, ImageFormat, ImageRefused, examine
from export.contracts.imagepixels import decode_image, preview
from export.contracts.preprocess import Colour, ImageDecode, Interpolation, PixelLayout, Resize
from tests.support import images as im

Pixels = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("PNG", "JPEG", "WEBP")
RAW = ImageDecode(size=(40, 60), layout=PixelLayout.HWC, datatype=Datatype.UINT8)
LIMIT = 25_000_000


# ---- a naive pipeline: loops and formulas, nothing shared with the code under test


def sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def cubic(x: float) -> float:  # Keys 1981, a = -0.5
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


FILTERS: dict[Interpolation, tuple[float, Callable[[float], float]]] = {
    Interpolation.BILINEAR: (1.0, lambda x: max(0.0, 1 - abs(x))),
    Interpolation.BICUBIC: (2.0, cubic),
    Interpolation.LANCZOS: (3.0, lambda x: sinc(x) * sinc(x / 3) if abs(x) < 3 else 0.0),
}


def naive_axis(pixels: Pixels, size: int, how: Interpolation, nudge: float) -> Pixels:
    """Resample axis 0 and round to 8 bits, as every pass of an 8-bit resampler does."""
    length = len(pixels)
    factor = length / size
    out = np.empty((size, *pixels.shape[1:]))
    for i in range(size):
        centre = (i + 0.5) * factor
        if how is Interpolation.NEAREST:  # a centre on the border of two pixels may belong to either
            out[i] = pixels[min(int(centre + nudge), length - 1)]
            continue
        support, kernel = FILTERS[how]
        widen = max(factor, 1.0)
        first, last = max(0, int(centre - support * widen + 0.5)), min(length, int(centre + support * widen + 0.5))
        weights = np.array([kernel((j + 0.5 - centre) / widen) for j in range(first, last)])
        out[i] = np.tensordot(weights / weights.sum(), pixels[first:last].astype(np.float64), axes=1)
    return np.clip(np.rint(out), 0, 255)


def naive_resize(pixels: Pixels, height: int, width: int, d: ImageDecode, nudge: tuple[float, float]) -> Pixels:
    how, out = d.interpolation, np.swapaxes(pixels, 0, 1).astype(np.float64)
    out = np.swapaxes(naive_axis(out, width, how, nudge[1]) if width != len(out) else out, 0, 1)
    return naive_axis(out, height, how, nudge[0]) if height != len(out) else out


def naive(pixels: Pixels, d: ImageDecode, nudge: tuple[float, float] = (1e-6, 1e-6)) -> Pixels:
    """(height, width, 3) pixels → the tensor."""
    if d.colour is Colour.GREY:
        pixels = np.rint(pixels @ np.array([0.299, 0.587, 0.114]))[..., None]
    (h, w), (height, width) = pixels.shape[:2], d.size
    if d.resize is Resize.STRETCH:
        out = naive_resize(pixels, height, width, d, nudge)
    elif d.resize is Resize.LETTERBOX:
        f = min(height / h, width / w)
        inner_h, inner_w = min(height, max(1, round(h * f))), min(width, max(1, round(w * f)))
        out = np.full((height, width, pixels.shape[2]), float(d.pad))
        top, left = (height - inner_h) // 2, (width - inner_w) // 2
        out[top : top + inner_h, left : left + inner_w] = naive_resize(pixels, inner_h, inner_w, d, nudge)
    else:
        if d.shorter_side:
            s = d.shorter_side
            full_h, full_w = (int(s * h / w), s) if w <= h else (s, int(s * w / h))
        else:
            f = max(height / h, width / w)
            full_h, full_w = max(height, round(h * f)), max(width, round(w * f))
        full = naive_resize(pixels, full_h, full_w, d, nudge)
        top, left = round((full_h - height) / 2), round((full_w - width) / 2)
        out = full[top : top + height, left : left + width]
    if d.colour is Colour.BGR:
        out = out[..., ::-1]
    out = out * d.scale
    out = (out - np.array(d.mean or (0.0,) * d.channels)) / np.array(d.std or (1.0,) * d.channels)
    if d.layout is PixelLayout.CHW:
        return np.moveaxis(out, -1, 0)
    return out[..., 0] if d.layout is PixelLayout.HW else out


@st.composite
def declarations(draw: st.DrawFn) -> ImageDecode:
    colour = draw(st.sampled_from(Colour))
    layouts = list(PixelLayout) if colour is Colour.GREY else [PixelLayout.CHW, PixelLayout.HWC]
    size = draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    resize = draw(st.sampled_from(Resize))
    shorter = resize is Resize.SHORTER_SIDE and draw(st.booleans())
    datatype = draw(st.sampled_from([Datatype.FP32, Datatype.FP16, Datatype.UINT8]))
    channels = 1 if colour is Colour.GREY else 3
    number = st.floats(0.1, 0.9)
    values: dict[str, Any] = {}
    if datatype is not Datatype.UINT8 and draw(st.booleans()):
        values = {
            "scale": 1 / 255,
            "mean": draw(st.tuples(*[number] * channels)),
            "std": draw(st.tuples(*[number] * channels)),
        }
    return ImageDecode(
        size=size,
        layout=draw(st.sampled_from(layouts)),
        colour=colour,
        resize=resize,
        shorter_side=max(size) + draw(st.integers(0, 9)) if shorter else 0,
        pad=draw(st.integers(0, 255)),
        interpolation=draw(st.sampled_from(Interpolation)),
        datatype=datatype,
        **values,
    )


@settings(max_examples=250, deadline=None)
@given(d=declarations(), height=st.integers(1, 50), width=st.integers(1, 50), seed=st.integers(0, 9))
def test_it_is_the_naive_pipeline(d: ImageDecode, height: int, width: int, seed: int) -> None:
    pixels = im.picture(height, width, seed)
    got = decode_image(im.encode(pixels), d)
    truth = naive(pixels, d)
    assert got.shape == d.tensor_shape == truth.shape
    assert got.dtype == d.datatype.numpy
    level = d.scale / min(d.std or (1.0,))
    gap = np.abs(got.astype(np.float64) - truth) / level
    if d.interpolation is Interpolation.NEAREST:
        for nudge in ((-1e-6, 1e-6), (1e-6, -1e-6), (-1e-6, -1e-6)):
            gap = np.minimum(gap, np.abs(got.astype(np.float64) - naive(pixels, d, nudge)) / level)
    # Two roundings and the fixed-point weights of an 8-bit resampler: two levels at most, hardly any on average.
    assert gap.max() <= (2.6 if d.datatype is Datatype.FP16 else 2.1)
    assert got.size < 300 or gap.mean() < 0.6


def test_a_given_array_is_written_into() -> None:
    out = np.zeros((2, 3, 16, 16), np.float32)
    made = decode_image(im.encode(im.picture()), im.SMALL, out[1])
    assert made.base is not None
    assert not out[0].any()
    np.testing.assert_array_equal(out[1], decode_image(im.encode(im.picture()), im.SMALL))


# ---- what files look like


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(fmt: str, orientation: int) -> None:
    pixels = im.picture()
    data = im.encode(pixels, fmt, orientation=orientation)
    file = examine(data, LIMIT)
    assert (file.format.name, file.orientation, file.upright) == (fmt, orientation, (60, 40))
    got = decode_image(data, RAW).astype(int)
    assert np.abs(got - pixels).max() <= (6 if fmt == "JPEG" else 0)
    assert preview(data, 10, LIMIT).shape[:2] == (7, 10)


def test_orientation_in_big_endian_and_nonsense_in_its_place() -> None:
    def jpeg(tiff: bytes) -> bytes:
        plain = im.encode(im.picture(), "JPEG")
        block = b"Exif\0\0" + tiff
        return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]

    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    assert examine(jpeg(b"MM\0*\0\0\0\x08\0\x01" + entry), LIMIT).orientation == 6
    for tiff in (
        b"",
        b"MM\0*\xff\xff\xff\xff\0\x01" + entry,
        b"MM\0*\0\0\0\x08\xff\xff" + entry[:5],
        b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 9, 0),
        b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 4, 1, 6, 0),
        b"XX\0*\0\0\0\x08\0\x01" + entry,
    ):
        assert examine(jpeg(tiff), LIMIT).orientation == 1
        assert decode_image(jpeg(tiff), RAW).shape == (40, 60, 3)


def colour_form(mode: str) -> Image.Image:
    image = Image.fromarray(im.picture())
    if mode == "P+alpha":
        palette = image.quantize(16)
        palette.info["transparency"] = bytes([0] * 8 + [255] * 8)
        return palette
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))))
        return image
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.quantize(32) if mode == "P" else image.convert(mode)


def over(rgba: Image.Image, background: tuple[int, int, int]) -> Pixels:
    values = np.asarray(rgba.convert("RGBA")).astype(np.float64)
    alpha = values[..., 3:] / 255
    return np.rint(values[..., :3] * alpha + np.array(background) * (1 - alpha))


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 128, 9)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "P+alpha", "RGB", "RGBA", "I;16"])
def test_every_form_of_a_png_becomes_rgb_and_grey(mode: str, background: tuple[int, int, int]) -> None:
    image = colour_form(mode)
    data = im.encode(image, transparency=image.info["transparency"]) if mode == "P+alpha" else im.encode(image)
    decode = replace(RAW, background=background)
    if mode == "I;16":
        upper = np.asarray(image) >> 8
        truth = np.repeat(upper[..., None], 3, axis=2)
    else:
        truth = over(Image.open(io.BytesIO(data)), background)
    got = decode_image(data, decode).astype(int)
    assert np.abs(got - truth).max() <= 1
    grey = decode_image(data, replace(decode, colour=Colour.GREY, layout=PixelLayout.HW)).astype(int)
    assert np.abs(grey - truth @ np.array([0.299, 0.587, 0.114])).max() <= 1.6


@pytest.mark.parametrize(("mode", "kind"), [("L", 0), ("RGB", 2)])
def test_a_transparent_colour_is_seen_through(mode: str, kind: int) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, 3:] = 200
    image = Image.fromarray(pixels).convert(mode)
    key: Any = 0 if mode == "L" else (0, 0, 0)
    data = im.encode(image, transparency=key)
    assert data[25] == kind
    got = decode_image(data, replace(RAW, size=(4, 6), background=(9, 9, 9)))
    np.testing.assert_array_equal(got[:, :3], 9)
    np.testing.assert_array_equal(got[:, 3:], 200)


def test_cmyk_grey_and_progressive_jpegs() -> None:
    pixels = im.picture()
    cmyk = im.encode(Image.fromarray(pixels).convert("CMYK"), "JPEG")
    truth = np.asarray(Image.open(io.BytesIO(cmyk)).convert("RGB")).astype(int)
    np.testing.assert_array_equal(decode_image(cmyk, RAW), truth)
    grey = im.encode(Image.fromarray(pixels).convert("L"), "JPEG")
    got = decode_image(grey, RAW)
    assert (got[..., 0] == got[..., 1]).all()
    progressive = im.encode(pixels, "JPEG", progressive=True)
    assert np.abs(decode_image(progressive, RAW).astype(int) - pixels).max() <= 6


def test_sixteen_bit_colour_keeps_its_upper_byte() -> None:
    values = np.arange(4 * 6 * 3, dtype=np.uint16).reshape(4, 6, 3) * 700
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    got = decode_image(im.png_of(6, 4, 2, 16, raw), replace(RAW, size=(4, 6)))
    np.testing.assert_array_equal(got, values >> 8)


@pytest.mark.parametrize("fmt", ["WEBP", "PNG", "GIF"])
def test_of_an_animation_the_first_frame_is_taken(fmt: str) -> None:
    frames = [Image.fromarray(im.picture(seed=s)) for s in range(3)]
    buffer = io.BytesIO()
    how: dict[str, Any] = {"lossless": True} if fmt == "WEBP" else {}
    frames[0].save(buffer, fmt, save_all=True, append_images=frames[1:], duration=40, **how)
    if fmt == "GIF":
        with pytest.raises(ImageRefused, match="not a JPEG, PNG or WebP"):
            decode_image(buffer.getvalue(), RAW)
        return
    np.testing.assert_array_equal(decode_image(buffer.getvalue(), RAW), im.picture())


def test_a_single_pixel_becomes_any_size() -> None:
    one = np.full((1, 1, 3), 77, np.uint8)
    for fmt in FORMATS:
        for resize in Resize:
            got = decode_image(im.encode(one, fmt), replace(RAW, size=(5, 9), resize=resize, pad=77))
            assert np.abs(got.astype(int) - 77).max() <= 2


def test_a_long_thin_image_costs_no_more_than_its_pixels() -> None:
    for shape in ((1, 60_000, 3), (60_000, 1, 3)):
        data = im.encode(np.zeros(shape, np.uint8))
        for resize in Resize:
            assert decode_image(data, replace(RAW, resize=resize)).shape == (40, 60, 3)
        assert max(preview(data, 64, LIMIT).shape[:2]) == 64


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same() -> None:
    data = im.encode(im.picture(1200, 1600), "JPEG", quality=90)
    exact, fast = (decode_image(data, replace(RAW, jpeg_gap=g)).astype(int) for g in (0.0, 2.0))
    assert not np.array_equal(exact, fast), "the control: it was decoded in another way"
    assert np.abs(exact - fast).mean() < 1.0
    for orientation in (3, 6):
        turned = im.encode(im.picture(1200, 1600), "JPEG", quality=90, orientation=orientation)
        assert np.abs(decode_image(turned, RAW).astype(int) - fast).mean() < 1.0


# ---- what must be refused


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(50), "not a JPEG"),
        (b"BM" + bytes(50), "not a JPEG"),
        (b"II*\0" + bytes(50), "not a JPEG"),
        (b"%!PS-Adobe", "not a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\xff\xd8\xff\xd9", "ends before its pixels"),
        (b"\xff\xd8" + b"\xff\xe1\0\x02" * 5000, "segments"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + im.png_chunk(b"IDAT", bytes(20)), "header"),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(12), "key frame"),
        (b"RIFF\xff\xff\xff\x7fWEBPVP8X", "truncated"),
        (b"RIFF\x10\0\0\0WEBPABCD" + bytes(12), "no picture"),
        (im.png_of(50_000, 50_000), "2500000000 pixels"),
        (im.png_of(70_000, 1), "65535 a side"),
        (im.png_of(0, 7), "no pixels"),
        (im.png_of(5_000, 5_001), "the limit is 25000000"),
        (im.png_of(20, 20), "damaged or truncated"),
    ],
)
def test_a_refusal_says_why(data: bytes, said: str) -> None:
    for decode in (lambda: decode_image(data, RAW), lambda: preview(data, 64, LIMIT)):
        with pytest.raises(ImageRefused, match=said) as refused:
            decode()
        assert len(str(refused.value)) < 120


def webp_bomb() -> bytes:
    side = (16_384 - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + side + side
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_bomb() -> bytes:
    data = bytearray(im.encode(im.picture(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_535, 65_535)
    return bytes(data)


@pytest.mark.parametrize("bomb", [webp_bomb(), jpeg_bomb(), im.png_of(50_000, 50_000)], ids=["WebP", "JPEG", "PNG"])
def test_a_bomb_is_refused_before_anything_is_allocated(bomb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a decoder saw it")

    monkeypatch.setattr("export.contracts.imagepixels._open", never)
    with pytest.raises(ImageRefused, match="pixels"):
        decode_image(bomb, RAW)


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    data = im.encode(im.picture(), "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    (length,) = struct.unpack_from(">H", data, start + 2)
    header = data[start : start + 2 + length]
    assert decode_image(data, RAW).shape == (40, 60, 3)
    with pytest.raises(ImageRefused, match=f"more than {MAX_SCANS} scans"):
        decode_image(data[:start] + header * MAX_SCANS + data[start:], RAW)


def test_what_pixels_do_not_need_never_reaches_a_decoder() -> None:
    secret = b"SECRET" * 10
    jpeg = im.encode(im.picture(), "JPEG", exif=b"Exif\0\0" + secret, icc_profile=secret, comment=secret)
    assert secret in jpeg
    assert secret not in examine(jpeg + b"\xff\xd8" + secret, LIMIT).data
    png = im.encode(im.picture(), icc_profile=secret)
    text = png[:33] + im.png_chunk(b"zTXt", b"a\0\0" + zlib.compress(secret)) + im.png_chunk(b"teXt", secret) + png[33:]
    clean = examine(text + secret, LIMIT).data
    assert (b"zTXt" in clean, b"iCCP" in clean, secret in clean) == (False, False, False)
    np.testing.assert_array_equal(decode_image(text, RAW), im.picture())


def test_a_file_that_lies_about_its_size_is_refused() -> None:
    lossless = im.encode(im.picture(8, 8), "WEBP")
    assert examine(lossless, LIMIT).format is ImageFormat.WEBP
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (99).to_bytes(3, "little") * 2
    body = b"WEBP" + canvas + lossless[12:]
    with pytest.raises(ImageRefused):
        decode_image(b"RIFF" + struct.pack("<I", len(body)) + body, RAW)


CORPUS = [
    *(im.encode(im.picture(seed=i), fmt, orientation=1 + 3 * i) for i, fmt in enumerate(FORMATS)),
    im.encode(im.picture(), "JPEG", progressive=True),
    im.encode(Image.fromarray(im.picture()).convert("CMYK"), "JPEG"),
    im.encode(colour_form("P")),
    im.encode(colour_form("I;16")),
    im.encode(colour_form("RGBA"), "WEBP"),
    im.encode(im.picture(), "WEBP", lossless=False),
]


@pytest.mark.parametrize("data", CORPUS, ids=range(len(CORPUS)))
def test_a_file_cut_anywhere_is_decoded_whole_or_refused(data: bytes) -> None:
    whole = decode_image(data, RAW)
    refused = 0
    for end in range(0, len(data), max(1, len(data) // 150)):
        try:
            got = decode_image(data[:end], RAW)
        except ImageRefused:
            refused += 1
        else:  # only an end marker or padding was lost
            np.testing.assert_array_equal(got, whole)
    assert refused > 100


@pytest.mark.parametrize("data", CORPUS, ids=range(len(CORPUS)))
def test_damaged_bytes_give_pixels_or_a_refusal_and_nothing_else(data: bytes) -> None:
    dice = random.Random(len(data))
    refused = 0
    for _ in range(250):
        broken = bytearray(data)
        for _ in range(dice.choice((1, 1, 2, 8, 40))):
            at = dice.choice((dice.randrange(len(broken)), dice.randrange(min(200, len(broken)))))
            broken[at] = dice.choice((0, 0xFF, 0x7F, dice.randrange(256)))
        try:
            assert decode_image(bytes(broken), RAW).shape == (40, 60, 3)
        except ImageRefused:
            refused += 1
    assert refused, "the control: some damage was noticed"


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"RIFF\x40\0\0\0WEBPVP8X"]),
    rest=st.binary(max_size=400),
)
def test_random_bytes_are_refused(start: bytes, rest: bytes) -> None:
    with pytest.raises(ImageRefused):
        decode_image(start + rest, RAW)


CHILD = """
import json, sys, warnings
warnings.simplefilter("error")
from export.contracts.imagepixels import decode_image
from export.contracts.preprocess import ImageDecode
def peak():  # of this process; getrusage would count what its parent had before the exec
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
decode = ImageDecode(size=(224, 224), max_pixels=4_000_000)
decode_image(open(sys.argv[1], "rb").read(), decode)
before = peak()
refused = []
for path in sys.argv[2:]:
    try:
        decode_image(open(path, "rb").read(), decode)
    except ValueError as error:
        refused.append(str(error))
print(json.dumps([before, peak(), refused]))
"""


def test_memory_stays_within_24_bytes_a_pixel_of_the_limit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = np.tile(rng.integers(0, 256, (250, 400, 3), dtype=np.uint8), (5, 8, 1))  # 4 million pixels
    files = [
        im.encode(im.picture(), "WEBP"),
        im.png_of(50_000, 50_000),
        webp_bomb(),
        jpeg_bomb(),
        im.encode(noise, compress_level=1),
        im.encode(np.concatenate([noise, noise[..., :1]], axis=2), compress_level=1),
        im.encode(noise, "JPEG", orientation=6),
        im.encode(noise, "WEBP", lossless=False, method=0, quality=20, orientation=6),
    ]
    names = []
    for i, data in enumerate(files):
        (tmp_path / str(i)).write_bytes(data)
        names.append(str(tmp_path / str(i)))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *names], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after, refused = json.loads(done.stdout)
    assert len(refused) == 3
    assert after - before > 4_000_000 * 3, "the control: whole images were in memory"
    assert after - before < 4_000_000 * 24, f"{(after - before) / 4e6:.1f} bytes a pixel"
