"""Files of a package: safe paths, opening without following links, digests, folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.contracts.errors import AdmissionRefused, PackageError
from export.contracts.manifest import MANIFEST_FILE, Manifest


def is_safe_path(path: str) -> bool:
    """Whether `path` is a plain relative path with `/`: no `..`, no root, no drive, no control characters.

    Example:
        >>> is_safe_path("weights/model.onnx"), is_safe_path("../secret"), is_safe_path("/etc/passwd")
        (True, False, False)
    """
    parts = path.split("/")
    return (
        0 < len(path) <= 512
        and all(part not in ("", ".", "..") and len(part.encode("utf-8", "replace")) <= 255 for part in parts)
        and not any(c in path for c in '\\:%*?"<>|')
        and path.isprintable()
        and path.isascii()
    )


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare a folder with a manifest: same files, regular, same sizes and digests.

    Raises:
        AdmissionRefused: names the first file and the rule that it breaks.
    """
    named = {f.path: f for f in manifest.files}
    if len(named) != len(manifest.files):
        raise AdmissionRefused("the manifest names a file twice")
    found = set(_walk(folder))
    for path in sorted(found - set(named) - {MANIFEST_FILE}):
        raise AdmissionRefused(f"file '{path[:80]}' is not in the manifest")
    for path, entry in named.items():
        if path not in found:
            raise AdmissionRefused(f"file '{path}' is missing")
        digest, size = digest_of(folder, path)
        if size != entry.size_bytes:
            raise AdmissionRefused(f"file '{path}' has {size} bytes, the manifest says {entry.size_bytes}")
        if digest != entry.sha256:
            raise AdmissionRefused(f"file '{path}' does not have the digest that the manifest says")


def open_beneath(folder: Path, path: str) -> io.BufferedReader:
    """Open a regular file below `folder` that has one name, following no link on the way.

    Raises:
        AdmissionRefused: not a plain relative path, a link, a device, a pipe, or not readable.
    """
    if not is_safe_path(path):
        raise AdmissionRefused("a file path is not a plain relative path")
    *parents, name = path.split("/")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
    except OSError as error:
        raise AdmissionRefused(f"file '{path[:80]}' cannot be opened: {error.strerror}") from None
    finally:
        os.close(descriptor)
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(file)
        raise AdmissionRefused(f"file '{path[:80]}' is not a regular file with one name")
    return io.BufferedReader(io.FileIO(file, "rb"))


@contextmanager
def staged_folder(dest: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `dest` that is synced and renamed to `dest` when the block ends well.

    Raises:
        PackageError: somebody else created `dest` in the meantime.
    """
    dest.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", suffix=".tmp", dir=dest.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        sync_tree(temporary)
        if overwrite and dest.exists():
            shutil.rmtree(dest)
        try:
            temporary.rename(dest)
        except OSError:
            raise PackageError(f"'{dest.name}' was created by somebody else in the meantime") from None
        sync_folder(dest.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Fsync every file and folder below `folder`, leaves first."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            with (Path(root) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that names in it survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(folder: Path) -> Iterator[str]:
    """Relative paths of everything below `folder` that is no folder."""
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir(follow_symlinks=False):
            yield from (f"{entry.name}/{inner}" for inner in _walk(Path(entry.path)))
        elif not entry.is_file(follow_symlinks=False):
            raise AdmissionRefused(f"file '{entry.name[:80]}' is not a regular file")
        else:
            yield entry.name


def digest_of(folder: Path, path: str) -> tuple[str, int]:
    """SHA-256 and size of a regular file."""
    with open_beneath(folder, path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
