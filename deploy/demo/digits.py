"""The 1,797 real 8x8 digits of scikit-learn in three fixed parts: training, labelled reference, live traffic.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), as shipped by scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TRAIN, REFERENCE = 700, 300  # the rest, 797 images, is live traffic
CLASS_NAMES = tuple(str(digit) for digit in range(10))
SPLIT_SEED = 7


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images (n, 1, 8, 8) float32 in 0..1, labels (n,) int64 in 0..9."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The three parts; no image is in two of them."""

    train: Part
    reference: Part
    live: Part


def load_digits() -> Digits:
    """The parts, the same in every process."""
    from sklearn.datasets import load_digits as load

    bunch: Any = load()
    images = (bunch.images.astype(np.float32) / 16.0)[:, None]  # (n, 1, 8, 8)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    bounds = ((0, TRAIN), (TRAIN, TRAIN + REFERENCE), (TRAIN + REFERENCE, len(labels)))
    parts = [Part(images=images[order[a:b]], labels=labels[order[a:b]]) for a, b in bounds]
    return Digits(train=parts[0], reference=parts[1], live=parts[2])
