"""Write a module as ONNX and as TorchScript."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.runners import first_line
from export.torch_precision import datatypes
from export.torch_runner import flatten_outputs, to_tensor
from export.torch_trace import Traced

if TYPE_CHECKING:
    import torch

EXTERNAL_DATA_ABOVE_BYTES = 1_500_000_000  # a protobuf message ends at 2 GiB
OPSET = 20
BF16_OPSET = 22  # before it, Conv and others take no BF16


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


def write_onnx(module: torch.nn.Module, traced: Traced, outputs: Sequence[str], path: Path) -> None:
    """Write ONNX with named inputs and outputs and dynamic dimensions (torch.export, dynamo).

    Raises:
        PackageError: the module cannot be exported.
    """
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
                _example_tensors(traced),
                str(path),
                input_names=list(traced.examples),
                output_names=list(outputs),
                dynamic_shapes=(shapes,),
                opset_version=BF16_OPSET if Datatype.BF16 in datatypes(module, traced) else OPSET,
                external_data=size > EXTERNAL_DATA_ABOVE_BYTES,
                verbose=False,
            )
    except Exception as error:  # torch.onnx raises what its passes raise; the first line says which
        raise PackageError(f"ONNX export failed: {type(error).__name__}: {first_line(error)}") from error
    _strip(path)


def _example_tensors(traced: Traced) -> tuple[torch.Tensor, ...]:
    return tuple(to_tensor(a, bf16=n in traced.bf16_inputs) for n, a in traced.examples.items())


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


def write_torchscript(module: torch.nn.Module, traced: Traced, path: Path, *, script: bool) -> None:
    """Write frozen TorchScript, by tracing or by scripting.

    Raises:
        PackageError: the module cannot be traced or scripted.
    """
    import torch

    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracer warnings: parity at several batch sizes is the judge
            if script:
                made = torch.jit.script(module)
            else:
                made = torch.jit.trace(_flat_module(module), _example_tensors(traced))  # type: ignore[no-untyped-call]  # torch's
            torch.jit.freeze(made.eval()).save(str(path))
    except Exception as error:  # the compiler raises many kinds; the first line says which
        raise PackageError(f"TorchScript export failed: {type(error).__name__}: {first_line(error)}") from error
