"""What the story's clients see: live digits in two pools, upright, turned, or turned and black on white.

Pool A is in traffic until the first new champion answers; every label of the first turn of the loop is of a picture of
pool A. Pool B takes its place then, so that what the new champion shows it shows on digits nobody has labelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from deploy.demo.digits import Part, load_digits
from deploy.demo.shifts import rotate

DEGREES, SPREAD = 50.0, 8.0
VIEWS = 6  # angles in which a digit comes
NOISE = 0.02  # of the sensor: no two pictures are the same bytes
DEAD = np.float32(0.5)  # what a dead pixel shows, exactly
Floats = npt.NDArray[np.float32]


class Scene(StrEnum):
    """How the camera stands and what it sees."""

    UPRIGHT = "upright"  # as the model was trained
    TURNED = "turned"  # the camera was knocked askew: by 50 degrees, give or take 8
    INVERTED = "inverted"  # still askew, and now black on white


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture (1, 1, 8, 8) of the live digit of this number, and what it shows."""

    image: Floats
    number: int
    label: int


class Camera:
    """Draws pictures. Seeded; every picture has noise of its own.

    Args:
        seed: Decides everything random.
        live: The live digits; loaded when not given.
    """

    def __init__(self, seed: int, live: Part | None = None) -> None:
        self._random = np.random.default_rng(seed)
        self.live = live or load_digits().live
        half = len(self.live.labels) // 2
        self._pools = {"a": np.arange(half), "b": np.arange(half, len(self.live.labels))}
        turned = [np.clip(rotate(self.live.images, self._random, DEGREES, SPREAD), 0, 1) for _ in range(VIEWS)]
        self._turned = np.stack(turned).astype(np.float32)  # (views, n, 1, 8, 8)

    def take(self, scene: Scene, pool: str, *, dead_pixel: bool) -> Shown:
        """The next picture."""
        rng = self._random
        numbers = self._pools[pool]
        number = int(numbers[rng.integers(len(numbers))])
        clean = self.live.images[number] if scene is Scene.UPRIGHT else self._turned[rng.integers(VIEWS), number]
        if scene is Scene.INVERTED:
            clean = 1.0 - clean
        image = np.clip(clean + rng.normal(0.0, NOISE, clean.shape), 0.0, 1.0).astype(np.float32)[None]
        if dead_pixel:
            image[0, 0, 0, 0] = DEAD
        return Shown(image=image, number=number, label=int(self.live.labels[number]))
