"""What is known of one segment without decoding its records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monitoring.records.folders import incarnation_of
from monitoring.records.scan import SegmentScan


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """Attributes: `created_ns` of the header (0: unreadable), `data_end` behind the last data frame, `sealed`."""

    created_ns: int
    data_end: int
    sealed: bool


def segment_facts(root: Path, source: str, number: int) -> SegmentFacts | None:
    """The facts of a segment; None when it has gone."""
    scan = SegmentScan(root / source, number, incarnation_of(source) or "")
    if not scan.open():
        return None
    end = 0
    try:
        while (raw := scan.next(1 << 62, closed=False)) is not None:
            if raw.kind.is_data:
                end = raw.end
        return SegmentFacts(scan.header.created_ns if scan.header else 0, end, scan.footer is not None)
    finally:
        scan.close()
