"""Recorded inputs drawn as pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from export.contracts.datatypes import Datatype
from export.contracts.signature import InputDisplay, InputKind, InputSpec
from monitoring.images import MAX_SIDE, is_picture, to_array, to_pixels, to_png


def image(layout: str, value_range: tuple[float, float] | None = (0.0, 1.0)) -> InputDisplay:
    return InputDisplay(kind=InputKind.IMAGE, layout=layout, value_range=value_range)


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_every_layout_of_the_same_picture_gives_the_same_pixels() -> None:
    rng = np.random.default_rng(4)
    hwc = rng.random((5, 7, 3)).astype(np.float32)
    expected = np.rint(hwc.astype(np.float64) * 255)
    np.testing.assert_array_equal(to_pixels(hwc, image("HWC")), expected)
    np.testing.assert_array_equal(to_pixels(np.moveaxis(hwc, -1, 0), image("CHW")), expected)
    np.testing.assert_array_equal(to_pixels(hwc[..., 0], image("HW")), expected[..., 0])
    np.testing.assert_array_equal(to_pixels(hwc[None, ..., 0], image("CHW")), expected[..., 0])
    np.testing.assert_array_equal(to_pixels(hwc[..., :1], image("HWC")), expected[..., 0])


def test_enlarging_repeats_pixels_by_a_whole_factor() -> None:
    small = np.arange(64, dtype=np.float32).reshape(1, 8, 8) / 63
    big = decoded(to_png(small, image("CHW"), min_side=100))
    assert big.shape == (104, 104)
    np.testing.assert_array_equal(big[::13, ::13], decoded(to_png(small, image("CHW"))))
    assert (big[:13, :13] == big[0, 0]).all()


def test_a_huge_picture_is_bounded() -> None:
    png = decoded(to_png(np.zeros((1, 9000, 40), dtype=np.uint8), image("CHW", None), min_side=256))
    assert max(png.shape) <= MAX_SIDE


def test_values_outside_the_range_saturate_and_nan_is_black() -> None:
    row = np.array([[np.nan, -5.0], [np.inf, 0.5]], dtype=np.float32)
    np.testing.assert_array_equal(to_pixels(row, image("HW")), [[0, 0], [255, 128]])


def test_a_reversed_range_inverts_and_no_range_stretches() -> None:
    row = np.array([[0.0, 16.0]])
    np.testing.assert_array_equal(to_pixels(row, image("HW", (16.0, 0.0))), [[255, 0]])
    np.testing.assert_array_equal(to_pixels(row + 3, image("HW", None)), [[0, 255]])
    np.testing.assert_array_equal(to_pixels(np.full((2, 2), 7.0), image("HW", None)), np.zeros((2, 2)))


def test_a_shape_that_does_not_fit_is_refused_with_words() -> None:
    with pytest.raises(ValueError, match=r"shape \[2, 3, 4, 5\] does not fit the layout CHW"):
        to_pixels(np.zeros((2, 3, 4, 5)), image("CHW"))
    with pytest.raises(ValueError, match="7 elements recorded for shape"):
        to_array(b"1234567", Datatype.UINT8, (2, 2))


@pytest.mark.parametrize("datatype", [d for d in Datatype if d is not Datatype.BYTES])
def test_every_numeric_datatype_can_be_drawn(datatype: Datatype) -> None:
    values = np.array([[0, 1], [1, 0]])
    if datatype is Datatype.BF16:
        data = (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    else:
        data = values.astype(datatype.numpy).tobytes()
    drawn = to_pixels(to_array(data, datatype, (2, 2)), image("HW"))
    np.testing.assert_array_equal(drawn, values * 255)


def test_only_images_of_numbers_with_a_layout_are_pictures() -> None:
    spec = InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1, 8, 8), display=image("CHW"))
    assert is_picture(spec)
    assert not is_picture(InputSpec(name="x", datatype=Datatype.BYTES, shape=(-1, 1), display=image("CHW")))
    assert not is_picture(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 4)))
