"""Where a version comes from: library versions and the git commit of the code that made it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata

from export.contracts.manifest import Provenance

LIBRARIES = ("hardcase", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy")


def make_provenance(
    source: str,
    *,
    dataset_snapshot: str | None = None,
    parent_version: str | None = None,
    metrics: Mapping[str, float] | None = None,
    now: datetime | None = None,
) -> Provenance:
    """A provenance of this moment, this environment and the git work tree that is the current folder, if it is one."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return Provenance(
        created_at=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        source=source,
        git_commit=git_commit(),
        environment=environment(),
        dataset_snapshot=dataset_snapshot,
        parent_version=parent_version,
        metrics=dict(metrics or {}),
    )


def environment() -> dict[str, str]:
    """Versions of Python, the machine's architecture and the libraries that matter for numbers."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The current commit, with "+dirty" when tracked files differ; None outside a work tree or without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+dirty" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()
