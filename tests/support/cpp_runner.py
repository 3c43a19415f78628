"""The C++ program in tests: build it once, run it, and damage packages for it.

The program is built where CMake and a C++ compiler are. Where they are not, tests skip and say what to install; on CI
they fail, because there they were installed on purpose.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from export.cpp_project import Libraries, build_project, find_libraries, write_project

NEEDED = ("cmake", "c++")
RUN_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One run of the program."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        """What `--json` printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A built program."""

    program: Path

    def __call__(self, *arguments: str | Path, env: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            [self.program, *map(str, arguments)],
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
            env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"} | (env or {}),
        )
        return Ran(
            code=done.returncode, out=done.stdout.decode("utf-8", "replace"), err=done.stderr.decode("utf-8", "replace")
        )


def need_compiler() -> None:
    """Skip without a compiler; fail on CI."""
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    if not missing and not any(Path(p, "zlib.h").is_file() for p in ("/usr/include", "/usr/local/include")):
        missing = ["zlib.h"]
    if missing:
        text = f"the C++ program needs {', '.join(missing)} (apt install g++ cmake zlib1g-dev)"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)


def build(folder: Path, *, torch: bool = True, sanitize: bool = False, targets: tuple[str, ...] = ()) -> Runner:
    """Write and build the program below `folder`; quickly rather than to run fast."""
    need_compiler()
    write_project(folder / "source")
    libraries = find_libraries()
    assert libraries.torch is not None, "the torch wheel holds libtorch"
    assert libraries.onnxruntime is not None, "the onnxruntime wheel holds the library"
    options = ["-DCMAKE_CXX_FLAGS_RELEASE=-O1"]
    if sanitize:
        options.append("-DHARDCASE_SANITIZE=ON")
    program = build_project(
        folder / "source",
        folder / "build",
        libraries if torch else Libraries(torch=None, onnxruntime=libraries.onnxruntime),
        options=tuple(options),
        targets=("hardcase-run", *targets),
    )
    return Runner(program=program)


def reseal(package: Path, **changes: Any) -> None:
    """Write the manifest anew: digests and sizes of the files as they are now, and fields as given.

    So a damaged file reaches the code behind the digest check.
    """
    manifest = json.loads((package / "manifest.json").read_text()) | changes
    for entry in manifest["files"]:
        path = package / entry["path"]
        if path.is_file():
            data = path.read_bytes()
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (package / "manifest.json").write_text(json.dumps(manifest))
