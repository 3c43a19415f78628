"""ONNX Runtime with inputs and outputs bound to page-locked memory: for CUDA, where plain `run` copies through others.

A session may be run from several threads at once: each run takes streams of its own, so that the copies of one batch
overlap with the computation of another. A run waits for its stream inside ONNX Runtime, without the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import HardcaseError, ModelFailed
from export.contracts.signature import Signature
from serving.runtime.arena import Allocate, Arena
from serving.runtime.base import MODEL_RAISED, Array, DeviceLost, Fact, closed
from serving.runtime.devices import Device
from serving.runtime.onnx import failed, is_sticky, value_to_numpy

# onnx.TensorProto.DataType; ONNX Runtime takes these numbers where numpy has no name for a type.
CODES = {
    Datatype.FP32: 1,
    Datatype.UINT8: 2,
    Datatype.INT8: 3,
    Datatype.UINT16: 4,
    Datatype.INT16: 5,
    Datatype.INT32: 6,
    Datatype.INT64: 7,
    Datatype.BOOL: 9,
    Datatype.FP16: 10,
    Datatype.FP64: 11,
    Datatype.UINT32: 12,
    Datatype.UINT64: 13,
    Datatype.BF16: 16,
}
_LARGEST_BLOCK_BYTES = 1 << 30
_BLOCKS_BESIDE_LANES = 6  # see `serving.runtime.staged`


class BoundOnnxRuntime:
    """See `serving.runtime.base.Runtime`.

    Args:
        session: On the device; no tensor is BYTES.
        signature: Its inputs and outputs.
        device: Where it runs.
        memory: Allocates page-locked memory.
        lanes: Runs that may be under way at once.
    """

    kind = "onnx"

    def __init__(self, session: Any, signature: Signature, device: Device, memory: Allocate, *, lanes: int) -> None:
        import onnxruntime as ort

        self._session = session
        self.provider: str = session.get_providers()[0]
        self.device = str(device)
        self.concurrency = lanes
        self.fallback = False
        self.healthy = True
        self._signature = signature
        self._dtypes = [spec.datatype.numpy for spec in signature.inputs]
        blocks = 2 * lanes + _BLOCKS_BESIDE_LANES
        self._arena = Arena(memory, blocks=blocks, largest_bytes=_LARGEST_BLOCK_BYTES)
        self._answers = Arena(memory, blocks=blocks, largest_bytes=_LARGEST_BLOCK_BYTES)
        # What is given back after a batch that did not fit: the allocator otherwise keeps all it ever had.
        self._shrinking = ort.RunOptions()
        arena = "cpu:0" if device.kind == "cpu" else f"gpu:{device.index}"
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
        self._shrink = False
        self._lock = threading.Lock()

    @property
    def facts(self) -> dict[str, Fact]:
        """What the record log and `doctor` say about it."""
        return {"lanes": self.concurrency, "pinned_bytes": self._arena.bytes + self._answers.bytes}

    def buffer(self, index: int, shape: tuple[int, ...]) -> Array | None:
        """Page-locked memory for an input, when there is some free; see `Runtime.buffer`."""
        return self._arena.array(index, shape, self._dtypes[index])

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Execute one batch; see `Runtime.run`."""
        session = self._session
        if session is None:
            raise closed()
        if not self.healthy:
            raise DeviceLost
        if len(inputs) != len(self._dtypes):
            raise ModelFailed(MODEL_RAISED)
        hosts = [self._staged(i, a) for i, a in enumerate(inputs)]  # held until the run is over
        with self._lock:
            options, self._shrink = self._shrinking if self._shrink else None, False
        try:
            binding = session.io_binding()
            for spec, host in zip(self._signature.inputs, hosts, strict=True):
                address = host.__array_interface__["data"][0]
                binding.bind_input(spec.name, "cpu", 0, CODES[spec.datatype], list(host.shape), address)
            rows = len(hosts[0]) if self._signature.batched else None
            answers = [self._bind_output(binding, i, rows) for i in outputs]
            session.run_with_iobinding(binding, options)
            if all(a is not None for a in answers):
                return [a for a in answers if a is not None]
            values = binding.get_outputs()
            return [value_to_numpy(v) if a is None else a for v, a in zip(values, answers, strict=True)]
        except Exception as error:
            self._shrink = True
            raise self._failed(error) from error

    def close(self) -> None:
        """Drop the session and the buffers; see `Runtime.close`."""
        self._session = None
        self._arena.close()
        self._answers.close()

    def _failed(self, error: Exception) -> HardcaseError:
        if is_sticky(error):
            self.healthy = False
        return failed(error)

    def _staged(self, index: int, array: Array) -> Array:
        """The array in page-locked memory, where there is some free; ordinary memory is copied by the driver."""
        if not array.nbytes or self._arena.holds(array):
            return array
        block = self._arena.array(index, array.shape, array.dtype)
        if block is None:
            return array
        np.copyto(block, array)
        return block

    def _bind_output(self, binding: Any, index: int, rows: int | None) -> Array | None:
        """Bind one output to page-locked memory; None where its shape is open: ONNX Runtime then makes its memory."""
        spec = self._signature.outputs[index]
        shape = spec.shape if rows is None else (rows, *spec.shape[1:])
        answer = self._answers.array(index, shape, spec.datatype.numpy) if all(n > 0 for n in shape) else None
        if answer is None:
            binding.bind_output(spec.name, "cpu")
        else:
            address = answer.__array_interface__["data"][0]
            binding.bind_output(spec.name, "cpu", 0, CODES[spec.datatype], list(shape), address)
        return answer
