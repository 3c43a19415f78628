"""A stand-in for the reviewer: takes cases from the real queue, looks at them, types what it sees. Not always rightly.

It knows what a picture shows by the number of the digit at the end of the request's id; a person would look at the
picture. Of its answers a stated share is wrong: another class, drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.demo.digits import CLASS_NAMES
from deploy.demo.traffic import MODEL
from deploy.monitor_client import MonitorClient

A_TIME = 5  # cases leased at once


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """What was typed about a case."""

    case: str
    record_id: str
    version: str
    variant: str
    audit: bool
    said: str
    truth: str
    predicted: str | None

    @property
    def mistaken(self) -> bool:
        """Whether the label is wrong."""
        return self.said != self.truth


class Reviewer:
    """See the module's text.

    Args:
        client: The console's API.
        run: First part of the ids of requests whose truth is known here; cases of others are left.
        truths: (n,) class of the live digit of every number.
        error_rate: Share of wrong labels.
        seed: Of the mistakes.
    """

    def __init__(
        self,
        client: MonitorClient,
        run: str,
        truths: npt.NDArray[np.int64],
        *,
        error_rate: float,
        seed: int,
    ) -> None:
        self._client, self._run, self._truths = client, run, truths
        self._error_rate = error_rate
        self._random = np.random.default_rng(seed)
        self._skip: list[str] = []
        self._acts = 0
        self.labelled: list[Labelled] = []

    def review(self, most: int) -> int:
        """Label the next cases of the queue; returns how many.

        Args:
            most: Not more than so many.
        """
        ask = {"model": MODEL, "count": min(most, A_TIME), "skip": self._skip[-200:]}
        leased = self._client.post("/api/review/lease", ask)["cases"]
        decisions, typed = [], []
        for case in leased:
            number = self._number(case["record_id"])
            if number is None or case["standing"]["verdict"] is not None:
                self._skip.append(case["id"])
                continue
            one = self._look(case, number)
            typed.append(one)
            decision = {"case": case["id"], "edition": case["standing"]["edition"]}
            if one.said == one.predicted:
                decisions.append(decision | {"verdict": "correct"})
            else:
                decisions.append(decision | {"verdict": "label", "label": one.said})
        if not decisions:
            return 0
        self._acts += 1
        key = f"demo {self._run} {self._acts}"
        results = self._client.post("/api/review/decisions", {"key": key, "decisions": decisions})["results"]
        done = [one for one, result in zip(typed, results, strict=True) if result["ok"]]
        self.labelled += done
        return len(done)

    def _number(self, record_id: str) -> int | None:
        """Which live digit the request showed; None for somebody else's request."""
        run, _, rest = record_id.partition("-")
        last = rest.rpartition("-")[2]
        if run != self._run or not last.isdecimal() or int(last) >= len(self._truths):
            return None
        return int(last)

    def _look(self, case: dict[str, Any], number: int) -> Labelled:
        truth = int(self._truths[number])
        said = truth
        if self._random.random() < self._error_rate:
            said = int((truth + self._random.integers(1, len(CLASS_NAMES))) % len(CLASS_NAMES))
        return Labelled(
            case=case["id"],
            record_id=case["record_id"],
            version=case["version"],
            variant=case["variant"],
            audit="audit" in case["reasons"],
            said=CLASS_NAMES[said],
            truth=CLASS_NAMES[truth],
            predicted=case["predicted_label"],
        )
