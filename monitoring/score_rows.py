"""The scores of a record as a row of the database holds them: one float32 for each of `STORED`, little-endian.

The order only ever grows at the end, so that what an older monitor stored stays readable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.contracts.scores import ScoreName

STORED = (
    ScoreName.MSP.value,
    ScoreName.MARGIN.value,
    ScoreName.ENTROPY.value,
    ScoreName.GEN.value,
    ScoreName.PNORM.value,
    ScoreName.ENERGY.value,
    ScoreName.RMDS.value,
    ScoreName.KNN.value,
    ScoreName.TRUST.value,
)
_WIDTH = 4 * len(STORED)


def pack(scores: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64]) -> list[bytes | None]:
    """The bytes of each of `rows`; None for all where none of the scores is known.

    Example:
        >>> unpack(pack({"msp": np.array([0.25, 0.5])}, np.array([1])))["msp"].tolist()
        [0.5]
    """
    known = [name for name in STORED if name in scores]
    if not known:
        return [None] * len(rows)
    table = np.full((len(rows), len(STORED)), np.nan, dtype="<f4")
    for name in known:
        table[:, STORED.index(name)] = scores[name][rows]
    whole = table.tobytes()
    return [whole[i : i + _WIDTH] for i in range(0, len(whole), _WIDTH)]


def unpack(stored: Sequence[bytes | None]) -> dict[str, npt.NDArray[np.float32]]:
    """Scores by name, (rows,) each; NaN where a row has none, or was stored before the score was."""
    table = np.full((len(stored), len(STORED)), np.nan, dtype=np.float32)
    for row, data in enumerate(stored):
        if data:
            values = np.frombuffer(data, dtype="<f4")[: len(STORED)]
            table[row, : len(values)] = values
    return {name: table[:, i] for i, name in enumerate(STORED)}
