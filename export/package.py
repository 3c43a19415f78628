"""A package on disk: a folder with a manifest that names every other file by size and digest.

Writing is atomic: everything goes to a temporary folder beside the destination, is synced, and is renamed into place,
so a package is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from export.contracts import codec
from export.contracts.errors import PackageError
from export.contracts.manifest import (
    MANIFEST_FILE,
    MANIFEST_SCHEMA_VERSION,
    FileRole,
    Manifest,
    PackageFile,
    RuntimeKind,
)
from export.package_files import check_files, digest_of, is_safe_path, open_beneath, staged_folder

GOLDEN_FILE = "golden.npz"
PARITY_FILE = "parity.json"
MAX_MANIFEST_BYTES = 4 << 20
if TYPE_CHECKING:  # numpy comes with the first array: registry commands read manifests only
    import numpy.typing as npt

    from export.contracts.reference import ReferenceProfile

    Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Golden:
    """Real inputs and the outputs that every load of the package must reproduce, by tensor name, (rows, ...) each.

    Attributes:
        inputs: As clients send them.
        tensors: What declared preprocessing made of them at export, for the inputs that have any: the model's side of
            the golden cases for whoever has no image decoder, and the proof that a decoder is the one of the export.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    tensors: dict[str, Array] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of the first input."""
        first = next(iter(self.inputs.values()))
        return int(first.shape[0]) if first.ndim else 1


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package folder whose manifest was read. Reading checks nothing but the manifest: see `verify` and `admission`.

    Attributes:
        digest: "sha256:" and the hex SHA-256 of the manifest's bytes; it covers every file, because the manifest does.
    """

    dir: Path
    manifest: Manifest
    digest: str

    def file(self, path: str) -> Path:
        """The absolute path of a file that the manifest names.

        Raises:
            PackageError: the manifest does not name it.
        """
        if all(f.path != path for f in self.manifest.files):
            raise PackageError("the package has no such file")
        return self.dir.joinpath(*PurePosixPath(path).parts)

    def files(self, role: FileRole) -> tuple[Path, ...]:
        """Paths of all files with a role."""
        return tuple(self.file(f.path) for f in self.manifest.files if f.role is role)

    def runtime_file(self, kind: RuntimeKind) -> Path | None:
        """The entry file of a runtime, or None when the package has none for it."""
        for runtime in self.manifest.runtimes:
            if runtime.kind is kind:
                return self.file(runtime.path)
        return None

    def golden(self) -> Golden | None:
        """The golden cases, or None.

        Raises:
            PackageError: the file is there and is not readable.
        """
        if self.manifest.golden is None:
            return None
        from export.contracts.arrays import load_npz

        try:
            arrays = load_npz(self.file(self.manifest.golden))
        except ValueError as error:
            raise PackageError(f"golden cases: {error}") from None
        return Golden(
            inputs={k.removeprefix("in/"): v for k, v in arrays.items() if k.startswith("in/")},
            outputs={k.removeprefix("out/"): v for k, v in arrays.items() if k.startswith("out/")},
            tensors={k.removeprefix("model/"): v for k, v in arrays.items() if k.startswith("model/")},
        )

    def reference_dir(self) -> Path | None:
        """Folder of the reference profile, or None."""
        return None if self.manifest.reference is None else self.file(self.manifest.reference).parent

    def reference(self) -> ReferenceProfile | None:
        """The reference profile, or None.

        Raises:
            PackageError: it is there and is not readable.
        """
        folder = self.reference_dir()
        if folder is None:
            return None
        from export.contracts.reference import ReferenceProfile

        try:
            return ReferenceProfile.load(folder)
        except (ValueError, OSError) as error:
            raise PackageError(f"reference profile: {_public(error)}") from None

    def verify(self) -> None:
        """Compare every file with its digest and size, and refuse files that the manifest does not name.

        Raises:
            AdmissionRefused: names the first file that differs.
        """
        check_files(self.dir, self.manifest)


def read_package(path: Path | str) -> Package:
    """Read a package folder's manifest.

    Raises:
        PackageError: no manifest, one that is not readable, or one of another schema version.
    """
    folder = Path(path)
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise PackageError(f"no readable {MANIFEST_FILE}: {error.strerror}") from None
    if len(data) > MAX_MANIFEST_BYTES:
        raise PackageError(f"{MANIFEST_FILE} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = codec.loads(Manifest, data)
    except ValueError as error:
        raise PackageError(f"{MANIFEST_FILE}: {error}") from None
    if manifest.schema_version != MANIFEST_SCHEMA_VERSION:
        raise PackageError(
            f"{MANIFEST_FILE} has schema version {manifest.schema_version}, expected {MANIFEST_SCHEMA_VERSION}"
        )
    for f in manifest.files:
        if not is_safe_path(f.path):
            raise PackageError(f"{MANIFEST_FILE}: file path '{f.path[:80]!r}' is not a plain relative path")
    return Package(dir=folder, manifest=manifest, digest=f"sha256:{hashlib.sha256(data).hexdigest()}")


def write_package(
    dest: Path,
    manifest: Manifest,
    fill: Callable[[Path], Mapping[str, FileRole]],
    *,
    golden: Golden | None = None,
    parity: Callable[[], bytes | None] | None = None,
    reference: ReferenceProfile | None = None,
    overwrite: bool = False,
) -> Package:
    """Write a package atomically.

    Args:
        dest: Folder to create.
        manifest: Everything but the files: `files`, `golden`, `parity` and `reference` are filled in here.
        fill: Writes the weights into the folder that it is given and returns each file's role by relative path.
        golden: Golden cases to store.
        parity: Gives the parity gate's report as JSON, once the weights are written.
        reference: The reference profile to store.
        overwrite: Replace a package that is already there.

    Raises:
        PackageError: `dest` exists, or a runtime's file was not written.
    """
    if dest.exists() and not overwrite:
        raise PackageError(f"a package is already at '{dest.name}': remove it, or ask for it to be replaced")
    with staged_folder(dest, overwrite=overwrite) as folder:
        roles = dict(fill(folder))
        if golden is not None:
            from export.contracts.arrays import save_npz

            save_npz(folder / GOLDEN_FILE, _golden_arrays(golden))
            roles[GOLDEN_FILE] = FileRole.GOLDEN
        report = parity() if parity is not None else None
        if report is not None:
            (folder / PARITY_FILE).write_bytes(report)
            roles[PARITY_FILE] = FileRole.PARITY
        names = reference.save(folder) if reference is not None else ()
        roles |= dict.fromkeys(names, FileRole.REFERENCE)
        complete = replace(
            manifest,
            files=tuple(_describe(folder, path, role) for path, role in sorted(roles.items())),
            golden=GOLDEN_FILE if golden is not None else None,
            parity=PARITY_FILE if report is not None else None,
            reference=names[0] if names else None,
        )
        for runtime in complete.runtimes:
            if runtime.path not in roles:
                raise PackageError(f"runtime '{runtime.kind}' names '{runtime.path}', which was not written")
        (folder / MANIFEST_FILE).write_bytes(codec.dumps(complete))
        check_files(folder, complete)
    return read_package(dest)


def copy_package(source: Package, folder: Path) -> None:
    """Copy the manifest and every file that it names into `folder`, following no links.

    Raises:
        AdmissionRefused: a file is a link, no regular file, or missing.
    """
    for path in (MANIFEST_FILE, *(f.path for f in source.manifest.files)):
        target = folder.joinpath(*path.split("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_beneath(source.dir, path) as read, target.open("xb") as write:
            shutil.copyfileobj(read, write, 1 << 20)


def _golden_arrays(golden: Golden) -> dict[str, Array]:
    arrays = {f"in/{k}": v for k, v in golden.inputs.items()} | {f"out/{k}": v for k, v in golden.outputs.items()}
    arrays |= {f"model/{k}": v for k, v in golden.tensors.items()}
    import numpy as np

    return {k: np.ascontiguousarray(v) for k, v in arrays.items()}


def _describe(folder: Path, path: str, role: FileRole) -> PackageFile:
    digest, size = digest_of(folder, path)
    return PackageFile(path=path, role=role, sha256=digest, size_bytes=size)


def _public(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else "a file cannot be read"
