"""Two real data sets, small networks trained on them, and five ways for inputs to get worse, each in five strengths.

Digits: scikit-learn's 1,797 pictures. Segments: 2,310 regions of outdoor photographs, 18 numbers each, 7 classes (UCI
"Image Segmentation", as shipped by river). No download.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn

from deploy.demo.digits import CLASS_NAMES, Part, load_digits
from deploy.demo.network import train_network
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Task, TaskKind
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import InputSpec, OutputRole, OutputSpec, Signature
from export.reference import compile_reference

Array = npt.NDArray[Any]
Change = Callable[[Array, np.random.Generator, float], Array]
TRAIN = {"digits": 700, "segments": 900}
REFERENCE = {"digits": 300, "segments": 500}


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A network, held-out reference rows, live rows. `alike` names the rehearsed change that is like each kind."""

    name: str
    signature: Signature
    task: Task
    answer: Callable[[Mapping[str, Array]], dict[str, Array]]
    reference: tuple[Array, Array]
    live: tuple[Array, Array]
    changes: Mapping[str, tuple[Change, tuple[float, ...]]]
    alike: Mapping[str, str]
    seed: int

    def profile(self) -> ReferenceProfile:
        """The reference as an export compiles it."""
        x, y = self.reference
        return compile_reference(
            self.signature, self.task, {"x": x}, self.answer({"x": x}), y, seed=self.seed, answer=self.answer
        )

    def shifted(self) -> Iterator[tuple[str, int, Array]]:
        """Live rows under every change: (kind, strength 1..5, rows); ("clean", 0, rows) first."""
        x = self.live[0]
        yield "clean", 0, x
        for number, (kind, (change, strengths)) in enumerate(self.changes.items()):
            for step, strength in enumerate(strengths, start=1):
                rng = np.random.default_rng([self.seed, number, step, 77])
                yield kind, step, change(x, rng, strength).astype(np.float32)


def worlds(*, quick: bool) -> Iterator[World]:
    """Every data set with every network, some seeds each."""
    for seed in range(1 if quick else 3):
        for network in ("conv", "mlp"):
            yield _digits(seed, network)
        for width in (32, 128):
            yield _segments(seed, width)


def _digits(seed: int, network: str) -> World:
    parts = load_digits()
    three = (parts.train, parts.reference, parts.live)
    x, y = (np.concatenate([getattr(p, name) for p in three]) for name in ("images", "labels"))
    cuts = _cut(len(y), "digits", seed)
    train = Part(images=x[cuts[0]], labels=y[cuts[0]])
    if network == "conv":
        module: nn.Module = train_network(train, seed=seed)
    else:
        module = _train(_Mlp((64, 64, 64), 10), train.images, train.labels, seed)
    return World(
        name=f"digits {network} {seed}",
        signature=_signature((1, 8, 8), 10, 64),
        task=Task(kind=TaskKind.CLASSIFICATION, class_names=CLASS_NAMES),
        answer=_answer(module),
        reference=(x[cuts[1]], y[cuts[1]]),
        live=(x[cuts[2]], y[cuts[2]]),
        changes=DIGIT_CHANGES,
        alike={"rotation": "turn", "noise": "noise", "blur": "blur", "brightness": "light", "inversion": "invert"},
        seed=seed,
    )


def _segments(seed: int, width: int) -> World:
    from river.datasets import ImageSegments

    pairs = list(ImageSegments())
    names = tuple(sorted({label for _, label in pairs}))
    x = np.array([list(row.values()) for row, _ in pairs], dtype=np.float64)
    y = np.array([names.index(label) for _, label in pairs], dtype=np.int64)
    cuts = _cut(len(y), "segments", seed)
    mean, scale = x[cuts[0]].mean(axis=0), np.maximum(x[cuts[0]].std(axis=0), 1e-6)
    z = ((x - mean) / scale).astype(np.float32)
    module = _train(_Mlp((18, width, width), 7), z[cuts[0]], y[cuts[0]], seed)
    return World(
        name=f"segments mlp-{width} {seed}",
        signature=_signature((18,), 7, width),
        task=Task(kind=TaskKind.CLASSIFICATION, class_names=names),
        answer=_answer(module),
        reference=(z[cuts[1]], y[cuts[1]]),
        live=(z[cuts[2]], y[cuts[2]]),
        changes=SEGMENT_CHANGES,
        alike={"noise": "noise", "missing": "gaps", "unit": "scale", "offset": "offset", "mixed": "swap"},
        seed=seed,
    )


def _cut(rows: int, name: str, seed: int) -> list[Array]:
    order = np.random.default_rng([seed, 5]).permutation(rows)
    return np.split(order, [TRAIN[name], TRAIN[name] + REFERENCE[name]])


class _Mlp(nn.Module):
    """(batch, ...) to (logits, embedding)."""

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.features(x)
        return self.head(embedding), embedding


def _train(module: nn.Module, x: Array, y: Array, seed: int, epochs: int = 60) -> nn.Module:
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    generator = torch.Generator().manual_seed(seed)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=1e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels), generator=generator).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(rows[chosen])[0], labels[chosen]).backward()
            optimiser.step()
    return module.eval()


def _answer(module: nn.Module) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            logits, embedding = module(torch.from_numpy(np.ascontiguousarray(inputs["x"], dtype=np.float32)))
        return {"logits": logits.numpy(), "embedding": embedding.numpy()}

    return run


def _signature(shape: tuple[int, ...], classes: int, width: int) -> Signature:
    return Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, *shape)),),
        outputs=(
            OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, classes), role=OutputRole.LOGITS),
            OutputSpec(name="embedding", datatype=Datatype.FP32, shape=(-1, width), role=OutputRole.EMBEDDING),
        ),
    )


def _clipped(change: Change) -> Change:
    return lambda x, rng, s: np.clip(change(x, rng, s), 0.0, 1.0)


def _rotate(x: Array, rng: np.random.Generator, degrees: float) -> Array:
    turned = [
        ndimage.rotate(image, angle, axes=(2, 1), reshape=False, order=1)
        for image, angle in zip(x, rng.normal(degrees, 8.0, len(x)), strict=True)
    ]
    return np.stack(turned)


def _some_columns(x: Array, rng: np.random.Generator, count: int = 4) -> Array:
    return np.isin(np.arange(x.shape[1]), rng.permutation(x.shape[1])[:count])


def _mixed(x: Array, rng: np.random.Generator, share: float) -> Array:
    others = np.stack([x[rng.permutation(len(x)), k] for k in range(x.shape[1])], axis=1)
    return np.where(rng.random(x.shape) < share, others, x)


DIGIT_CHANGES: dict[str, tuple[Change, tuple[float, ...]]] = {
    "rotation": (_clipped(_rotate), (10.0, 20.0, 30.0, 40.0, 50.0)),
    "noise": (_clipped(lambda x, rng, s: x + rng.normal(0.0, s, x.shape)), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "blur": (_clipped(lambda x, rng, s: ndimage.gaussian_filter(x, (0, 0, s, s))), (0.4, 0.7, 1.1, 1.5, 2.0)),
    "brightness": (_clipped(lambda x, rng, s: x + s), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "inversion": (_clipped(lambda x, rng, s: (1.0 - s) * x + s * (1.0 - x)), (0.1, 0.25, 0.5, 0.75, 1.0)),
}
SEGMENT_CHANGES: dict[str, tuple[Change, tuple[float, ...]]] = {
    "noise": (lambda x, rng, s: x + rng.normal(0.0, s, x.shape), (0.05, 0.15, 0.4, 0.8, 1.2)),
    "missing": (lambda x, rng, s: np.where(rng.random(x.shape) < s, 0.0, x), (0.03, 0.1, 0.2, 0.4, 0.6)),
    "unit": (lambda x, rng, s: np.where(_some_columns(x, rng), x * s, x), (1.15, 1.5, 2.0, 4.0, 8.0)),
    "offset": (lambda x, rng, s: x + s * _some_columns(x, rng), (0.25, 0.5, 1.0, 2.0, 3.0)),
    "mixed": (_mixed, (0.02, 0.07, 0.15, 0.3, 0.6)),
}
