"""Behind `hardcase export`, `import` and `registry add|show`: packages in, facts out."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.errors import Missing, UsageError
from deploy.packaging_options import read_task, role_of, task_of
from deploy.packaging_trained import TRAINED, export_trained, import_trained
from deploy.sample_files import read_images, read_labels, read_samples
from export.contracts import codec
from export.contracts.manifest import Execution, SampleSource, Task, TaskKind
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import InputSpec, Signature
from export.package import Package
from export.registry import Registry


def export_target(
    target: str,
    out: Path,
    version: str | None,
    preprocess: Path | None = None,
    *,
    samples: Path | None = None,
    labels: Path | None = None,
) -> Package:
    """Call the target's function and export what it returns; rows from files take the place of its reference rows.

    Raises:
        UsageError: the target has not the form `module:function`, or its function returns something else than a dict,
            or `preprocess` is no preprocessing file.
        Missing: no such module, file or function.
        ParityFailed, PackageError: the export was refused.
    """
    from export.from_torch import export_module

    arguments = _load_target(target)()
    if not isinstance(arguments, Mapping):
        raise UsageError(
            f"{target} returned {type(arguments).__name__}, not a dict",
            "return the keyword arguments of export.from_torch.export_module",
        )
    given = dict(arguments)
    if version is not None:
        given["version"] = version
    if preprocess is not None:
        given["preprocess"] = _preprocessing(preprocess)
    if labels is not None and samples is None:
        raise UsageError("--labels are the labels of --samples: give both")
    if samples is not None:
        given["reference_inputs"] = read_samples(samples)
        given["reference_labels"] = None if labels is None else read_labels(labels)
    if "estimator" in given:
        return export_trained(target, given, out)
    for needed in ("module", "example_inputs", "name", "version", "task"):
        if needed not in given:
            raise UsageError(f"{target} returned no '{needed}'", "see export.from_torch.export_module")
    module, example = given.pop("module"), given.pop("example_inputs")
    given.setdefault("out_dir", out / f"{given['name']}-{given['version']}")
    try:
        return export_module(module, example, **given)
    except TypeError as error:
        if "keyword argument" in str(error):
            raise UsageError(f"{target}: {error}", "see export.from_torch.export_module") from None
        raise


def _load_target(target: str) -> Callable[[], Any]:
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise UsageError(f"'{target}' is not of the form package.module:function or file.py:function")
    # As `python -m` does: what lies beside the working folder can be imported.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            if spec is None or spec.loader is None or not Path(where).is_file():
                raise Missing(f"no file '{where}'")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise Missing(f"cannot import '{where}': {error}") from None
    found = getattr(module, name, None)
    if not callable(found):
        raise Missing(f"'{where}' has no function '{name}'")
    return found  # type: ignore[no-any-return]  # whatever the user's module defines under that name


def import_file(
    file: Path,
    *,
    out: Path,
    name: str,
    version: str,
    roles: list[str],
    class_names: tuple[str, ...],
    signature: Path | None,
    task_file: Path | None = None,
    preprocess: Path | None = None,
    images: Path | None = None,
    samples: Path | None = None,
    labels: Path | None = None,
    made_up: bool = True,
) -> Package:
    """Make a package of an existing ONNX or TorchScript file.

    Args:
        file: The model.
        out: Folder in which the package's folder is made.
        name: Of the model.
        version: Of the package.
        roles: "OUTPUT=ROLE" each.
        class_names: In the order of the class scores.
        signature: Of a TorchScript file.
        task_file: What is predicted and what counts as right, as JSON (`export.contracts.task.Task`).
        preprocess: File that declares encoded inputs, see `deploy.preprocess_file`.
        images: Folder of real image files for the one encoded input: golden cases and parity.
        samples: File of real rows, likewise.
        labels: File of the rows' labels, of images in the order of their names; the rows are the reference then, too.
        made_up: Make rows up where there are neither.

    Raises:
        UsageError: the options do not fit together or the file.
        PackageError: the import was refused.
    """
    given_roles = dict(role_of(text) for text in roles)
    task = Task(kind=TaskKind.CLASSIFICATION, class_names=class_names) if class_names else None
    if task_file is not None:
        if class_names:
            raise UsageError("--classes and --task both name the classes: put them into the task's class_names")
        task = read_task(task_file)
    declared = None if preprocess is None else _preprocessing(preprocess)
    if images is not None and samples is not None:
        raise UsageError("--images and --samples are two ways to give the same rows: choose one")
    if labels is not None and samples is None and images is None:
        raise UsageError("--labels are the labels of --samples or --images: give both")
    rows: Any = None if samples is None else read_samples(samples)
    if images is not None:
        rows = read_images(images, declared or {})
    common: dict[str, Any] = {
        "name": name,
        "version": version,
        "out_dir": out / f"{name}-{version}",
        "output_roles": given_roles,
        "task": task_of(task, given_roles),
        "preprocess": declared,
        "samples": rows if labels is None else None,  # reference rows serve as samples
        "made_up": made_up,
        "reference_inputs": None if labels is None else rows,
        "reference_labels": None if labels is None else read_labels(labels),
    }
    if file.suffix.lower() == ".onnx":
        from export.from_onnx import import_onnx

        if signature is not None:
            raise UsageError("--signature is for TorchScript: an ONNX file carries its own")
        return import_onnx(file, **common)
    if file.suffix.lower() in TRAINED:
        return import_trained(file, common, class_names)
    if file.suffix.lower() not in (".pt", ".pth", ".torchscript", ".ts"):
        raise UsageError(
            f"'{file.name}' is neither .onnx, TorchScript (.pt, .pth, .ts), XGBoost (.ubj, .json) nor Keras (.keras)",
            "models in pickles are exported from your code: hardcase export file.py:function",
        )
    from export.from_onnx import import_torchscript

    if signature is None:
        raise UsageError(
            "a TorchScript file does not say its shapes: give --signature FILE", "docs/cli.md shows an example"
        )
    try:
        parsed = codec.loads(Signature, signature.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"--signature: {error}") from None
    return import_torchscript(file, signature=parsed, **common)


def _preprocessing(path: Path) -> dict[str, ImageDecode]:
    from deploy.preprocess_file import read_preprocess  # Pillow comes with it

    return read_preprocess(path)


def admit_and_add(registry: Registry, folder: Path) -> Package:
    """Examine a package in a limited child process, then copy it into the registry.

    Raises:
        AdmissionRefused: it is not safe to load; the message says which rule it breaks.
        RegistryError: the registry refused.
    """
    from export.admission import admit

    admit(folder)
    return registry.add(folder)


def describe_model(registry: Registry, model: str) -> dict[str, object]:
    """What `registry show MODEL` says.

    Raises:
        Missing: no such model.
    """
    versions = registry.versions(model)
    if not versions:
        raise Missing(f"model '{model}' is not in the registry", "`hardcase registry list` shows what is")
    plan = registry.plan(model)
    return {
        "model": model,
        "versions": list(versions),
        "champion": plan.champion if plan else None,
        "challenger": plan.challenger if plan else None,
        "pinned": list(plan.pinned) if plan else [],
        "revision": plan.revision if plan else 0,
        "aliases": [f"{alias} → {version}" for alias, version in registry.aliases(model).items()],
    }


def _execution(execution: Execution | None) -> str:
    """What `hardcase tune` wrote, in words."""
    if execution is None:
        return "as the settings say"
    parts = {
        "batches of at most": execution.max_batch_rows,
        "threads": execution.intra_op_threads,
        "instances": execution.instances,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def describe_version(package: Package) -> dict[str, object]:
    """What `registry show MODEL VERSION` says."""
    manifest = package.manifest
    provenance = manifest.provenance
    return {
        "model": manifest.name,
        "version": manifest.version,
        "digest": package.digest,
        "task": manifest.task.kind.value,
        "classes": ", ".join(manifest.task.class_names) or "-",
        "inputs": [_describe_input(i) for i in manifest.signature.inputs],
        "outputs": [f"{o.name}  {o.datatype}  {list(o.shape)}  {o.role}" for o in manifest.signature.outputs],
        "runtimes": [f"{r.kind}  {r.path}" for r in manifest.runtimes],
        "files": [f"{f.path}  {f.role}  {f.size_bytes} bytes  sha256:{f.sha256[:16]}…" for f in manifest.files],
        "created": f"{provenance.created_at}, {provenance.source}",
        "git_commit": provenance.git_commit,
        "parent": provenance.parent_version,
        "dataset": provenance.dataset_snapshot,
        "metrics": [f"{k}  {v:.4f}" for k, v in provenance.metrics.items()],
        "execution": _execution(manifest.execution),
        "golden": _golden(package),
        "parity": "checked" if manifest.parity else "not checked",
        "reference": "yes" if manifest.reference else "no",
        "path": str(package.dir),
    }


def _describe_input(spec: InputSpec) -> str:
    line = f"{spec.name}  {spec.datatype}  {list(spec.shape)}  {spec.display.kind}"
    if spec.preprocess is None:
        return line
    decoded = spec.behind()
    return f"{line}, JPEG, PNG or WebP → {decoded.datatype} {list(decoded.shape)}"


def _golden(package: Package) -> str:
    if not package.manifest.golden:
        return "no"
    return "yes, of made-up rows" if package.manifest.provenance.samples is SampleSource.MADE_UP else "yes"
