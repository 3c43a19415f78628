"""A PyTorch module → a package in one call: files, parity, golden cases, reference profile, manifest, atomic write."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.assemble import Assembly, assemble
from export.contracts.errors import PackageError
from export.contracts.manifest import FileRole, Provenance, RuntimeFile, RuntimeKind, Task, Tolerance
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import InputDisplay, OutputRole
from export.images import decoded_rows, in_order, with_encoded_rows
from export.onnx_runner import onnx_runner
from export.package import Package
from export.parity import BATCH_SIZES
from export.preprocess import Encoding
from export.runners import Array, Runner
from export.tolerances import default_tolerance
from export.torch_precision import datatypes
from export.torch_runner import module_runner, torchscript_runner
from export.torch_trace import as_arrays, bf16_names, examine, parameter_names, signature_of
from export.torch_write import write_onnx, write_torchscript

if TYPE_CHECKING:
    import torch

ONNX_FILE = "model.onnx"
TORCHSCRIPT_FILE = "model.pt"


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
    preprocess: Mapping[str, ImageDecode] | None = None,
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
            BF16 as tensors of torch or arrays of ml_dtypes.
            Real rows, please: without `reference_inputs` they are what parity is measured on.
        name: Of the model: letters, digits, `_`, `-`, `.`.
        version: Of this package; a registry keeps each version once.
        task: What is predicted, with the class names in the order of the logits.
        out_dir: Folder to write. It becomes the package.
        input_names: In the order of `forward`; default: its parameter names.
        displays: How people see an input, by input name.
        preprocess: Inputs that clients send as encoded images, by input name; see `export.preprocess.image_input`. Rows
            of such an input are given as the files' bytes or paths, and the module sees what is decoded from them.
        input_axes: Names of the axes, by input name; the first is the batch.
        output_names: In order; default: the keys of a dict or named tuple, else output, output_1, ...
        output_roles: By output name; those not given are guessed conservatively, see `export.roles`.
        dynamic_axes: Axes beside the batch that vary from request to request, by input name.
        reference_inputs: Held-out rows (not training rows) in the form of `example_inputs`.
        reference_labels: Their labels: class indices or names, or regression targets.
        runtimes: Which files to write; the first is preferred in serving.
        script: Make TorchScript by scripting (keeps data-dependent control flow) instead of tracing.
        golden: Rows that are stored with their outputs; every load must reproduce them.
        tolerance: Elementwise tolerance of parity and golden cases; default: by the datatypes of weights and tensors,
            see `export.tolerances`.
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
    encoded = preprocess or {}
    example_inputs = in_order(example_inputs, encoded=bool(encoded))
    reference_inputs = in_order(reference_inputs, encoded=bool(encoded))
    names = tuple(input_names) or parameter_names(work, example_inputs)
    given = with_encoded_rows(example_inputs, names, encoded)
    bf16 = bf16_names(given, names)
    examples = as_arrays(given, names, "example_inputs")
    held_out = with_encoded_rows(reference_inputs, names, encoded)
    reference = None if held_out is None else as_arrays(held_out, names, "reference_inputs", bf16)
    tensors = {n: decoded_rows(a, encoded[n], n) if n in encoded else a for n, a in examples.items()}
    traced = examine(work, tensors, names, tuple(output_names), dynamic_axes or {}, bf16)
    encoding = Encoding(signature_of(traced, task, displays or {}, input_axes or {}, output_roles or {}), encoded)
    signature = encoding.wire
    outputs = tuple(o.name for o in signature.outputs)

    def fill(folder: Path) -> dict[str, FileRole]:
        for kind in runtimes:
            if kind is RuntimeKind.ONNX:
                write_onnx(work, traced, outputs, folder / ONNX_FILE)
            else:
                write_torchscript(work, traced, folder / TORCHSCRIPT_FILE, script=script)
        return {path.name: FileRole.WEIGHTS for path in folder.iterdir()}

    def candidates(folder: Path) -> dict[str, Runner]:
        made: dict[str, Runner] = {}
        for kind in runtimes:
            if kind is RuntimeKind.ONNX:
                made[kind.value] = encoding.wrap(onnx_runner(folder / ONNX_FILE, encoding.model))
            else:
                made[kind.value] = encoding.wrap(torchscript_runner(folder / TORCHSCRIPT_FILE, names, outputs, bf16))
        return made

    files = {RuntimeKind.ONNX: ONNX_FILE, RuntimeKind.TORCHSCRIPT: TORCHSCRIPT_FILE}
    return assemble(
        Assembly(
            name=name,
            version=version,
            task=task,
            signature=signature,
            runtimes=tuple(RuntimeFile(kind=k, path=files[k]) for k in runtimes),
            trusted=encoding.wrap(module_runner(work, names, outputs, bf16)),
            trusted_name="eager",
            samples=reference if reference is not None else examples,
            reference=reference,
            labels=reference_labels,
            golden_rows=golden,
            tolerance=tolerance or default_tolerance(datatypes(work, traced)),
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
