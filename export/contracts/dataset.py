"""Data set snapshots: immutable labelled rows in a folder, named by the digest of their content.

    <folder>/snapshot.json      `SnapshotManifest`, canonical JSON
    <folder>/data.parquet       one row an example, in the order of the manifest's digest

A snapshot's digest is that of its manifest's bytes; the manifest holds the digest of the data file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from export.contracts.signature import Signature
from export.contracts.task import Task

SNAPSHOT_SCHEMA_VERSION = 1
SNAPSHOT_FILE = "snapshot.json"
DATA_FILE = "data.parquet"


class Split(StrEnum):
    """What a row is for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Source(StrEnum):
    """Where a row comes from."""

    BASE = "base"  # the base data set, from outside
    CASE = "case"  # a reviewed case
    FEEDBACK = "feedback"  # ground truth that a client sent
    AUDIT = "audit"  # a random audit item that was reviewed


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotManifest:
    """What a snapshot holds, and how it came to be.

    Columns of the data file: `row_id` (string, unique), `split`, `source`, `group` (rows of one group are all in one
    split), `weight` (float), `label` (JSON text, as `export.contracts.answers` reads it), `author`, `time_ns`,
    `case_id`, `record_id`, `version` (that answered), `predicted` (JSON text as the label; NULL for base rows),
    `content` (hash of the inputs, 16 hex digits), `slices` (list of ids), and for every input of the signature
    `input:<name>`, the tensor's bytes without the batch dimension, with `shape:<name>`.

    Attributes:
        recipe: The recipe as plain JSON, complete with its defaults.
        created_at: Time of the newest row: of the data, not of the clock, so that the digest does not depend on it.
        splits: {split: rows}.
        sources: {source: rows}.
        classes: {label as text: rows}; empty where labels are no classes.
        base: Digest of the base snapshot, if any.
        data_sha256: Of the data file.
        notes: What the recipe left out and why, in sentences: label noise, quotas, duplicates.
    """

    name: str
    model: str
    task: Task
    signature: Signature
    rows: int
    splits: dict[str, int]
    sources: dict[str, int]
    data_sha256: str
    created_at: str
    recipe: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    base: str | None = None
    notes: tuple[str, ...] = ()
    schema_version: int = SNAPSHOT_SCHEMA_VERSION
