"""A PyTorch module → a package in one call: files, parity, golden cases, reference profile, manifest, atomic write."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.assemble import Assembly, assemble
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.manifest import FileRole, Provenance, RuntimeFile, RuntimeKind, Task, Tolerance
from export.contracts.signature import BATCH_AXIS, InputDisplay, InputSpec, OutputRole, OutputSpec, Signature
from export.package import Package
from export.parity import BATCH_SIZES
from export.roles import guess_roles
from export.runners import (
    Runner,
    first_line,
    flatten_outputs,
    module_runner,
    onnx_runner,
    output_keys,
    to_array,
    to_tensor,
    torchscript_runner,
)

if TYPE_CHECKING:
    import torch

Array: TypeAlias = npt.NDArray[Any]
ONNX_FILE = "model.onnx"
TORCHSCRIPT_FILE = "model.pt"
EXTERNAL_DATA_ABOVE_BYTES = 1_500_000_000  # a protobuf message ends at 2 GiB
OPSET = 20


def export_module(
    module: torch.nn.Module,
    example_inputs: Any,
    *,
    name: str,
    version: str,
    task: Task,
    out_dir: Path | str,
    input_names: Sequence[str] = (),
    displays: Mapping[str, InputDisplay] | None = None,
    input_axes: Mapping[str, Sequence[str]] | None = None,
    output_names: Sequence[str] = (),
    output_roles: Mapping[str, OutputRole] | None = None,
    dynamic_axes: Mapping[str, Sequence[int]] | None = None,
    reference_inputs: Any = None,
    reference_labels: Sequence[Any] | Array | None = None,
    runtimes: Sequence[RuntimeKind] = (RuntimeKind.ONNX, RuntimeKind.TORCHSCRIPT),
    script: bool = False,
    golden: int = 16,
    tolerance: Tolerance | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    max_batch_rows: int = 256,
    provenance: Provenance | None = None,
    overwrite: bool = False,
    seed: int = 0,
) -> Package:
    """Export a module as a package.

    The module is copied to the CPU and put in eval mode; the caller's is left as it is.

    Args:
        module: Takes tensors by position and returns a tensor, or a tuple, list or dict of them. Axis 0 is the batch.
        example_inputs: A tensor or array, a sequence of them in the order of `forward`, or a mapping by input name.
            Real rows, please: without `reference_inputs` they are what parity is measured on.
        name: Of the model: letters, digits, `_`, `-`, `.`.
        version: Of this package; a registry keeps each version once.
        task: What is predicted, with the class names in the order of the logits.
        out_dir: Folder to write. It becomes the package.
        input_names: In the order of `forward`; default: its parameter names.
        displays: How people see an input, by input name.
        input_axes: Names of the axes, by input name; the first is the batch.
        output_names: In order; default: the keys of a dict or named tuple, else output, output_1, ...
        output_roles: By output name; those not given are guessed conservatively, see `export.roles`.
        dynamic_axes: Axes beside the batch that vary from request to request, by input name.
        reference_inputs: Held-out rows (not training rows) in the form of `example_inputs`.
        reference_labels: Their labels: class indices or names, or regression targets.
        runtimes: Which files to write; the first is preferred in serving.
        script: Make TorchScript by scripting (keeps data-dependent control flow) instead of tracing.
        golden: Rows that are stored with their outputs; every load must reproduce them.
        tolerance: Elementwise tolerance of parity and golden cases.
        batch_sizes: Parity is checked at each.
        max_batch_rows: Largest batch that serving may form.
        provenance: Default: now, this environment, this git commit.
        overwrite: Replace a package that is at `out_dir`.
        seed: Of every random choice (golden rows, samples, folds).

    Returns:
        The package.

    Raises:
        ParityFailed: a file does not compute what the module computes; nothing is written.
        PackageError: the module cannot be exported, or what was given does not fit together; nothing is written.
    """
    if not runtimes:
        raise PackageError("runtimes: name at least one")
    work = copy.deepcopy(module).cpu().eval()
    names = tuple(input_names) or _parameter_names(work, example_inputs)
    examples = as_arrays(example_inputs, names, "example_inputs")
    reference = None if reference_inputs is None else as_arrays(reference_inputs, names, "reference_inputs")
    traced = _examine(work, examples, names, tuple(output_names), dynamic_axes or {})
    signature = _signature(traced, task, displays or {}, input_axes or {}, output_roles or {})
    outputs = tuple(o.name for o in signature.outputs)

    def fill(folder: Path) -> dict[str, FileRole]:
        for kind in runtimes:
            if kind is RuntimeKind.ONNX:
                _write_onnx(work, traced, outputs, folder / ONNX_FILE)
            else:
                _write_torchscript(work, traced, folder / TORCHSCRIPT_FILE, script=script)
        return {path.name: FileRole.WEIGHTS for path in folder.iterdir()}

    def candidates(folder: Path) -> dict[str, Runner]:
        made: dict[str, Runner] = {}
        for kind in runtimes:
            if kind is RuntimeKind.ONNX:
                made[kind.value] = onnx_runner(folder / ONNX_FILE, signature)
            else:
                made[kind.value] = torchscript_runner(folder / TORCHSCRIPT_FILE, names, outputs)
        return made

    files = {RuntimeKind.ONNX: ONNX_FILE, RuntimeKind.TORCHSCRIPT: TORCHSCRIPT_FILE}
    return assemble(
        Assembly(
            name=name,
            version=version,
            task=task,
            signature=signature,
            runtimes=tuple(RuntimeFile(kind=k, path=files[k]) for k in runtimes),
            trusted=module_runner(work, names, outputs),
            trusted_name="eager",
            samples=reference if reference is not None else examples,
            reference=reference,
            labels=reference_labels,
            golden_rows=golden,
            tolerance=tolerance or Tolerance(),
            batch_sizes=tuple(batch_sizes),
            max_batch_rows=max_batch_rows,
            provenance=provenance,
            source=f"torch:{type(module).__module__}.{type(module).__qualname__}",
            seed=seed,
        ),
        Path(out_dir),
        fill,
        candidates,
        overwrite=overwrite,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Traced:
    """What running the module eagerly has shown."""

    examples: dict[str, Array]  # at least two rows: torch.export takes sizes 0 and 1 for constants
    outputs: dict[str, Array]
    dynamic: dict[str, tuple[int, ...]]  # by input
    output_dynamic: dict[str, tuple[int, ...]]  # by output


def as_arrays(given: Any, names: Sequence[str], label: str) -> dict[str, Array]:
    """Inputs by name from a tensor, a sequence of tensors or a mapping.

    Raises:
        PackageError: they do not fit the names, or have different row counts.
    """
    if isinstance(given, Mapping):
        found = {str(k): _as_array(v) for k, v in given.items()}
        missing = [n for n in names if n not in found]
        if missing or len(found) != len(names):
            raise PackageError(f"{label}: expected the inputs {', '.join(names)}, got {', '.join(found)}")
        arrays = {n: found[n] for n in names}
    else:
        values = list(given) if isinstance(given, tuple | list) else [given]
        if len(values) != len(names):
            raise PackageError(f"{label}: {len(values)} tensors for the inputs {', '.join(names)}")
        arrays = dict(zip(names, map(_as_array, values), strict=True))
    if len({a.shape[0] if a.ndim else 0 for a in arrays.values()}) != 1:
        raise PackageError(f"{label}: inputs differ in their number of rows (axis 0)")
    if next(iter(arrays.values())).shape[0] == 0:
        raise PackageError(f"{label}: no rows")
    return arrays


def _as_array(value: Any) -> Array:
    import torch

    if isinstance(value, torch.Tensor):
        if value.dtype is torch.bfloat16:
            raise PackageError("BF16 inputs are not exported: take float32 and cast inside the module")
        return to_array(value)
    return np.ascontiguousarray(value)


def _parameter_names(module: torch.nn.Module, example_inputs: Any) -> tuple[str, ...]:
    """The first parameters of `forward`, as many as there are inputs."""
    if isinstance(example_inputs, Mapping):
        count = len(example_inputs)
    else:
        count = len(example_inputs) if isinstance(example_inputs, tuple | list) else 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]
    return tuple(names[:count]) if len(names) >= count else tuple(f"input_{i}" for i in range(count))


def _examine(
    module: torch.nn.Module,
    examples: dict[str, Array],
    names: tuple[str, ...],
    output_names: tuple[str, ...],
    dynamic_axes: Mapping[str, Sequence[int]],
) -> _Traced:
    """Run the module on two sizes and see which output dimensions move."""
    import torch

    unknown = [n for n in dynamic_axes if n not in names]
    if unknown:
        raise PackageError(f"dynamic_axes: there is no input '{unknown[0]}'")
    dynamic = {n: tuple(sorted({0, *(int(a) for a in dynamic_axes.get(n, ()))})) for n in names}
    small = {n: np.resize(a, (max(2, len(a)), *a.shape[1:])) for n, a in examples.items()}
    large = {}
    for n, array in small.items():
        for axis in dynamic[n]:
            if not 0 <= axis < array.ndim:
                raise PackageError(f"dynamic_axes: input '{n}' has no axis {axis}")
            array = np.concatenate([array, array.take([-1], axis=axis)], axis=axis)  # noqa: PLW2901  # grows by steps
        large[n] = array
    with torch.inference_mode():
        try:
            answer = module(*(to_tensor(small[n]) for n in names))
            grown = flatten_outputs(module(*(to_tensor(large[n]) for n in names)))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise PackageError(f"the module does not run on the example inputs: {first_line(error)}") from error
    tensors = [to_array(t) for t in flatten_outputs(answer)]
    keys = output_names or tuple(output_keys(answer) or ())
    if not keys:
        keys = tuple("output" if i == 0 else f"output_{i}" for i in range(len(tensors)))
    if len(keys) != len(tensors):
        raise PackageError(f"output_names: {len(keys)} names for {len(tensors)} outputs")
    moves = {}
    for key, before, after in zip(keys, tensors, map(to_array, grown), strict=True):
        if before.ndim != after.ndim:
            raise PackageError(f"output '{key}' changes its rank with the input's size")
        moves[key] = tuple(i for i, (m, n) in enumerate(zip(before.shape, after.shape, strict=True)) if m != n)
        if 0 not in moves[key] or len(before) != len(next(iter(small.values()))):
            raise PackageError(f"output '{key}' does not have the batch as its first axis: it has {list(before.shape)}")
    return _Traced(examples=small, outputs=dict(zip(keys, tensors, strict=True)), dynamic=dynamic, output_dynamic=moves)


def _signature(
    traced: _Traced,
    task: Task,
    displays: Mapping[str, InputDisplay],
    axes: Mapping[str, Sequence[str]],
    roles: Mapping[str, OutputRole],
) -> Signature:
    for label, given in (("displays", displays), ("input_axes", axes)):
        for n in given:
            if n not in traced.examples:
                raise PackageError(f"{label}: there is no input '{n}'")
    for n in roles:
        if n not in traced.outputs:
            raise PackageError(f"output_roles: there is no output '{n}' (there are: {', '.join(traced.outputs)})")
    all_roles = guess_roles(traced.outputs, task) | dict(roles)
    try:
        return Signature(
            inputs=tuple(
                InputSpec(
                    name=n,
                    datatype=Datatype.from_numpy(a.dtype),
                    shape=_shape(a, traced.dynamic[n]),
                    axes=tuple(axes.get(n, ())),
                    display=displays.get(n, InputDisplay()),
                )
                for n, a in traced.examples.items()
            ),
            outputs=tuple(
                OutputSpec(
                    name=n,
                    datatype=Datatype.from_numpy(a.dtype),
                    shape=_shape(a, traced.output_dynamic[n]),
                    role=all_roles[n],
                    axes=_output_axes(all_roles[n], a.ndim),
                )
                for n, a in traced.outputs.items()
            ),
        )
    except ValueError as error:
        raise PackageError(f"signature: {error}") from None


def _shape(array: Array, dynamic: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-1 if i in dynamic else int(n) for i, n in enumerate(array.shape))


def _output_axes(role: OutputRole, rank: int) -> tuple[str, ...]:
    if rank == 2 and role in (OutputRole.LOGITS, OutputRole.PROBABILITIES):
        return (BATCH_AXIS, "class")
    if rank == 2 and role is OutputRole.EMBEDDING:
        return (BATCH_AXIS, "feature")
    return ()


def _flat_module(module: torch.nn.Module) -> torch.nn.Module:
    """The module with its outputs as a flat tuple, because runtimes know nothing else."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(flatten_outputs(self.inner(*inputs)))

    return Flat().eval()


def _write_onnx(module: torch.nn.Module, traced: _Traced, outputs: Sequence[str], path: Path) -> None:
    import torch

    batch = torch.export.Dim("batch")
    shapes = tuple(
        {a: batch if a == 0 else torch.export.Dim(f"{n}_dim{a}") for a in dynamic}
        for n, dynamic in traced.dynamic.items()
    )
    size = sum(p.numel() * p.element_size() for p in (*module.parameters(), *module.buffers()))
    try:
        with warnings.catch_warnings(), _quiet("torch.onnx"):
            warnings.simplefilter("ignore")  # torch.export warns of its own deprecations
            torch.onnx.export(
                _flat_module(module),
                tuple(to_tensor(a) for a in traced.examples.values()),
                str(path),
                input_names=list(traced.examples),
                output_names=list(outputs),
                dynamic_shapes=(shapes,),
                opset_version=OPSET,
                external_data=size > EXTERNAL_DATA_ABOVE_BYTES,
                verbose=False,
            )
    except Exception as error:  # torch.onnx raises what its passes raise; the first line says which
        raise PackageError(f"ONNX export failed: {type(error).__name__}: {first_line(error)}") from error
    _strip(path)


def _strip(path: Path) -> None:
    """Take out what the exporter notes about its machine: stack traces with source paths, on every node."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input):
        part.doc_string = ""
        del part.metadata_props[:]
    path.write_bytes(model.SerializeToString())


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Only errors of a logger and its children: the exporter reports on libraries that are not installed."""
    loggers = [logging.getLogger(n) for n in list(logging.root.manager.loggerDict) if n.startswith(name)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _write_torchscript(module: torch.nn.Module, traced: _Traced, path: Path, *, script: bool) -> None:
    import torch

    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracer warnings: parity at several batch sizes is the judge
            if script:
                made = torch.jit.script(module)
            else:
                examples = tuple(to_tensor(a) for a in traced.examples.values())
                made = torch.jit.trace(_flat_module(module), examples)  # type: ignore[no-untyped-call]  # torch's
            torch.jit.freeze(made.eval()).save(str(path))
    except Exception as error:  # the compiler raises many kinds; the first line says which
        raise PackageError(f"TorchScript export failed: {type(error).__name__}: {first_line(error)}") from error
