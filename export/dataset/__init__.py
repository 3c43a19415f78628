"""Data set snapshots (`export.contracts.dataset`): written whole or not at all, checked when opened, read for training.

Example:
    >>> Snapshot.open(folder).arrays("train").inputs["image"].shape  # doctest: +SKIP
    (700, 1, 8, 8)
"""

from export.dataset.read import Snapshot
from export.dataset.rows import DatasetRow, Rows
from export.dataset.write import ManifestParts, write_snapshot

__all__ = ["DatasetRow", "ManifestParts", "Rows", "Snapshot", "write_snapshot"]
