"""What happens to the demo's pictures: pure, seeded functions on images (n, 1, h, w) float32 in 0..1.

Each returns new arrays of the same shape and range. Strengths are the ones whose accuracies docs/concepts.md lists.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Images: TypeAlias = npt.NDArray[np.float32]


class Shift(StrEnum):
    """A change of the input distribution."""

    NONE = "none"  # the pictures as they are
    BRIGHTNESS = "brightness"  # harmless: a little more light
    ROTATION = "rotation"  # turned by 30 degrees, give or take 8
    NOISE = "noise"  # a bad sensor: Gaussian noise, sigma 0.35
    BLUR = "blur"  # out of focus: Gaussian blur, sigma 2 pixels
    INVERSION = "inversion"  # white on black became black on white


def apply(shift: Shift, images: Images, seed: int) -> Images:
    """`images` under a shift.

    Args:
        shift: Which one.
        images: (n, 1, h, w) in 0..1; not changed.
        seed: Decides everything random; the same seed gives the same pictures.

    Example:
        >>> import numpy as np
        >>> white = np.ones((1, 1, 2, 2), dtype=np.float32)
        >>> float(apply(Shift.INVERSION, white, seed=0).max())
        0.0
    """
    changed = _SHIFTS[shift](images, np.random.default_rng(seed))
    return np.clip(changed, 0.0, 1.0).astype(np.float32)


def rotate(images: Images, rng: np.random.Generator, degrees: float = 30.0, spread: float = 8.0) -> Images:
    """Turn each image by its own angle, normal around `degrees`."""
    angles = rng.normal(degrees, spread, len(images))
    turned = [
        ndimage.rotate(image, angle, axes=(2, 1), reshape=False, order=1, mode="constant")
        for image, angle in zip(images, angles, strict=True)
    ]
    return np.stack(turned) if turned else images.copy()


def add_noise(images: Images, rng: np.random.Generator, sigma: float = 0.35) -> Images:
    """Gaussian noise on each pixel."""
    return images + rng.normal(0.0, sigma, images.shape).astype(np.float32)


def blur(images: Images, rng: np.random.Generator, sigma: float = 2.0) -> Images:
    """Gaussian blur within each image."""
    return np.asarray(ndimage.gaussian_filter(images, sigma=(0, 0, sigma, sigma)), dtype=np.float32)


def brighten(images: Images, rng: np.random.Generator, factor: float = 1.15, offset: float = 0.04) -> Images:
    """Scale and lift all values."""
    return images * np.float32(factor) + np.float32(offset)


_SHIFTS: dict[Shift, Callable[[Images, np.random.Generator], Images]] = {
    Shift.NONE: lambda images, rng: images.copy(),
    Shift.BRIGHTNESS: brighten,
    Shift.ROTATION: rotate,
    Shift.NOISE: add_noise,
    Shift.BLUR: blur,
    Shift.INVERSION: lambda images, rng: 1.0 - images,
}
