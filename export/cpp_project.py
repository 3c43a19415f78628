"""The C++ program that runs packages without Python: write its source to a folder, and build it there.

The source is `export/cpp/`, shipped as data of this package. Its README explains it to people who have no Python.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from export.contracts.errors import HardcaseError, PackageError

PROGRAM = "hardcase-run"
_SOURCES = (".cpp", ".hpp", ".md", ".txt")
BUILD_TIMEOUT_S = 1800.0


class BuildFailed(HardcaseError):
    """The compiler is missing, or it refused; the message ends with its last lines."""

    code = "build_failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Libraries:
    """Where the runtimes are on this machine, found without importing them.

    Attributes:
        torch: The folder of the Python package `torch`, which holds libtorch and its headers.
        onnxruntime: ONNX Runtime's shared library.
    """

    torch: Path | None
    onnxruntime: Path | None


def find_libraries() -> Libraries:
    """The libraries of this Python environment."""
    torch, onnxruntime = _package_folder("torch"), _package_folder("onnxruntime")
    if torch is not None and not (torch / "include" / "torch").is_dir():
        torch = None
    shared = sorted((onnxruntime / "capi").glob("libonnxruntime.so.*")) if onnxruntime is not None else []
    return Libraries(torch=torch, onnxruntime=shared[0] if shared else None)


def write_project(dest: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Copy the source to a folder; returns the files' relative paths.

    Raises:
        PackageError: the folder holds something already, and `overwrite` is not set.
    """
    if dest.is_dir() and any(dest.iterdir()) and not overwrite:
        raise PackageError(f"'{dest.name}' is not empty: choose another folder, or ask for it to be overwritten")
    with importlib.resources.as_file(importlib.resources.files("export") / "cpp") as source:
        names = sorted(
            p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file() and p.suffix in _SOURCES
        )
        for name in names:
            target = dest / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
    return tuple(names)


def build_project(
    source: Path,
    build: Path,
    libraries: Libraries,
    *,
    jobs: int | None = None,
    options: tuple[str, ...] = (),
    targets: tuple[str, ...] = (PROGRAM,),
) -> Path:
    """Build with CMake; returns the program.

    Args:
        source: What `write_project` wrote.
        build: Folder for what the compiler writes.
        libraries: Without `torch` the program runs ONNX alone.
        jobs: Compilers at once; default: one a core, and at most 4, because libtorch's headers take 1 GB each.
        options: Further arguments of CMake, such as `-DHARDCASE_SANITIZE=ON`.
        targets: What to build.

    Raises:
        BuildFailed: no CMake, no compiler, or it refused.
    """
    if shutil.which("cmake") is None:
        raise BuildFailed("cmake is not installed; README.md beside the source has the line for a compiler alone")
    settings = [f"-DTORCH_ROOT={libraries.torch or ''}", f"-DONNXRUNTIME_LIBRARY={libraries.onnxruntime or ''}"]
    _run(["cmake", "-S", str(source), "-B", str(build), *settings, *options])
    count = jobs or min(4, os.cpu_count() or 1)
    _run(["cmake", "--build", str(build), "--parallel", str(count), "--target", *targets])
    return build / PROGRAM


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{command[0]} did not finish ({type(error).__name__})") from None
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise BuildFailed("the build failed:\n" + "\n".join(line[:300] for line in lines))


def _package_folder(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(folders[0]) if folders else None
