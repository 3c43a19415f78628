"""The manifest: everything that is known about a package without opening its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from export.contracts.codec import ONLY_WHEN_SET
from export.contracts.signature import Signature
from export.contracts.task import Task, TaskKind

__all__ = [
    "MANIFEST_FILE",
    "MANIFEST_SCHEMA_VERSION",
    "NAME_PATTERN",
    "Execution",
    "FileRole",
    "Manifest",
    "PackageFile",
    "Provenance",
    "RuntimeFile",
    "RuntimeKind",
    "SampleSource",
    "Task",
    "TaskKind",
    "Tolerance",
]
MANIFEST_SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class RuntimeKind(StrEnum):
    """A file format with a runtime that executes it; the value is a key of the settings."""

    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"

    @property
    def platform(self) -> str:
        """The protocol's platform string."""
        return "onnx_onnxv1" if self is RuntimeKind.ONNX else "pytorch_torchscript"


class FileRole(StrEnum):
    """Why a file is in the package."""

    WEIGHTS = "weights"  # a runtime's entry file, or external data of one
    GOLDEN = "golden"  # golden.npz: real inputs and the outputs that every load must reproduce
    PARITY = "parity"  # parity.json: the report of the parity gate
    REFERENCE = "reference"  # reference.npz + reference.json: the compiled reference profile
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageFile:
    """A file of the package: path relative to the package, with `/`, and its digest in lower-case hex."""

    path: str
    role: FileRole
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeFile:
    """Which runtime executes which file. The first of a manifest is preferred."""

    kind: RuntimeKind
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """|a - b| <= absolute + relative * |b|, elementwise."""

    absolute: float = 1e-4
    relative: float = 1e-3


class SampleSource(StrEnum):
    """Where the rows of golden cases and parity come from."""

    REAL = "real"  # given by whoever made the package
    MADE_UP = "made_up"  # random rows within the signature: they show repeatability, not quality


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """Where a version comes from. Times are RFC 3339 in UTC; `samples` is None where there are no golden cases."""

    created_at: str
    source: str
    git_commit: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    dataset_snapshot: str | None = None
    parent_version: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    samples: SampleSource | None = field(default=None, metadata=ONLY_WHEN_SET)


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """How a version runs best, as measured (`hardcase tune`). A setting that is given wins; None leaves it to settings.

    Attributes:
        max_batch_rows: Largest batch that serving forms; at most the manifest's own `max_batch_rows`.
        intra_op_threads: Threads of one execution; 0 lets the runtime choose.
        instances: Replicas on one machine.

    Raises:
        ValueError: a number below its smallest value.
    """

    max_batch_rows: int | None = None
    intra_op_threads: int | None = None
    instances: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value, least in (
            ("max_batch_rows", self.max_batch_rows, 1),
            ("intra_op_threads", self.intra_op_threads, 0),
            ("instances", self.instances, 1),
        ):
            if value is not None and value < least:
                raise ValueError(f"execution.{name} is {value}: it must be at least {least}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A package's table of contents. The digest of its bytes is the digest of the package.

    Raises:
        ValueError: a name or version that could not be a folder and a URL segment, or a tuned batch over the largest.
    """

    name: str
    version: str
    task: Task
    signature: Signature
    runtimes: tuple[RuntimeFile, ...]
    files: tuple[PackageFile, ...]
    provenance: Provenance
    golden: str | None = None
    golden_tolerance: Tolerance = field(default_factory=Tolerance)
    parity: str | None = None
    reference: str | None = None
    max_batch_rows: int = 256
    execution: Execution | None = None
    schema_version: int = MANIFEST_SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Check the names."""
        for label, value in (("name", self.name), ("version", self.version)):
            if not NAME_PATTERN.fullmatch(value) or ".." in value:
                raise ValueError(
                    f"{label} '{value}' must be 1-64 of letters, digits, '_', '-', '.', start with a letter or digit, "
                    "and hold no '..'"
                )
        tuned = self.execution.max_batch_rows if self.execution is not None else None
        if tuned is not None and tuned > self.max_batch_rows:
            raise ValueError(f"execution.max_batch_rows is {tuned}: the package allows {self.max_batch_rows}")
