"""Embeddings as kept with every record: a direction in at most 256 numbers of eight bits.

What is compared is the cosine, so a row's length is not kept; each row is scaled to use all of its eight bits. Wider
embeddings are first projected at random, which keeps the distance of two rows within about 9 % (Johnson & Lindenstrauss
1984: relative error of a squared distance sqrt(2 / 256)). The projection is the same in every process and for good:
its numbers come from a fixed seed of a generator whose stream numpy promises not to change.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_WIDTH = 256
CELLS = 16
_SEED = 0x4C696B6573
Int8s = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]


def to_vectors(embedding: npt.NDArray[Any]) -> Int8s:
    """Directions of rows, (rows, min(features, 256)); a row that is zero or not finite becomes zeros."""
    x: npt.NDArray[Any] = np.asarray(embedding, dtype=np.float32).reshape(len(embedding), -1)
    finite = np.asarray(np.isfinite(x).all(axis=1))
    if not finite.all():
        x = np.where(finite[:, None], x, np.float32(0.0))
    if x.shape[1] > MAX_WIDTH:
        # In double precision, so that how records were cut into batches does not move a number across a rounding edge.
        x = (x.astype(np.float64) @ _projection(x.shape[1])).astype(np.float32)
    largest = np.abs(x).max(axis=1, initial=0.0)
    scale = np.divide(127.0, largest, out=np.zeros_like(largest), where=largest > 0.0)
    return np.asarray(np.rint(x * scale[:, None]), dtype=np.int8)


def to_units(vectors: Int8s) -> Floats:
    """Rows of length 1, (rows, width) float32; a row of zeros stays one."""
    x = vectors.astype(np.float32)
    return np.asarray(x / np.maximum(np.sqrt(np.einsum("ij,ij->i", x, x)), 1e-6)[:, None], dtype=np.float32)


def to_cells(units: Floats, middle: Floats | None) -> npt.NDArray[np.int64]:
    """Which of 16 regions each row lies in, by the signs of four random projections seen from the middle, (rows,).

    References:
        Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
    """
    away = units if middle is None else units - middle
    signs = away @ _planes(units.shape[1]) > 0.0
    return np.asarray(signs @ (1 << np.arange(signs.shape[1])), dtype=np.int64)


def cosines(a: Int8s, b: Int8s) -> Floats:
    """Cosine of every row of `a` to every row of `b`, (a, b) float32; 0 for a row of zeros.

    The products of eight-bit rows are whole numbers below 2**24, so their float32 sums are exact in whatever order a
    library adds them: the same rows have the same cosine on every machine and in every batch.
    """
    x, y = a.astype(np.float32), b.astype(np.float32)
    products = x @ y.T
    lengths = np.sqrt((x * x).sum(axis=1))[:, None] * np.sqrt((y * y).sum(axis=1))[None, :]
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0), dtype=np.float32)


def stack(rows: list[bytes | None]) -> Int8s:
    """Kept vectors as (rows, width); rows that have none, or one of another width, become zeros."""
    width = max((len(row) for row in rows if row), default=0)
    empty = bytes(width)
    joined = b"".join(row if row is not None and len(row) == width else empty for row in rows)
    return np.frombuffer(joined, dtype=np.int8).reshape(len(rows), width)


@lru_cache(maxsize=8)
def _projection(width: int) -> npt.NDArray[np.float64]:
    rng = np.random.RandomState(_SEED % (1 << 32))  # the legacy stream is the one that is frozen
    return np.asarray(rng.standard_normal((width, MAX_WIDTH)) / np.sqrt(MAX_WIDTH), dtype=np.float64)


@lru_cache(maxsize=8)
def _planes(width: int) -> Floats:
    rng = np.random.RandomState((_SEED + 1) % (1 << 32))
    return np.asarray(rng.standard_normal((width, CELLS.bit_length() - 1)), dtype=np.float32)
