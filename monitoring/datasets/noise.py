"""Labels that look wrong, by what the model said when it answered and by what was said of inputs like it.

Two questions, and a label is suspect when both say so:

1. Confident learning. A class's threshold is the mean probability that the model gave it on inputs labelled so; an
   input whose probability of another class reaches that one's threshold is off the diagonal of the confident joint.
   The model answered before anybody labelled, so its probabilities are out of sample, as the method needs.
2. Neighbours. Of the nearest inputs in the embedding that have a label, fewer than half have this one.

The first alone is not enough here: what is labelled is mostly what the model gets wrong, surely and in masses, as when
a camera was turned, and every such label is off the diagonal. Those agree with their neighbours; a slip of the hand
does not. Where no embedding is kept, nothing is suspect rather than everything.

References:
    Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021 (eq. 1, 2).
    Bahri, Jiang, Gupta, "Deep k-NN for Noisy Labels", ICML 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.datasets.gather import Labelled
from monitoring.vectors import stack, to_units

NEIGHBOURS = 5
LEAST_ROWS = 20
BLOCK = 1024
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A label that looks wrong.

    Attributes:
        given: The label, a class index.
        suggested: What the model was confident of.
        probability: That it gave to it.
        agreeing: Neighbours with the label that was given, of those that were asked.
        asked: Neighbours that were asked.
    """

    row_id: str
    given: int
    suggested: int
    probability: float
    agreeing: int
    asked: int


def find_suspects(
    row_ids: Sequence[str], given: npt.NDArray[np.int64], probabilities: Floats, units: npt.NDArray[np.float32]
) -> list[Suspect]:
    """Suspect labels, the surest first.

    Args:
        row_ids: Of each row.
        given: Class index of each label, (rows,).
        probabilities: That the model gave, (rows, classes); NaN where it is not known.
        units: Embeddings of length 1, (rows, features); zeros where there is none.

    Example:
        >>> ids = [f"r{i}" for i in range(40)]
        >>> labels = np.repeat([0, 1], 20); labels[3] = 1
        >>> p = np.where(np.arange(40)[:, None] < 20, [0.9, 0.1], [0.1, 0.9])
        >>> units = np.where(np.arange(40)[:, None] < 20, [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
        >>> [(s.row_id, s.given, s.suggested, s.agreeing) for s in find_suspects(ids, labels, p, units)]
        [('r3', 1, 0, 0)]
    """
    usable = np.isfinite(probabilities).all(axis=1) & (units != 0).any(axis=1)
    index = np.flatnonzero(usable)
    if len(index) < LEAST_ROWS:
        return []
    said, own, near = given[index], probabilities[index], units[index]
    suggested = off_diagonal(said, own)
    found = []
    rows = np.flatnonzero(suggested >= 0)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        likeness = near[part] @ near.T  # (part, rows)
        likeness[np.arange(len(part)), part] = -np.inf
        asked = min(NEIGHBOURS, len(index) - 1)
        nearest = np.argpartition(-likeness, asked - 1, axis=1)[:, :asked]  # (part, asked)
        agreeing = (said[nearest] == said[part][:, None]).sum(axis=1)
        for row, count in zip(part.tolist(), agreeing.tolist(), strict=True):
            if count < asked / 2:
                found.append(
                    Suspect(
                        row_id=row_ids[index[row]],
                        given=int(said[row]),
                        suggested=int(suggested[row]),
                        probability=round(float(own[row, suggested[row]]), 6),
                        agreeing=count,
                        asked=asked,
                    )
                )
    return sorted(found, key=lambda s: (s.agreeing, -s.probability, s.row_id))


def suspects_among(rows: Sequence[Labelled], classes: Sequence[Any]) -> list[Suspect]:
    """The same for labelled rows as they were gathered; empty where labels are no classes.

    Args:
        rows: Labelled rows.
        classes: Names of the classes, in their order; empty where labels are indices.
    """
    width = len(classes) or max((len(x.probabilities) for x in rows if x.probabilities), default=0)
    at = {name: i for i, name in enumerate(classes)}
    kept = [x for x in rows if x.probabilities is not None and len(x.probabilities) == width and x.vector is not None]
    known = [(x, at.get(x.row.label) if classes else x.row.label) for x in kept]
    asked = [(x, index) for x, index in known if isinstance(index, int) and 0 <= index < width]
    if len(asked) < LEAST_ROWS:
        return []
    asked.sort(key=lambda pair: pair[0].row.row_id)
    probabilities = np.array([x.probabilities for x, _ in asked], dtype=np.float64)
    units = to_units(stack([x.vector for x, _ in asked]))
    labels = np.array([index for _, index in asked], dtype=np.int64)
    return find_suspects([x.row.row_id for x, _ in asked], labels, probabilities, units)


def off_diagonal(given: npt.NDArray[np.int64], p: Floats) -> npt.NDArray[np.int64]:
    """The class that each row is confidently of instead, (rows,); -1 where it is not."""
    classes = p.shape[1]
    thresholds = np.full(classes, np.inf)
    for c in np.unique(given).tolist():
        thresholds[c] = p[given == c, c].mean()
    confident = np.where(p >= thresholds, p, -1.0)  # (rows, classes)
    best = np.argmax(confident, axis=1)
    off = (confident.max(axis=1) >= 0.0) & (best != given)
    return np.where(off, best, -1)
