"""Collects the facts that `deploy.doctor_versions` judges, and the limits of this machine."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from deploy.doctor_data import Check, Verdict
from deploy.doctor_versions import Facts, Gpu

LOW_FILES = 4096
LOW_SHARED_BYTES = 128 << 20  # Ray's object store for a local cluster, and a little
_ASKED = 120  # seconds for libraries of gigabytes to load

# In a process of its own: the libraries are heavy and print what they like.
_QUESTIONS = """
import json, sys
found = {}
try:
    import onnxruntime
    from onnxruntime.capi import build_and_package_info as built
    found["onnx_cuda"] = getattr(built, "cuda_version", None)
    found["onnx_providers"] = onnxruntime.get_available_providers()
except ImportError:
    pass
try:
    import torch
    found["torch_cuda"] = torch.version.cuda
    found["torch_sees_gpu"] = torch.cuda.is_available()
except ImportError:
    pass
try:
    import uvicorn.config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
    found["lane_hook"] = "auto" in uvicorn.config.HTTP_PROTOCOLS
except ImportError:
    found["lane_hook"] = False
print("\\n" + json.dumps(found))
"""


class Unanswered(Exception):
    """The libraries cannot be loaded; the text is for people."""


def collect() -> Facts:
    """Ask the libraries and the driver.

    Raises:
        Unanswered: a library ends the process that loads it, or takes too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _QUESTIONS], capture_output=True, text=True, timeout=_ASKED, check=True
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.SubprocessError, OSError, ValueError, IndexError) as error:
        raise Unanswered(f"torch or ONNX Runtime cannot be loaded: {type(error).__name__}") from None
    gpus, driver, driver_cuda = ask_driver()
    return Facts(
        packages={_canonical(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]},
        sqlite=sqlite3.sqlite_version,
        torch_cuda=found.get("torch_cuda"),
        torch_sees_gpu=bool(found.get("torch_sees_gpu")),
        onnx_cuda=found.get("onnx_cuda"),
        onnx_providers=tuple(found.get("onnx_providers", ())),
        gpus=gpus,
        driver=driver,
        driver_cuda=driver_cuda,
        lane_hook=bool(found["lane_hook"]),
    )


def ask_driver(program: str = "nvidia-smi") -> tuple[tuple[Gpu, ...], str | None, str | None]:
    """GPUs, driver version and the newest CUDA version that the driver runs; nothing where there is no driver."""
    path = shutil.which(program)
    if path is None:
        return (), None, None
    try:
        cards = subprocess.run(
            [path, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout  # fmt: skip
        page = subprocess.run([path], capture_output=True, text=True, timeout=30, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return (), None, None
    rows = [[part.strip() for part in line.split(",")] for line in cards.splitlines() if line.count(",") == 2]
    gpus = tuple(Gpu(name=name, memory_mib=int(memory)) for name, memory, _ in rows if memory.isdigit())
    newest = re.search(r"CUDA(?: UMD)? Version:\s*([0-9.]+)", page)
    return gpus, rows[0][2] if rows else None, newest[1] if newest else None


def limit_checks() -> Iterator[Check]:
    """Open files, shared memory, processes: what runs out first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = soft < LOW_FILES
    yield Check(
        name="open files", verdict=Verdict.WARN if low else Verdict.OK, detail=f"limit {soft} (at most {hard})",
        advice=f"ulimit -n {min(hard, 65536)} before `hardcase up`: each client connection takes one" if low else "",
    )  # fmt: skip
    if os.path.isdir("/dev/shm"):
        free = shutil.disk_usage("/dev/shm").free
        small = free < LOW_SHARED_BYTES
        yield Check(
            name="shared memory", verdict=Verdict.WARN if small else Verdict.OK, detail=f"{free >> 20} MiB free",
            advice="Ray then uses slow files instead: docker run --shm-size=1g" if small else "",
        )  # fmt: skip
    tasks, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    few = tasks not in (-1, resource.RLIM_INFINITY) and tasks < LOW_FILES
    yield Check(
        name="processes", verdict=Verdict.WARN if few else Verdict.OK,
        detail="no limit" if tasks in (-1, resource.RLIM_INFINITY) else f"limit {tasks}, threads count",
        advice=f"ulimit -u {LOW_FILES}: Ray and the numeric libraries make many threads" if few else "",
    )  # fmt: skip


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
