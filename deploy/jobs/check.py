"""Is what a job left what was asked for? Looked at once the program has ended with status 0."""

from __future__ import annotations

from pathlib import Path

from deploy.jobs.book import Book
from deploy.jobs.folder import JobSpec
from export.contracts.errors import HardcaseError
from monitoring.loop.contracts import JobKind


def found_wrong(spec: JobSpec, book: Book) -> str:
    """Why the job failed all the same; "" when it did not."""
    if not spec.expects:
        return ""
    left = Path(spec.output, spec.expects)
    if spec.kind is not JobKind.TRAIN:
        return "" if left.exists() else f"it ended with status 0 and left no {spec.expects}"
    if not left.is_dir():
        return "it ended with status 0 and left no package"
    from export.package import read_package  # only now: a supervisor waits for hours with little memory

    try:
        manifest = read_package(left).manifest
    except HardcaseError as error:
        return f"it ended with status 0 and left a package that cannot be read: {error.message}"
    if (manifest.name, manifest.version) != (spec.name, spec.version):
        return f"the package is '{manifest.name}' {manifest.version}; '{spec.name}' {spec.version} was asked for"
    named = manifest.provenance.dataset_snapshot
    if named is None:
        book.note("the package does not say from which snapshot it was made")
    elif spec.snapshot_digest and named.removeprefix("sha256:") != spec.snapshot_digest.removeprefix("sha256:"):
        return "the package says that it was made from another snapshot than the one that was asked for"
    return ""
