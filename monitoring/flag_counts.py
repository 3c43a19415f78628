"""How many records were flagged since the process started, and one record of late for each reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.contracts.cases import FlagReason
from monitoring.flags import FLAG_BITS
from monitoring.keys import printable

if TYPE_CHECKING:
    from monitoring.ingest import Unit


@dataclass(kw_only=True, slots=True)
class FlagCount:
    """Records of one version flagged for one reason. `record_id` and `time_ns` are of one of the last."""

    records: int = 0
    record_id: str = ""
    time_ns: int = 0


class FlagCounts:
    """Counts what scores and rules flagged; audits and feedback are counted as cases."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, FlagReason], FlagCount] = {}

    def add(self, units: Iterable[Unit]) -> None:
        """Count committed batches. The record that is shown for each reason is the batch's most suspicious one."""
        for unit in units:
            flags = unit.scored.flags  # (record,)
            present = int(np.bitwise_or.reduce(flags, initial=0))
            for reason, bit in FLAG_BITS.items():
                if not present & bit:
                    continue
                members = np.flatnonzero(flags & bit)
                worst = int(members[np.argmax(unit.scored.ranks[members])])
                count = self.counts.setdefault((unit.batch.model, unit.batch.version, reason), FlagCount())
                count.records += len(members)
                count.record_id = printable(unit.batch.ids[worst])
                count.time_ns = int(unit.batch.time_ns[worst])
