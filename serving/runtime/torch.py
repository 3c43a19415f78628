"""TorchScript on the CPU, and on CUDA by way of `staged`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.contracts.errors import HardcaseError, ModelFailed
from export.contracts.signature import Signature
from serving.options import RuntimeOptions
from serving.runtime.base import MODEL_RAISED, Array, DeviceUnavailable, OutOfMemory, Runtime, closed
from serving.runtime.devices import Device
from serving.runtime.staged import GraphOptions, StagedRuntime
from serving.runtime.torch_module import TorchProgram, to_numpy
from serving.runtime.torch_streams import CudaAccelerator

_log = logging.getLogger("hardcase.runtime.torch")


def open_torch(
    path: Path, signature: Signature, device: Device, options: RuntimeOptions, *, threads: int, graphs: GraphOptions
) -> Runtime:
    """Load a TorchScript file.

    Args:
        path: The file; its digest has been checked.
        signature: What it promises.
        device: The CPU, or a CUDA device.
        options: Precision, lanes, memory budget.
        threads: Threads of one execution on the CPU; 0 lets torch choose.
        graphs: Which batch sizes are recorded as CUDA graphs.

    Raises:
        DeviceUnavailable: this torch cannot use the device.
        LoadFailed: the file does not load, or is not what the signature says.
    """
    import torch

    where = _torch_device(torch, device)
    if device.kind == "cpu":
        if threads:
            torch.set_num_threads(threads)
        return TorchRuntime(torch, TorchProgram(torch, path, signature, where, options.precision))
    if options.memory_bytes:
        total = torch.cuda.get_device_properties(where).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, options.memory_bytes / total), where)
    program = TorchProgram(torch, path, signature, where, options.precision)
    accelerator = CudaAccelerator(torch, program, where)
    return StagedRuntime(
        accelerator, signature, kind="torchscript", provider="libtorch", lanes=options.lanes, graphs=graphs
    )


class TorchRuntime:
    """A frozen TorchScript module on the CPU. See `serving.runtime.base.Runtime`.

    Args:
        torch: The library.
        program: The module.
    """

    kind = "torchscript"
    concurrency = 1
    provider = "libtorch"
    device = "cpu"

    def __init__(self, torch: Any, program: TorchProgram) -> None:
        self._torch = torch
        self._program: TorchProgram | None = program
        self.fallback = False
        self.healthy = True

    def buffer(self, index: int, shape: tuple[int, ...]) -> Array | None:
        """None: the CPU reads whatever memory the batch was gathered in; see `Runtime.buffer`."""
        return None

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Execute one batch; see `Runtime.run`."""
        program, torch = self._program, self._torch
        if program is None:
            raise closed()
        try:
            with torch.inference_mode():
                # A read-only array may not become a tensor; a module that writes must not write into the request.
                copy = program.writes_inputs
                tensors = [torch.from_numpy(a.copy() if copy or not a.flags.writeable else a) for a in inputs]
                return [to_numpy(torch, tensor) for tensor in program(tensors, outputs)]
        except Exception as error:
            raise _failed(error) from error

    def close(self) -> None:
        """Drop the module and its memory; see `Runtime.close`."""
        self._program = None


def _failed(error: Exception) -> HardcaseError:
    """The public error of what torch raised on the CPU; the log gets the rest."""
    if isinstance(error, HardcaseError):
        return error
    _log.error("the model raised: %s", error)
    # TorchScript makes a RuntimeError of everything that an operator raises: the text is what is left.
    if isinstance(error, MemoryError) or "not enough memory" in str(error):
        return OutOfMemory()
    return ModelFailed(MODEL_RAISED)


def _torch_device(torch: Any, device: Device) -> Any:
    """Torch's object for the device.

    Raises:
        DeviceUnavailable: this torch cannot use it.
    """
    if device.kind == "cuda" and not (torch.cuda.is_available() and device.index < torch.cuda.device_count()):
        built = "" if torch.version.cuda else ": this torch was built without CUDA"
        raise DeviceUnavailable(f"the device asked for is {device}, and torch cannot use it{built}")
    return torch.device(str(device))
