"""Cases to review, many of them, straight into the tables: one window, digits as classes, a record each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.cases import FlagReason
from monitoring import schema as t
from monitoring.flags import FLAG_BITS
from monitoring.keys import case_id, record_hash
from monitoring.store import Store

START_S = 1_772_000_040
A_WINDOW = 500  # cases, ten a second
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass
class Clock:
    """A clock that only a test moves."""

    now_ns: int = (START_S + 3600) * 10**9

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


def fill(
    store: Store,
    count: int,
    *,
    model: str = "digits",
    version: str = "1",
    first: int = 0,
    records: bool = False,
    vectors: int = 0,
    seed: int = 0,
) -> list[str]:
    """Add cases `first` .. `first + count - 1`; returns their ids, the first in the queue first.

    Args:
        records: Also their rows of the record index.
        vectors: Width of an embedding; 0 for none.
    """
    rng = np.random.default_rng([seed, first])
    ids: list[str] = []
    with store.write() as connection:
        v = t.versions.c
        version_id = connection.scalar(sa.select(v.id).where(v.model == model, v.version == version))
        if version_id is None:
            row = {"model": model, "version": version, "digest": "", "first_ns": START_S * 10**9}
            values = row | {"last_ns": (START_S + 60) * 10**9}
            version_id = connection.execute(t.versions.insert().values(**values).returning(v.id)).scalar_one()
        for start in range(first, first + count, 5000):
            numbers = range(start, min(start + 5000, first + count))
            rows = [_case(model, version, n, rng, vectors) for n in numbers]
            ids += [row["id"] for row in rows]
            connection.execute(t.cases.insert(), rows)
            if records:
                connection.execute(t.records.insert(), [_record(row, version_id) for row in rows])
    return ids


def _case(model: str, version: str, number: int, rng: np.random.Generator, vectors: int) -> dict[str, Any]:
    start_s = START_S + number // A_WINDOW * 60
    record_id, time_ns = f"r{number}", start_s * 10**9 + number % A_WINDOW * 10**8
    predicted, p = int(rng.integers(10)), round(float(rng.uniform(0.2, 0.9)), 6)
    return {
        "id": case_id(model, record_id, time_ns),
        "id_hash": record_hash(model, record_id),
        "record_id": record_id,
        "model": model,
        "version": version,
        "variant": "champion",
        "time_ns": time_ns,
        "window_start_s": start_s,
        "state": "open",
        "flags": FLAG_BITS[FlagReason.LOW_CONFIDENCE],
        "rank": p,
        "audit_rank": float(rng.uniform()),
        "p_wrong": p,
        "confidence": 1.0 - p,
        "predicted": predicted,
        "predicted_label": NAMES[predicted],
        "scores": {"p_wrong": p},
        "outcome": "ok",
        "rows": 1,
        "row": 0,
        "timing_us": {},
        "source": "replica-0",
        "input_state": "gone",
        "vector": None if not vectors else rng.integers(-127, 128, vectors, dtype=np.int8).tobytes(),
        "queue": 1e6 - number,
    }


def _record(case: dict[str, Any], version_id: int) -> dict[str, Any]:
    same = ("id_hash", "time_ns", "record_id", "variant", "outcome", "rows", "predicted", "confidence", "p_wrong",
            "flags", "source", "vector")  # fmt: skip
    return {name: case[name] for name in same} | {
        "version_id": version_id,
        "worst_row": 0,
        "probability": 1.0,
        "segment": 0,
        "offset": 0,
        "sequence": 0,
    }
