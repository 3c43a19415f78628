"""Run a PyTorch module or a TorchScript file on named arrays, for parity, golden cases and references."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.signature import Signature
from export.runners import Array, Runner, first_line

if TYPE_CHECKING:
    import torch


def module_runner(
    module: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str], bf16: Collection[str] = ()
) -> Runner:
    """Run a module eagerly; `inputs` and `outputs` name its positions, `bf16` the inputs that come as BF16's bits."""
    import torch

    def run(arrays: Mapping[str, Array]) -> dict[str, Array]:
        with torch.inference_mode(), one_thread():
            answer = module(*(to_tensor(arrays[name], bf16=name in bf16) for name in inputs))
        return dict(zip(outputs, (to_array(t) for t in flatten_outputs(answer)), strict=True))

    return run


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: most calls here are one row, and threads that wait by spinning cost more than they bring.

    On a busy 2-core machine one row through a small CNN took 43 ms with two threads; parity makes 1,000 such calls.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torchscript_runner(path: Path, inputs: Sequence[str], outputs: Sequence[str], bf16: Collection[str] = ()) -> Runner:
    """Run a TorchScript file. TorchScript is code: only for files of one's own, or admitted ones.

    Args:
        path: The file.
        inputs: Names of its positions.
        outputs: Theirs.
        bf16: The inputs that come as BF16's bits.

    Raises:
        PackageError: libtorch cannot load the file.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have torch.export; files are files
            module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise PackageError(f"TorchScript cannot load the file: {first_line(error)}") from None
    return module_runner(module, inputs, outputs, bf16)


def signed_runner(path: Path, signature: Signature) -> Runner:
    """`torchscript_runner` with the names and datatypes of a signature of tensors."""
    bf16 = [spec.name for spec in signature.inputs if spec.datatype is Datatype.BF16]
    return torchscript_runner(path, [s.name for s in signature.inputs], [s.name for s in signature.outputs], bf16)


def flatten_outputs(answer: Any) -> list[Any]:
    """The tensors of a module's answer, in order: a tensor, or a tuple, list, dict or dataclass of them.

    Raises:
        PackageError: something else is among them.
    """
    import torch

    if isinstance(answer, torch.Tensor):
        return [answer]
    if isinstance(answer, Mapping):
        return [t for value in answer.values() for t in flatten_outputs(value)]
    if isinstance(answer, tuple | list):
        return [t for value in answer for t in flatten_outputs(value)]
    raise PackageError(
        f"the module returns a {type(answer).__name__}: return a tensor, or a tuple, list or dict of them"
    )


def output_keys(answer: Any) -> list[str] | None:
    """Names of the outputs where the module itself names them (a dict of tensors, or a named tuple)."""
    if isinstance(answer, Mapping):
        return [str(k) for k in answer]
    fields = getattr(answer, "_fields", None)
    return list(fields) if isinstance(answer, tuple) and fields else None


def to_tensor(array: Array, *, bf16: bool = False) -> torch.Tensor:
    """A tensor of the same elements; uint16 as BF16 where it is. Copies, because a module may write into its input."""
    import torch

    made = torch.from_numpy(np.array(array, order="C"))
    return made.view(torch.bfloat16) if bf16 else made


def to_array(tensor: torch.Tensor) -> Array:
    """The elements of a tensor as a C-contiguous array; BF16 as uint16."""
    import torch

    t = tensor.detach().cpu().contiguous()
    return t.view(torch.uint16).numpy() if t.dtype is torch.bfloat16 else t.numpy()
