"""Changes that a model's inputs may meet, rehearsed at export: bad light, bad optics, noise, gaps, units, mix-ups.

Each change has eight strengths. They are not meant to foresee what will happen: they give windows in which the accuracy
is known, so that a live window can be compared with something. An input is treated as a picture when its last axes look
like one, and as a table row otherwise; inputs of integers other than pixels are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
LEAST_SIDE = 6  # pixels; smaller planes are not pictures
MOST_CHANNELS = 4
DRAWS = 4  # of the columns that a change meets: which ones they are decides what it does


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Rows of one input as the changes see them.

    Attributes:
        x: (rows, ...) float64; a picture has its two image axes last.
        low, high: Range of the reference: one pair of numbers for pictures, one a column for tables.
        spread: Standard deviation, alike.
        rng: Of everything random.
    """

    x: Array
    low: Array
    high: Array
    spread: Array
    rng: np.random.Generator


Change: TypeAlias = Callable[[Rows, float], Array]


def rehearse(inputs: Mapping[str, Array], seed: int) -> Iterator[tuple[str, dict[str, Array]]]:
    """Changed copies of some rows, one after another: ("blur 2", inputs). None for inputs that cannot be changed.

    Args:
        inputs: By name, (rows, ...).
        seed: The same seed gives the same copies.

    Example:
        >>> made = dict(rehearse({"x": np.ones((4, 3), dtype=np.float32) * np.arange(4)[:, None]}, seed=0))
        >>> sorted({name.split()[0] for name in made})
        ['gaps', 'mix', 'noise', 'offset', 'round', 'scale', 'shuffle', 'spikes', 'swap']
    """
    kinds = {name: _kind(array) for name, array in inputs.items()}
    changes = {**(_PICTURES if "picture" in kinds.values() else {}), **(_TABLES if "table" in kinds.values() else {})}
    for number, (name, (change, strengths)) in enumerate(changes.items()):
        for step, strength in enumerate(_between(strengths) * (DRAWS if name in _BY_COLUMN else 1), start=1):
            changed = dict(inputs)
            for at, (key, array) in enumerate(inputs.items()):
                if name in {"picture": _PICTURES, "table": _TABLES, "": {}}[kinds[key]]:
                    changed[key] = _changed(array, kinds[key], change, strength, [seed, number, step, at])
            yield f"{name} {(step - 1) % (2 * len(strengths)) + 1}", changed


def _between(strengths: tuple[float, ...]) -> tuple[float, ...]:
    """Twice as many: a weaker one first, and one between each two."""
    weaker = strengths[0] / 2.0 if 0.0 < strengths[0] < 1.0 else strengths[0]
    middle = [(a + b) / 2.0 for a, b in pairwise(strengths)]
    return (weaker, *(x for two in zip(strengths, middle, strict=False) for x in two), strengths[-1])


def _kind(array: Array) -> str:
    if array.dtype == object or array.dtype.kind not in "fu" or array.ndim < 2 or not array.size:
        return ""
    if array.ndim in (3, 4) and min(array.shape[a] for a in _plane(array)) >= LEAST_SIDE:
        return "picture"
    return "table" if array.dtype.kind == "f" else ""


def _plane(array: Array) -> tuple[int, int]:
    """The two axes of a picture: the last two, or the middle two where channels come last."""
    last = array.ndim == 4 and array.shape[3] <= MOST_CHANNELS < array.shape[1]
    return (1, 2) if last else (array.ndim - 2, array.ndim - 1)


def _changed(array: Array, kind: str, change: Change, strength: float, seed: list[int]) -> Array:
    rng = np.random.default_rng(seed)
    x = np.nan_to_num(array.astype(np.float64))
    picture = kind == "picture"
    axes = _plane(array) if picture else None
    if axes is not None:
        x = np.moveaxis(x, axes, (-2, -1))
        low, high, spread = (np.asarray(v) for v in (x.min(), x.max(), x.std()))
    else:
        low, high, spread = x.min(axis=0), x.max(axis=0), x.std(axis=0)
    y = change(Rows(x=x, low=low, high=high, spread=spread, rng=rng), strength)
    if axes is not None:
        y = np.moveaxis(np.clip(y, low, high), (-2, -1), axes)
    if array.dtype.kind == "u":
        y = np.rint(np.clip(y, 0, np.iinfo(array.dtype).max))
    return np.ascontiguousarray(y.astype(array.dtype))


def _affine(r: Rows, matrices: Array, shifts: Array) -> Array:
    """Each picture through its own affine map about its centre, bilinear, the border filled with its lowest value."""
    from scipy import ndimage

    out, centre = np.empty_like(r.x), (np.array(r.x.shape[-2:]) - 1) / 2.0
    for i in range(len(r.x)):
        offset = centre - matrices[i] @ centre + shifts[i]
        for plane in np.ndindex(r.x.shape[1:-2]):
            at = (i, *plane)
            out[at] = ndimage.affine_transform(r.x[at], matrices[i], offset, order=1, cval=float(r.x[i].min()))
    return out


def _turn(r: Rows, degrees: float) -> Array:
    sign = 1.0 if r.rng.random() < 0.5 else -1.0
    angle = np.deg2rad(sign * degrees + r.rng.normal(0.0, 6.0, len(r.x)))
    c, s = np.cos(angle), np.sin(angle)
    return _affine(r, np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2), np.zeros((len(r.x), 2)))


def _zoom(r: Rows, spread: float) -> Array:
    factor = np.exp(r.rng.normal(0.0, spread, len(r.x)))
    return _affine(r, np.eye(2) * factor[:, None, None], np.zeros((len(r.x), 2)))


def _shear(r: Rows, spread: float) -> Array:
    slope = r.rng.normal(0.0, spread, len(r.x))
    matrices = np.tile(np.eye(2), (len(r.x), 1, 1))
    matrices[:, 1, 0] = slope
    return _affine(r, matrices, np.zeros((len(r.x), 2)))


def _move(r: Rows, share: float) -> Array:
    shifts = r.rng.uniform(-share, share, (len(r.x), 2)) * np.array(r.x.shape[-2:])
    return _affine(r, np.tile(np.eye(2), (len(r.x), 1, 1)), shifts)


def _blur(r: Rows, share: float) -> Array:
    from scipy import ndimage

    sigma = share * min(r.x.shape[-2:])
    return np.asarray(ndimage.gaussian_filter(r.x, (0,) * (r.x.ndim - 2) + (sigma, sigma)))


def _coarse(r: Rows, share: float) -> Array:
    step = max(2, round(share * min(r.x.shape[-2:])))
    rows, columns = (np.arange(n) // step * step for n in r.x.shape[-2:])
    return r.x[..., rows, :][..., columns]


def _cover(r: Rows, share: float) -> Array:
    y = r.x.copy()
    h, w = (max(1, round(share * n)) for n in r.x.shape[-2:])
    for picture in y:
        top, left = r.rng.integers(0, r.x.shape[-2] - h + 1), r.rng.integers(0, r.x.shape[-1] - w + 1)
        picture[..., top : top + h, left : left + w] = r.low + r.rng.random() * (r.high - r.low)
    return y


def _noise(r: Rows, sigma: float) -> Array:
    return np.asarray(r.x + r.rng.normal(0.0, 1.0, r.x.shape) * sigma * r.spread)


def _spikes(r: Rows, share: float) -> Array:
    hit, top = r.rng.random(r.x.shape) < share, r.rng.random(r.x.shape) < 0.5
    return np.where(hit, np.where(top, r.high, r.low), r.x)


def _light(r: Rows, share: float) -> Array:
    return np.asarray(r.x + share * (r.high - r.low))


def _contrast(r: Rows, factor: float) -> Array:
    mean = r.x.mean(axis=(-2, -1), keepdims=True)
    return np.asarray(mean + (r.x - mean) * factor)


def _gamma(r: Rows, power: float) -> Array:
    span = np.maximum(r.high - r.low, 1e-12)
    return np.asarray(r.low + span * ((r.x - r.low) / span) ** power)


def _invert(r: Rows, share: float) -> Array:
    return np.asarray((1.0 - share) * r.x + share * (r.high + r.low - r.x))


def _swap(r: Rows, share: float) -> Array:
    """Single values from other rows."""
    flat = r.x.reshape(len(r.x), -1)
    others = np.argsort(r.rng.random(flat.shape), axis=0, kind="stable")
    swapped = np.take_along_axis(flat, others, axis=0)
    return np.where(r.rng.random(flat.shape) < share, swapped, flat).reshape(r.x.shape)


def _mix(r: Rows, share: float) -> Array:
    return np.asarray((1.0 - share) * r.x + share * r.x[r.rng.permutation(len(r.x))])


def _columns(r: Rows, share: float, least: int = 1) -> Array:
    """True for a share of a table's columns, `least` or more."""
    shape = r.x.shape[1:]
    count = int(np.prod(shape))
    chosen = r.rng.permutation(count) < max(least, round(share * count))
    return np.asarray(chosen.reshape(shape))


def _offset(r: Rows, size: float) -> Array:
    """A quarter of the columns is off by so many standard deviations, each in a direction of its own."""
    sign = np.where(r.rng.random(r.x.shape[1:]) < 0.5, -1.0, 1.0)
    return np.asarray(r.x + _columns(r, 0.25) * sign * size * r.spread)


def _scale(r: Rows, factor: float) -> Array:
    """A quarter of the columns comes in another unit."""
    power = np.where(r.rng.random(r.x.shape[1:]) < 0.5, -1.0, 1.0)
    return np.where(_columns(r, 0.25), r.x * factor**power, r.x)


def _gaps(r: Rows, share: float) -> Array:
    """Missing values, filled with the column's mean as pipelines do."""
    return np.where(r.rng.random(r.x.shape) < share, r.x.mean(axis=0), r.x)


def _round(r: Rows, steps: float) -> Array:
    width = np.maximum((r.high - r.low) / steps, 1e-12)
    return np.asarray(r.low + np.rint((r.x - r.low) / width) * width)


def _shuffle(r: Rows, share: float) -> Array:
    """Columns that come in another order."""
    flat, chosen = r.x.reshape(len(r.x), -1).copy(), np.flatnonzero(_columns(r, share, least=2).ravel())
    flat[:, chosen] = flat[:, np.roll(chosen, 1)]
    return flat.reshape(r.x.shape)


_PICTURES: dict[str, tuple[Change, tuple[float, ...]]] = {
    "turn": (_turn, (8.0, 16.0, 28.0, 45.0)),
    "zoom": (_zoom, (0.06, 0.14, 0.25, 0.45)),
    "shear": (_shear, (0.12, 0.25, 0.4, 0.6)),
    "move": (_move, (0.06, 0.13, 0.2, 0.3)),
    "blur": (_blur, (0.05, 0.1, 0.16, 0.24)),
    "coarse": (_coarse, (0.15, 0.25, 0.4, 0.5)),
    "cover": (_cover, (0.25, 0.4, 0.55, 0.75)),
    "noise": (_noise, (0.25, 0.6, 1.0, 1.6)),
    "spikes": (_spikes, (0.03, 0.08, 0.18, 0.35)),
    "light": (_light, (-0.3, 0.15, 0.28, 0.45)),
    "contrast": (_contrast, (0.7, 0.45, 0.25, 0.12)),
    "gamma": (_gamma, (0.4, 0.65, 1.7, 3.0)),
    "invert": (_invert, (0.15, 0.35, 0.65, 1.0)),
    "swap": (_swap, (0.05, 0.12, 0.25, 0.45)),
    "mix": (_mix, (0.12, 0.25, 0.37, 0.48)),
}
_TABLES: dict[str, tuple[Change, tuple[float, ...]]] = {
    "noise": (_noise, (0.1, 0.3, 0.7, 1.5)),
    "spikes": (_spikes, (0.02, 0.06, 0.15, 0.35)),
    "offset": (_offset, (0.4, 0.9, 1.8, 3.5)),
    "scale": (_scale, (1.1, 1.4, 2.2, 6.0)),
    "gaps": (_gaps, (0.06, 0.15, 0.3, 0.6)),
    "round": (_round, (40.0, 14.0, 6.0, 2.0)),
    "shuffle": (_shuffle, (0.1, 0.25, 0.5, 1.0)),
    "swap": (_swap, (0.04, 0.1, 0.25, 0.5)),
    "mix": (_mix, (0.12, 0.25, 0.37, 0.48)),
}
_BY_COLUMN = ("offset", "scale", "shuffle")
