"""Our stand-alone server with its request counters and histograms taken out: what they cost is measured against it.

Takes the arguments of `serving.standalone`. Not a mode of the product: without counters there is nothing to monitor.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from serving import standalone, version
from serving.stats import ReleaseReason, VersionStats


class NoStats(VersionStats):
    """Counts nothing."""

    def executed(
        self, rows: int, reason: ReleaseReason, input_ns: int = 0, infer_ns: int = 0, output_ns: int = 0
    ) -> None:
        """Count nothing."""

    def succeeded(
        self, variant: Any, rows: int, queue_ns: Sequence[int], total_ns: Sequence[int], **spent: int
    ) -> None:
        """Count nothing."""


if __name__ == "__main__":
    version.VersionStats = NoStats  # type: ignore[misc]  # the one name that the data plane makes its counters with
    sys.exit(standalone.main())
