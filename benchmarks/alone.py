"""Our stand-alone server around one model file, and a request for it: for benchmarks that bring their own model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.processes import server
from export.contracts import codec
from export.contracts.manifest import FileRole, Manifest, Provenance, RuntimeFile, RuntimeKind, Task, TaskKind
from export.contracts.signature import Signature
from export.package import write_package
from export.registry import Registry
from serving.options import ServingOptions

NAME = "bench"


def missing_for_http() -> str | None:
    """The first module that the stand-alone server lacks here; None when it can start."""
    done = subprocess.run(
        [sys.executable, "-c", "import psutil, serving.standalone"], capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def make_registry(
    folder: Path, path: Path, kind: RuntimeKind, signature: Signature, max_batch_rows: int, *, name: str = NAME
) -> Path:
    """A registry whose champion is this file; returns its folder."""

    def fill(target: Path) -> dict[str, FileRole]:
        shutil.copyfile(path, target / path.name)
        return {path.name: FileRole.WEIGHTS}

    manifest = Manifest(
        name=name,
        version="1",
        task=Task(kind=TaskKind.OTHER),
        signature=signature,
        runtimes=(RuntimeFile(kind=kind, path=path.name),),
        files=(),
        provenance=Provenance(created_at="2026-01-01T00:00:00Z", source="benchmark"),
        max_batch_rows=max_batch_rows,
    )
    package = write_package(folder / "package", manifest, fill)
    registry = Registry(folder / "registry")
    registry.add(package.dir)
    registry.promote(name, "1", author="benchmark")
    return registry.root


@contextmanager
def stand_alone(folder: Path, options: ServingOptions, *, timeout_s: float = 300.0) -> Iterator[int]:
    """Run the server until the block ends; gives its port."""
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "serving.standalone", "--port", "0", "--ready-file", str(ready)]
    command += ["--options-json", codec.dumps(options).decode()]

    def answers() -> bool:
        return ready.exists() and bool(json.loads(ready.read_text())["ready"])

    with server(command, environment={}, folder=folder, ready=answers, timeout_s=timeout_s):
        port: int = json.loads(ready.read_text())["port"]
        yield port


def write_request(path: Path, signature: Signature, rows: npt.NDArray[Any], *, name: str = NAME) -> Path:
    """One whole HTTP request for a model with one input, all binary; returns its file."""
    spec, output = signature.inputs[0], signature.outputs[0]
    raw = np.ascontiguousarray(rows).tobytes()
    tensor = {"name": spec.name, "shape": list(rows.shape), "datatype": spec.datatype.value}
    head = json.dumps(
        {
            "inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}],
            "outputs": [{"name": output.name, "parameters": {"binary_data": True}}],
        }
    ).encode()
    lines = (
        f"POST /v2/models/{name}/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + len(raw)}\r\n\r\n"
    )
    path.write_bytes(lines.encode() + head + raw)
    return path
