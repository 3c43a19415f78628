"""How the demo's trainer learns from few labels: it looks for what has happened to the pictures.

A camera that was knocked askew turns every picture alike, so a few dozen labelled ones are enough to find out how: of a
family of simple changes (turned by an angle, black on white) those are taken under which the base data lies nearest to
the new labels, class by class. The base data, changed so, is then trained on together with everything that was
labelled. This is data augmentation chosen by the data (Cubuk et al., "AutoAugment", CVPR 2019, with class means in the
place of a search by training); where no change explains the labels, none is used and training is plain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from deploy.demo.digits import Part
from deploy.demo.network import DigitNet
from deploy.demo.shifts import rotate

ANGLES = tuple(range(-90, 91, 10))
SPREAD = 8.0  # degrees around the angle that was found
MOST_CHANGES = 3
LOOKED_AT = 300  # base rows: class means need no more
LEAST_GAIN = 0.05  # share of the distance that another change must take away
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Something that may have happened to all pictures: turned by so many degrees, then inverted or not."""

    degrees: float = 0.0
    inverted: bool = False

    def __str__(self) -> str:
        turned = f"turned by {self.degrees:.0f} degrees" if self.degrees else "upright"
        return turned + (", black on white" if self.inverted else "")

    def apply(self, images: Floats, rng: np.random.Generator, spread: float = SPREAD) -> Floats:
        """`images` (n, 1, h, w) so changed, each with an angle of its own around the one that was found."""
        made = rotate(images, rng, self.degrees, spread) if self.degrees or spread else images
        made = np.clip(made, 0.0, 1.0)
        return np.asarray(1.0 - made if self.inverted else made, dtype=np.float32)


NOTHING = Change()


def find_changes(base: Part, fresh: Part) -> list[Change]:
    """Changes that bring the base data near the new labels, the most useful first; never more than three.

    A row's distance to a change is that to the mean of its class under it. Changes are added one by one, always the one
    that brings the rows' distances to their nearest change down most, as long as that is by 5 % at least (facility
    location, greedily).

    Args:
        base: What the model was first trained on.
        fresh: Rows that were labelled in traffic, wrong labels among them.
    """
    if not len(fresh.labels):
        return []
    family = [Change(degrees=float(a), inverted=i) for i in (False, True) for a in ANGLES]
    rng = np.random.default_rng(0)
    far = np.full((len(family), len(fresh.labels)), np.inf)  # (changes, rows)
    for k, change in enumerate(family):
        made = change.apply(base.images[:LOOKED_AT], rng, spread=0.0)
        for label in np.unique(fresh.labels):
            own = base.labels[:LOOKED_AT] == label
            rows = fresh.labels == label
            if own.any():
                away = fresh.images[rows] - made[own].mean(axis=0)
                far[k, rows] = (away**2).sum(axis=(1, 2, 3))
    known = np.isfinite(far).all(axis=0)
    far = far[:, known]
    nearest = far[family.index(NOTHING)] if far.shape[1] else np.zeros(0)
    found: list[Change] = []
    while len(found) < MOST_CHANGES and nearest.size:
        gains = (nearest - np.minimum(nearest, far)).sum(axis=1) / nearest.sum()
        best = int(gains.argmax())
        if gains[best] < LEAST_GAIN:
            break
        found.append(family[best])
        nearest = np.minimum(nearest, far[best])
    return found


def learn(
    base: Part,
    fresh: Part,
    *,
    seed: int,
    epochs: int = 12,
    batch: int = 64,
    weight: float = 2.0,
    changes: list[Change] | None = None,
    parent: DigitNet | None = None,
    progress: Callable[[int, int, float], None] = lambda epoch, of, loss: None,
) -> DigitNet:
    """A network trained on the base data, on the base data changed as the new labels say, and on those labels.

    Args:
        base: Rows of the base data set.
        fresh: Rows labelled in traffic.
        seed: Of weights, order and angles.
        epochs: Passes over the data.
        batch: Rows a step.
        weight: How often a fresh row counts.
        changes: From `find_changes`; None or nothing: plain training.
        parent: Where to start from; None: from scratch.
        progress: Told (epoch, of, mean loss).
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DigitNet()
    if parent is not None:
        network.load_state_dict(parent.state_dict())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    copies = [base.images, *(c.apply(base.images, rng) for c in changes or ())]
    images = torch.from_numpy(np.concatenate([*copies, fresh.images]))
    labels = torch.from_numpy(np.concatenate([*([base.labels] * len(copies)), fresh.labels]))
    weights = torch.ones(len(labels))
    weights[len(labels) - len(fresh.labels) :] = weight
    steps = epochs * -(-len(labels) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(reduction="none")
    network.train()
    try:
        for epoch in range(epochs):
            total = 0.0
            order = torch.randperm(len(labels), generator=generator)
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                optimiser.zero_grad()
                loss = (loss_of(network(images[chosen])[0], labels[chosen]) * weights[chosen]).mean()
                loss.backward()
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(chosen)
            progress(epoch + 1, epochs, total / len(labels))
    finally:
        torch.set_num_threads(threads)
    return network.eval()
