"""TorchScript on CPU and CUDA. TorchScript is code: only files of an admitted, digest-checked package come here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed
from export.contracts.signature import Signature
from serving.runtime.base import MODEL_OUT_OF_MEMORY, MODEL_RAISED, Array, DeviceUnavailable, LoadFailed, closed
from serving.runtime.devices import Device

_log = logging.getLogger("hardcase.runtime.torch")


class TorchRuntime:
    """A frozen TorchScript module on one device. See `serving.runtime.base.Runtime`."""

    kind = "torchscript"
    concurrency = 1
    provider = "libtorch"

    def __init__(self, path: Path, signature: Signature, device: Device, intra_op_threads: int) -> None:
        import torch

        texts = [spec.name for spec in signature.inputs if spec.datatype is Datatype.BYTES]
        texts += [spec.name for spec in signature.outputs if spec.datatype is Datatype.BYTES]
        if texts:
            raise LoadFailed(f"wrong signature: '{texts[0]}' is BYTES, and TorchScript has no text tensors")
        self._torch: Any = torch
        self._device = _torch_device(torch, device)
        if intra_op_threads and device.kind == "cpu":
            torch.set_num_threads(intra_op_threads)
        self._module: Any = _load(torch, path, self._device)
        _check_arity(self._module, signature)
        self._stream: Any = self._torch.cuda.Stream(self._device) if device.kind == "cuda" else None
        self._staging: dict[int, Any] = {}  # input index → pinned buffer, grown to the largest batch seen
        self.device = str(device)
        self.fallback = False
        self.healthy = True
        self._copy_inputs = _writes_its_tensors(self._module)
        self._outputs = signature.outputs
        self._bits_in = [spec.datatype is Datatype.BF16 for spec in signature.inputs]

    def buffer(self, index: int, shape: tuple[int, ...]) -> Array | None:
        """None: the CPU reads whatever memory the batch was gathered in; see `Runtime.buffer`."""
        return None

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Execute one batch; see `Runtime.run`."""
        if self._module is None:
            raise closed()
        try:
            with self._torch.inference_mode():
                return self._run_cpu(inputs, outputs) if self._stream is None else self._run_cuda(inputs, outputs)
        except Exception as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Drop the module and its memory; see `Runtime.close`."""
        if self._module is not None and self._stream is not None:
            self._module = None
            self._staging.clear()
            self._torch.cuda.empty_cache()
        self._module = None

    def _run_cpu(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        torch = self._torch
        tensors = []
        for array, bits in zip(inputs, self._bits_in, strict=True):
            # A read-only array may not become a tensor, and a module that writes must not write into the request.
            own = array.copy() if self._copy_inputs or not array.flags.writeable else array
            tensor = torch.from_numpy(own)
            tensors.append(tensor.view(torch.bfloat16) if bits else tensor)
        results = self._select(self._module(*tensors), outputs)
        return [_to_numpy(torch, tensor) for tensor in results]

    def _run_cuda(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Copy in from pinned memory, compute, copy out to pinned memory, all on one stream; then wait for it once."""
        torch = self._torch
        try:
            with torch.cuda.stream(self._stream):
                tensors = []
                for index, array in enumerate(inputs):
                    tensor = self._pinned(index, array).to(self._device, non_blocking=True)
                    tensors.append(tensor.view(torch.bfloat16) if self._bits_in[index] else tensor)
                results = self._select(self._module(*tensors), outputs)
                # `.to("cpu", non_blocking=True)` writes into fresh pinned memory of torch's caching host allocator.
                hosts = [tensor.contiguous().to("cpu", non_blocking=True) for tensor in results]
        finally:
            self._stream.synchronize()  # after an error, too: the next batch re-uses the pinned inputs
        return [_to_numpy(torch, host) for host in hosts]

    def _pinned(self, index: int, array: Array) -> Any:
        """The input's bytes in its reused pinned buffer, as a tensor of the array's shape and dtype."""
        torch = self._torch
        buffer = self._staging.get(index)
        if buffer is None or buffer.numel() < array.nbytes:
            buffer = self._staging[index] = torch.empty(max(array.nbytes, 1), dtype=torch.uint8, pin_memory=True)
        target = buffer.numpy()[: array.nbytes].view(array.dtype).reshape(array.shape)
        np.copyto(target, array)
        return torch.from_numpy(target)

    def _select(self, answer: Any, outputs: Sequence[int]) -> list[Any]:
        """The wanted tensors of what the module returned: a tensor, a tuple or list of them, or a dict by name."""
        if isinstance(answer, dict):
            return [answer[self._outputs[i].name] for i in outputs]
        every = list(answer) if isinstance(answer, tuple | list) else [answer]
        if len(every) != len(self._outputs):
            raise ModelFailed(f"the model returned {len(every)} outputs, its signature has {len(self._outputs)}")
        return [every[i] for i in outputs]

    def _failed(self, error: Exception) -> ModelFailed:
        """The public error of what torch raised; the log gets the rest."""
        if isinstance(error, ModelFailed):
            return error
        _log.error("the model raised: %s", error)
        if isinstance(error, self._torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error):
            if self._stream is not None:
                self._torch.cuda.empty_cache()
            return ModelFailed(MODEL_OUT_OF_MEMORY)
        if self._stream is not None and isinstance(error, self._torch.AcceleratorError):
            self.healthy = False  # a CUDA error is sticky: every later call in this process fails, too
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


def _load(torch: Any, path: Path, device: Any) -> Any:
    """The frozen module in evaluation mode.

    Raises:
        LoadFailed: the file is not TorchScript that this torch reads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch calls all of TorchScript deprecated
        try:
            return torch.jit.freeze(torch.jit.load(str(path), map_location=device).eval())
        except Exception as error:
            _log.error("torch refused the file: %s", error)
            raise LoadFailed("torch cannot load the weights: the log has its reason") from error


def _check_arity(module: Any, signature: Signature) -> None:
    """Hold the number of inputs against the signature; dtypes and shapes show in the golden cases.

    Raises:
        LoadFailed: says both numbers.
    """
    arguments = module.forward.schema.arguments[1:]
    required = sum(not argument.has_default_value() for argument in arguments)
    if not required <= len(signature.inputs) <= len(arguments):
        raise LoadFailed(
            f"wrong signature: the model takes {len(arguments)} inputs, the signature has {len(signature.inputs)}"
        )


def _writes_its_tensors(module: Any) -> bool:
    """Whether any operator of the module writes in place, so that inputs must be copied to stay what they were."""
    return any(_writes(node) for node in _nodes(module.inlined_graph))


def _nodes(block: Any) -> Any:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _writes(node: Any) -> bool:
    return "!" in node.schema()  # "Tensor(a!) self" marks an argument that is written


def _to_numpy(torch: Any, tensor: Any) -> Array:
    """A tensor on the CPU as a C-contiguous array; BF16 as the uint16 of its bits."""
    tensor = tensor.contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.uint16).numpy()  # type: ignore[no-any-return] # torch is passed as Any
    return tensor.numpy()  # type: ignore[no-any-return] # torch is passed as Any
