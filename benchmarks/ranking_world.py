"""Real images, shifts, trained networks and what these answer: cached, because training is most of the time.

Data sets: scikit-learn's 1,797 handwritten digits (8x8), and its two photographs cut into 12x12 tiles, to be told by
which quarter of which photograph they come from (8 classes). Nothing is downloaded.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn

from benchmarks import small_networks
from benchmarks.small_networks import NETWORKS

Array: TypeAlias = npt.NDArray[Any]
TILE = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """Images (rows, channels, side, side) in 0..1 with labels, cut in three; training rows come first."""

    name: str
    images: Array
    labels: Array
    train: int
    reference: int

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a network said of some rows."""

    logits: Array
    embedding: Array
    labels: Array

    @property
    def wrong(self) -> Array:
        """Rows that it got wrong, (rows,)."""
        return np.asarray(self.logits.argmax(axis=1) != self.labels)

    def pick(self, rows: Array) -> Answers:
        """Some of the rows."""
        return Answers(logits=self.logits[rows], embedding=self.embedding[rows], labels=self.labels[rows])


def join(parts: list[Answers]) -> Answers:
    """All rows of several."""
    return Answers(
        logits=np.concatenate([p.logits for p in parts]),
        embedding=np.concatenate([p.embedding for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
    )


@functools.cache
def digits() -> Data:
    """Handwritten digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(20_261_121).permutation(len(data.images))
    images = (data.images / 16.0).astype(np.float32)[order, None]
    return Data(name="digits", images=images, labels=data.target[order], train=700, reference=400)


@functools.cache
def photographs() -> Data:
    """Tiles of two photographs, by the quarter they come from."""
    from sklearn.datasets import load_sample_images

    tiles, labels = [], []
    for which, photograph in enumerate(load_sample_images().images):
        high, wide = photograph.shape[0] // TILE, photograph.shape[1] // TILE
        for i in range(high):
            for j in range(wide):
                tile = photograph[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE]
                tiles.append(tile.transpose(2, 0, 1))
                labels.append(4 * which + 2 * (2 * i >= high) + (2 * j >= wide))
    order = np.random.default_rng(20_261_121).permutation(len(tiles))
    images = (np.stack(tiles) / 255.0).astype(np.float32)[order]
    return Data(name="photographs", images=images, labels=np.array(labels)[order], train=1600, reference=800)


def _turn(images: Array, degrees: float, rng: np.random.Generator) -> Array:
    angles = degrees + 8.0 * rng.standard_normal(len(images))
    turned = [ndimage.rotate(x, a, axes=(1, 2), reshape=False, order=1) for x, a in zip(images, angles, strict=True)]
    return np.stack(turned)


SHIFTS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "brightness": lambda x, rng: x * 0.7 + 0.15,
    "turned 30": lambda x, rng: _turn(x, 30.0, rng),
    "turned 50": lambda x, rng: _turn(x, 50.0, rng),
    "noise 0.2": lambda x, rng: x + 0.2 * rng.standard_normal(x.shape),
    "noise 0.35": lambda x, rng: x + 0.35 * rng.standard_normal(x.shape),
    "blur": lambda x, rng: ndimage.gaussian_filter(x, (0, 0, 1.1, 1.1)),
    "inverted": lambda x, rng: 1.0 - x,
}


def world(data: Data, network: str, seed: int, cache: Path) -> dict[str, Answers]:
    """Answers on "reference", "clean" and every shift of "clean", from a network trained on the rest."""
    code = Path(small_networks.__file__).read_bytes() + Path(__file__).read_bytes()
    made = cache / f"{data.name}-{network}-{seed}-{hashlib.sha256(code).hexdigest()[:12]}.npz"
    if not made.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(made, **_answer_everything(data, network, seed))
    with np.load(made) as stored:
        names = ("reference", "clean", *SHIFTS)
        return {
            n: Answers(logits=stored[f"{n}/logits"], embedding=stored[f"{n}/embedding"], labels=stored[f"{n}/labels"])
            for n in names
        }


def _answer_everything(data: Data, network: str, seed: int) -> dict[str, Array]:
    model = _train(data, network, seed)
    rng = np.random.default_rng(seed)
    held = slice(data.train, data.train + data.reference)
    rest = slice(data.train + data.reference, None)
    parts = {"reference": (data.images[held], data.labels[held]), "clean": (data.images[rest], data.labels[rest])}
    for name, shift in SHIFTS.items():
        parts[name] = (np.clip(shift(data.images[rest], rng), 0.0, 1.0), data.labels[rest])
    out: dict[str, Array] = {}
    for name, (images, labels) in parts.items():
        with torch.inference_mode():
            logits, embedding = model(torch.from_numpy(images.astype(np.float32)))
        out |= {f"{name}/logits": logits.numpy(), f"{name}/embedding": embedding.numpy(), f"{name}/labels": labels}
    return out


def _train(data: Data, network: str, seed: int, epochs: int = 30, batch: int = 64) -> nn.Module:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model = NETWORKS[network](data.images.shape[1:], data.classes)
    images = torch.from_numpy(data.images[: data.train])
    labels = torch.from_numpy(data.labels[: data.train].astype(np.int64))
    steps = epochs * -(-data.train // batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    loss = nn.CrossEntropyLoss()
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(data.train).split(batch):
            optimiser.zero_grad()
            loss(model(images[rows])[0], labels[rows]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()
