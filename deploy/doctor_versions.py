"""Versions that do not go together, and what accelerators there are: pure judgements on facts that were collected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.doctor_data import Check, Verdict

# SQLite before these can corrupt a database in WAL mode that two connections write (sqlite.org/wal.html#walresetbug).
SQLITE_FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
RAY_KNOWN = (2, 60)
SETUP = "rm .venv/.stamp && make setup"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU, as its driver names it."""

    name: str
    memory_mib: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found. None means: not installed, or not there.

    Attributes:
        packages: Versions of installed distributions.
        sqlite: Version of the SQLite library that Python uses.
        torch_cuda: CUDA version that torch was built for.
        torch_sees_gpu: Whether torch can use a GPU.
        onnx_cuda: CUDA version that ONNX Runtime was built for.
        onnx_providers: What ONNX Runtime was built with.
        gpus: From the driver.
        driver: Version of the driver.
        driver_cuda: Newest CUDA version that the driver can run.
        lane_hook: uvicorn still has the table and the class that the fast lane uses.
    """

    packages: dict[str, str]
    sqlite: str
    torch_cuda: str | None = None
    torch_sees_gpu: bool = False
    onnx_cuda: str | None = None
    onnx_providers: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    driver_cuda: str | None = None
    lane_hook: bool = True


def numbers(version: str | None) -> tuple[int, ...]:
    """The leading numbers of a version, for comparing.

    Example:
        >>> numbers("2.13.0+cpu"), numbers("13.0"), numbers(None)
        ((2, 13, 0), (13, 0), ())
    """
    match = re.match(r"\d+(?:\.\d+)*", version or "")
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def version_checks(facts: Facts) -> Iterator[Check]:
    """Everything that is known to bite, and what to do about it."""
    yield _accelerators(facts)
    yield from _torch(facts)
    yield from _onnx(facts)
    yield from _pandas(facts)
    yield _sqlite(facts)
    yield from _lane(facts)


def _accelerators(facts: Facts) -> Check:
    if not facts.gpus:
        return Check(name="GPUs", verdict=Verdict.NOTE, detail="none: everything runs on the CPU")
    cards = ", ".join(f"{gpu.name} ({gpu.memory_mib / 1024:.0f} GiB)" for gpu in facts.gpus)
    detail = f"{cards}; driver {facts.driver or 'unknown'}, CUDA up to {facts.driver_cuda or 'unknown'}"
    return Check(name="GPUs", verdict=Verdict.OK, detail=detail)


def _torch(facts: Facts) -> Iterator[Check]:
    version = facts.packages.get("torch")
    if version is None:
        return
    built = f"torch {version}, built for " + (f"CUDA {facts.torch_cuda}" if facts.torch_cuda else "the CPU")
    if not facts.gpus:
        yield Check(name="torch", verdict=Verdict.OK, detail=built)
    elif facts.torch_cuda is None:
        yield Check(
            name="torch", verdict=Verdict.WARN, detail=f"{built}: TorchScript cannot use the GPU",
            advice="install torch from the index for your driver's CUDA version (pytorch.org, 'Get started')",
        )  # fmt: skip
    elif facts.driver_cuda and numbers(facts.torch_cuda)[:1] > numbers(facts.driver_cuda)[:1]:
        yield Check(
            name="torch", verdict=Verdict.FAIL, detail=f"{built}; the driver ends at CUDA {facts.driver_cuda}",
            advice="update the driver, or install a torch that was built for the driver's CUDA version",
        )  # fmt: skip
    elif not facts.torch_sees_gpu:
        yield Check(
            name="torch", verdict=Verdict.FAIL, detail=f"{built}, and sees no GPU although the driver does",
            advice='python -c "import torch; torch.cuda.init()" says why; CUDA_VISIBLE_DEVICES may hide it',
        )  # fmt: skip
    else:
        yield Check(name="torch", verdict=Verdict.OK, detail=built)


def _onnx(facts: Facts) -> Iterator[Check]:
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if name in facts.packages]
    if not both:
        return
    detail = f"{both[-1]} {facts.packages[both[-1]]}: {', '.join(facts.onnx_providers) or 'no providers'}"
    if len(both) == 2:
        yield Check(
            name="onnxruntime", verdict=Verdict.FAIL, detail="onnxruntime and onnxruntime-gpu are both installed: "
            "each overwrites files of the other", advice=f"pip uninstall onnxruntime onnxruntime-gpu; {SETUP}",
        )  # fmt: skip
    elif facts.gpus and "CUDAExecutionProvider" not in facts.onnx_providers:
        yield Check(
            name="onnxruntime", verdict=Verdict.WARN, detail=f"{detail}: ONNX models cannot use the GPU",
            advice="pip uninstall onnxruntime && pip install onnxruntime-gpu",
        )  # fmt: skip
    elif facts.gpus and facts.driver_cuda and numbers(facts.onnx_cuda)[:1] > numbers(facts.driver_cuda)[:1]:
        yield Check(
            name="onnxruntime", verdict=Verdict.FAIL,
            detail=f"{detail}; built for CUDA {facts.onnx_cuda}, the driver ends at {facts.driver_cuda}",
            advice="update the driver, or install an onnxruntime-gpu that was built for the driver's CUDA version",
        )  # fmt: skip
    elif facts.gpus and facts.torch_cuda and numbers(facts.torch_cuda)[:1] != numbers(facts.onnx_cuda)[:1]:
        yield Check(
            name="onnxruntime", verdict=Verdict.WARN,
            detail=f"{detail}; built for CUDA {facts.onnx_cuda}, torch for {facts.torch_cuda}: one lacks its libraries",
            advice="use builds for the same CUDA version, or serve one kind of model in each pool",
        )  # fmt: skip
    else:
        yield Check(name="onnxruntime", verdict=Verdict.OK, detail=detail)


def _pandas(facts: Facts) -> Iterator[Check]:
    evidently, pandas = facts.packages.get("evidently"), facts.packages.get("pandas")
    if evidently and pandas and numbers(evidently) <= (0, 7, 23) and numbers(pandas) >= (3, 1):
        yield Check(
            name="evidently", verdict=Verdict.FAIL, detail=f"evidently {evidently} does not work with pandas {pandas}",
            advice="pip install 'pandas<3.1'",
        )  # fmt: skip


def _sqlite(facts: Facts) -> Check:
    found = numbers(facts.sqlite)
    fixed = found >= SQLITE_FIXED[-1] or any(found[:2] == f[:2] and found >= f for f in SQLITE_FIXED)
    if fixed:
        return Check(name="sqlite", verdict=Verdict.OK, detail=facts.sqlite)
    return Check(
        name="sqlite", verdict=Verdict.NOTE,
        detail=f"{facts.sqlite} can corrupt a database that two connections write; the monitor writes with one",
        advice="never open monitor.db for writing beside a running monitor; PostgreSQL with monitor.database_url",
    )  # fmt: skip


def _lane(facts: Facts) -> Iterator[Check]:
    ray = facts.packages.get("ray")
    if ray is not None and numbers(ray)[:2] != RAY_KNOWN:
        yield Check(
            name="ray", verdict=Verdict.WARN, detail=f"ray {ray}; serving was made for {'.'.join(map(str, RAY_KNOWN))}",
            advice="pip install 'ray[serve]==2.60.*', or run tests/ray against it: each fact we rely on has its test",
        )  # fmt: skip
    if not facts.lane_hook:
        yield Check(
            name="fast lane", verdict=Verdict.WARN,
            detail=f"uvicorn {facts.packages.get('uvicorn')} has no place for it: requests take the slower ASGI way",
            advice=SETUP,
        )  # fmt: skip
