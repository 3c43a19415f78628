"""Makes a package of files that came from elsewhere, in a child process with limits on memory, time and files.

    python -m deploy.bring_in REQUEST.json

What the files are is decided by what lies there: a manifest makes a Hardcase package, which only gets the name and
version that it has here; else one ONNX file, which goes through the rules of admission before it is run, and is tried
on the champion's golden rows: a model that cannot answer what the champion answers has another contract.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.contracts import codec
from export.contracts.errors import HardcaseError, PackageError
from export.contracts.manifest import MANIFEST_FILE
from export.contracts.signature import Signature
from export.package import Package, copy_package, read_package
from export.provenance import make_provenance

MEMORY_BYTES = 8 << 30
CPU_S = 600
WALL_S = 900.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BringInRequest:
    """What the child is asked for. Paths are absolute."""

    fetched: str
    out: str
    model: str
    version: str
    like: str | None
    note: str


def bring_in(fetched: Path, out: Path, *, model: str, version: str, like: Path | None, note: str) -> Path:
    """Make the package; see `monitoring.integrations.mlflow.incoming.BringIn`.

    Raises:
        PackageError: it cannot become one, or takes too long.
    """
    request = BringInRequest(
        fetched=str(fetched.absolute()),
        out=str(out.absolute()),
        model=model,
        version=version,
        like=None if like is None else str(like.absolute()),
        note=note,
    )
    out.mkdir(parents=True, exist_ok=True)
    file = out / "request.json"
    file.write_bytes(codec.dumps(request))
    command = [sys.executable, "-m", "deploy.bring_in", str(file)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise PackageError(f"making a package of it took longer than {WALL_S:g} s") from None
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise PackageError("making a package of it ended without a word (memory or CPU limit)") from None
    if "refused" in said:
        raise PackageError(str(said["refused"]))
    return out / str(said["folder"])


def main(arguments: list[str]) -> int:
    """The child."""
    for what, amount in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        lowered = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(what, (lowered, lowered))
    request = codec.loads(BringInRequest, Path(arguments[0]).read_bytes())
    try:
        said = {"folder": _make(request).dir.name}
    except HardcaseError as error:
        said = {"refused": error.message}
    except MemoryError:
        said = {"refused": "making a package of it needs more memory than the limit"}
    print(json.dumps(said), flush=True)
    return 0


def _make(request: BringInRequest) -> Package:
    fetched, folder = Path(request.fetched), Path(request.out) / f"{request.model}-{request.version}"
    like = None if request.like is None else read_package(request.like)
    shutil.rmtree(folder, ignore_errors=True)
    if (fetched / MANIFEST_FILE).exists():
        made = _renamed(fetched, folder, request)
    else:
        made = _wrapped(next(iter(fetched.rglob("*.onnx"))), folder, request, like)
    if like is not None:
        _check_contract(made, like)
    return made


def _renamed(fetched: Path, folder: Path, request: BringInRequest) -> Package:
    """A package with the name and version that it has here; everything else is as it was."""
    from export.admission import admit

    admit(fetched)
    copy_package(read_package(fetched), folder)
    package = read_package(folder)
    about = package.manifest.provenance
    manifest = replace(
        package.manifest,
        name=request.model,
        version=request.version,
        provenance=replace(about, source=f"{request.note} ({about.source})"[:200]),
    )
    (folder / MANIFEST_FILE).write_bytes(codec.dumps(manifest))
    return read_package(folder)


def _wrapped(file: Path, folder: Path, request: BringInRequest, like: Package | None) -> Package:
    """A package of an ONNX file: what it means and what it is tried on come from the champion."""
    from export.from_onnx import describe_onnx, import_onnx

    if like is None:
        raise PackageError("an ONNX file needs a champion that says what its outputs mean")
    champion = like.manifest
    golden = like.golden()
    described = describe_onnx(file).signature
    _check_inputs(described, champion.signature.model)
    there = {o.name for o in described.outputs}
    preprocess = {i.name: i.preprocess for i in champion.signature.inputs if i.preprocess is not None}
    return import_onnx(
        file,
        name=request.model,
        version=request.version,
        task=champion.task,
        out_dir=folder,
        output_roles={o.name: o.role for o in champion.signature.outputs if o.name in there},
        displays={i.name: i.display for i in champion.signature.inputs if i.preprocess is None},
        preprocess=preprocess or None,
        samples=None if golden is None else golden.inputs,
        max_batch_rows=champion.max_batch_rows,
        provenance=make_provenance(request.note),
    )


def _check_contract(made: Package, like: Package) -> None:
    """The same inputs, and outputs of the same roles: else clients of the champion could not use it."""
    ours, theirs = made.manifest.signature, like.manifest.signature
    _check_inputs(ours, theirs)
    answers = {(o.name, o.datatype, o.role) for o in theirs.outputs if o.role.answered_by_default}
    missing = sorted(name for name, *_ in answers - {(o.name, o.datatype, o.role) for o in ours.outputs})
    if missing:
        raise PackageError(f"it does not answer what the champion answers: {', '.join(missing)}")


def _check_inputs(ours: Signature, theirs: Signature) -> None:
    wanted = [(i.name, i.datatype, i.shape) for i in theirs.inputs]
    given = [(i.name, i.datatype, i.shape) for i in ours.inputs]
    if wanted != given:
        raise PackageError(f"its inputs are not the champion's: {_names(given)} instead of {_names(wanted)}")


def _names(specs: Sequence[tuple[str, object, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {datatype} {list(shape)}" for name, datatype, shape in specs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
