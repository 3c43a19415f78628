"""The rules of admission over a whole package, in the order of their cost. Runs in the admission child."""

from __future__ import annotations

from pathlib import Path

from export.admission_archive import check_arrays, check_torchscript
from export.admission_limits import AdmissionLimits
from export.admission_onnx import check_onnx
from export.contracts.errors import AdmissionRefused
from export.contracts.manifest import FileRole, Manifest, RuntimeKind
from export.package import read_package
from export.package_files import check_files, open_beneath


def check_package(folder: Path, limits: AdmissionLimits) -> dict[str, int | str]:
    """Check everything that can be known of a package without executing any of it.

    Returns:
        Facts for the report, the package's digest among them.

    Raises:
        PackageError: the rule that the package breaks.
    """
    package = read_package(folder)
    manifest = package.manifest
    _check_manifest(manifest, limits)
    check_files(folder, manifest)
    facts: dict[str, int | str] = {
        "digest": package.digest,
        "files": len(manifest.files),
        "bytes": sum(f.size_bytes for f in manifest.files),
    }
    weights = {f.path: f.size_bytes for f in manifest.files if f.role is FileRole.WEIGHTS}
    for runtime in manifest.runtimes:
        with open_beneath(folder, runtime.path) as file:
            if runtime.kind is RuntimeKind.ONNX:
                if weights[runtime.path] > limits.onnx_bytes:
                    raise AdmissionRefused(f"ONNX: the file is larger than {limits.onnx_bytes} bytes")
                if 3 * weights[runtime.path] > limits.memory_bytes:
                    raise AdmissionRefused("checking the ONNX file needs more memory than the limit")
                found = check_onnx(file.read(), weights, manifest.signature.model, limits)
            else:
                found = check_torchscript(file, limits)
        facts |= {f"{runtime.kind}_{key}": value for key, value in found.items()}
    for entry in manifest.files:
        if entry.path.endswith(".npz"):
            with open_beneath(folder, entry.path) as file:
                check_arrays(file, limits)
    return facts


def _check_manifest(manifest: Manifest, limits: AdmissionLimits) -> None:
    if len(manifest.files) > limits.files:
        raise AdmissionRefused(f"the package has more than {limits.files} files")
    if sum(f.size_bytes for f in manifest.files) > limits.total_bytes or any(f.size_bytes < 0 for f in manifest.files):
        raise AdmissionRefused(f"the package is larger than {limits.total_bytes} bytes")
    roles = {f.path: f.role for f in manifest.files}
    if not manifest.runtimes:
        raise AdmissionRefused("the manifest names no runtime")
    for runtime in manifest.runtimes:
        if roles.get(runtime.path) is not FileRole.WEIGHTS:
            raise AdmissionRefused(f"runtime '{runtime.kind}' does not name a weights file of the manifest")
    for label, path, role in (
        ("golden", manifest.golden, FileRole.GOLDEN),
        ("parity", manifest.parity, FileRole.PARITY),
        ("reference", manifest.reference, FileRole.REFERENCE),
    ):
        if path is not None and roles.get(path) is not role:
            raise AdmissionRefused(f"'{label}' does not name a {role} file of the manifest")
