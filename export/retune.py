"""A new version with the same weights and other execution settings: what `hardcase tune` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from export.contracts import codec
from export.contracts.errors import PackageError
from export.contracts.manifest import MANIFEST_FILE, Execution
from export.package import Package, copy_package, read_package
from export.package_files import check_files, staged_folder
from export.provenance import make_provenance


def write_retuned(
    source: Package, dest: Path, *, version: str, execution: Execution, metrics: Mapping[str, float], how: str
) -> Package:
    """Copy a package under another version with `execution` set.

    Weights, golden cases, parity report and reference profile stay byte for byte what they were, so nothing needs to be
    proved again.

    Args:
        source: The package that was measured.
        dest: Folder to create.
        version: The new version.
        execution: The settings that were found.
        metrics: What was measured with them; added to the provenance's metrics.
        how: What made the version, for the provenance.

    Raises:
        PackageError: `dest` exists, the version is the source's own, or the settings do not fit the package.
        AdmissionRefused: a file of the source does not have its digest.
    """
    manifest = source.manifest
    if version == manifest.version:
        raise PackageError(f"the tuned package must have another version than the measured one, {version}")
    if dest.exists():
        raise PackageError(f"a package is already at '{dest.name}'")
    provenance = make_provenance(
        how,
        dataset_snapshot=manifest.provenance.dataset_snapshot,
        parent_version=manifest.version,
        metrics={**manifest.provenance.metrics, **metrics},
    )
    try:
        changed = replace(manifest, version=version, execution=execution, provenance=provenance)
    except ValueError as error:
        raise PackageError(str(error)) from None
    with staged_folder(dest) as folder:
        copy_package(source, folder)
        (folder / MANIFEST_FILE).write_bytes(codec.dumps(changed))
        check_files(folder, changed)
    return read_package(dest)
