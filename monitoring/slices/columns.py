"""Watched inputs as a few levels that have names: what slices are said in.

A level is a range between percentiles of the version's reference, so it means the same in every window and for every
run, and "brightness is far above the usual" can be said of a slice today and found again tomorrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.baseline import Baseline, QuantityKind

MAX_COLUMNS = 32
PERCENTILES = (1, 20, 80, 99)
LEVELS = ("", "far below usual", "low", "usual", "high", "far above usual")  # 0: not known
USUAL = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Which watched quantities become levels.

    Attributes:
        names: Of the quantities.
        places: Their columns among the watched values.
        edges: (columns, 4) values at the percentiles 1, 20, 80 and 99 of the reference.
    """

    names: tuple[str, ...]
    places: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float32]

    @classmethod
    def of(cls, baseline: Baseline) -> Columns:
        """Descriptors of the inputs; single features too where those are few enough to be things with names."""
        watched = list(enumerate(baseline.quantities[: baseline.input_columns]))
        chosen = [(i, q) for i, q in watched if q.kind is QuantityKind.DESCRIPTOR]
        features = [(i, q) for i, q in watched if q.kind is QuantityKind.FEATURE]
        if len(features) <= MAX_COLUMNS - len(chosen):
            chosen = sorted(chosen + features, key=lambda pair: pair[0])
        # A quantity that hardly varies in the reference has no low and no high.
        varied = [(i, q) for i, q in chosen if baseline.edges[i, 1] < baseline.edges[i, 99]][:MAX_COLUMNS]
        places = np.array([i for i, _ in varied], dtype=np.int64)
        return cls(
            names=tuple(q.name for _, q in varied),
            places=places,
            edges=np.asarray(baseline.edges[places][:, list(PERCENTILES)], dtype=np.float32).reshape(len(places), 4),
        )

    def levels(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8] | None:
        """Level of each value, (rows, columns): index into `LEVELS`. None when there are no columns."""
        if not len(self.places):
            return None
        made = np.zeros((len(values), len(self.places)), dtype=np.uint8)
        for column, (place, edges) in enumerate(zip(self.places.tolist(), self.edges, strict=True)):
            x = values[:, place]
            levels = np.searchsorted(edges, x, side="right").astype(np.uint8) + np.uint8(1)
            made[:, column] = np.where(np.isfinite(x), levels, np.uint8(0))
        return made
