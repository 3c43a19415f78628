"""ONNX Runtime that reads and writes page-locked memory: for CUDA, where plain `run` copies answers through others.

A session may be run from several threads at once: each run takes streams of its own, so that the copies of one batch
overlap with the computation of another. A run waits for its stream inside ONNX Runtime, without the interpreter.

The tensors are given to the run itself (`run_with_ortvaluevector`). `IOBinding` is not the way: it copies each input to
the device when it is bound, outside of the run, and waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import HardcaseError, ModelFailed
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.onnx_runner import value_to_array
from serving.runtime.arena import Allocate, Arena
from serving.runtime.base import MODEL_RAISED, Array, DeviceLost, Fact, closed
from serving.runtime.buckets import sample_inputs
from serving.runtime.devices import Device
from serving.runtime.onnx import failed, is_sticky

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
_log = logging.getLogger("hardcase.runtime.onnx")
_STAGING_BYTES = 1 << 30  # page-locked memory is taken from everybody
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
        from onnxruntime.capi import _pybind_state as native

        self._ort, self._native = ort, native
        self._host = ort.OrtDevice.make("cpu", 0)._get_c_device()
        self._session = session
        self.provider: str = session.get_providers()[0]
        self.device = str(device)
        self.concurrency = lanes
        self.fallback = False
        self.healthy = True
        self._signature = signature
        self._dtypes = [spec.datatype.numpy for spec in signature.inputs]
        blocks = 2 * lanes + _BLOCKS_BESIDE_LANES
        self._arena = Arena(memory, blocks=blocks, total_bytes=_STAGING_BYTES)
        self._answers = Arena(memory, blocks=blocks, total_bytes=_STAGING_BYTES)
        self._options = ort.RunOptions()
        # What is given back after a batch that did not fit: the allocator otherwise keeps all it ever had.
        self._shrinking = ort.RunOptions()
        arena = "cpu:0" if device.kind == "cpu" else f"gpu:{device.index}"
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
        self._shrink = False
        self._lock = threading.Lock()
        self._names = [spec.name for spec in signature.inputs]
        specs: tuple[InputSpec | OutputSpec, ...] = (*signature.inputs, *signature.outputs)
        self._bits = any(s.datatype is Datatype.BF16 for s in specs)
        self._direct = True  # False: by plain `run`, because the direct way did not do what it does

    @property
    def facts(self) -> dict[str, Fact]:
        """What the record log and `doctor` say about it."""
        pinned = self._arena.bytes + self._answers.bytes
        return {"lanes": self.concurrency, "pinned_bytes": pinned, "bound": self._direct}

    def prepare(self) -> None:
        """See that the direct way computes what plain `run` does, and leave it otherwise. Called once."""
        sample = sample_inputs(self._signature, 2)
        if sample is None or self._bits:  # plain `run` cannot carry BF16; the golden cases judge alone
            return
        every = tuple(range(len(self._signature.outputs)))
        try:
            plain = self._plain(sample, every, self._options)
        except Exception as error:  # the sample is not to the model's liking: nothing to learn from it
            _log.warning("no comparison with plain runs: %s", error)
            return
        try:
            direct = self._vector(sample, every, self._options)
            self._direct = all(_same(a, b) for a, b in zip(plain, direct, strict=True))
        except Exception as error:
            _log.warning("inputs and outputs cannot be bound: %s", error)
            self._direct = False

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
            options, self._shrink = self._shrinking if self._shrink else self._options, False
        try:
            return self._vector(hosts, outputs, options) if self._direct else self._plain(hosts, outputs, options)
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

    def _vector(self, hosts: Sequence[Array], outputs: Sequence[int], options: Any) -> list[Array]:
        """Run on the arrays' own memory, and have the answers written where they stay."""
        feeds, fetches = self._native.OrtValueVector(), self._native.OrtValueVector()
        for spec, host in zip(self._signature.inputs, hosts, strict=True):
            feeds.push_back(self._value(host, spec.datatype))
        rows = len(hosts[0]) if self._signature.batched else None
        answers = [self._answer(i, rows) for i in outputs]
        kept = [a for a in answers if a is not None]
        whole = len(kept) == len(answers)
        if whole:  # all or none: ONNX Runtime takes no vector with holes
            for index, answer in zip(outputs, kept, strict=True):
                fetches.push_back(self._value(answer, self._signature.outputs[index].datatype))
        names = [self._signature.outputs[i].name for i in outputs]
        self._session.run_with_ortvaluevector(options, self._names, feeds, names, fetches, [self._host] * len(names))
        return kept if whole else [np.array(value_to_array(self._ort.OrtValue(value))) for value in fetches]

    def _plain(self, hosts: Sequence[Array], outputs: Sequence[int], options: Any) -> list[Array]:
        names = [self._signature.outputs[i].name for i in outputs]
        answers: list[Array] = self._session.run(names, dict(zip(self._names, hosts, strict=True)), options)
        return answers

    def _answer(self, index: int, rows: int | None) -> Array | None:
        """Page-locked memory for one output; None where its shape is open, or none is free."""
        spec = self._signature.outputs[index]
        shape = spec.shape if rows is None else (rows, *spec.shape[1:])
        return self._answers.array(index, shape, spec.datatype.numpy) if all(n > 0 for n in shape) else None

    def _value(self, array: Array, datatype: Datatype) -> Any:
        """ONNX Runtime's own tensor on an array's memory."""
        if datatype is Datatype.BF16:
            return self._ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, CODES[datatype])._ortvalue
        return self._ort.OrtValue.ortvalue_from_numpy(array)._ortvalue


def _same(a: Array, b: Array) -> bool:
    """Whether two answers to one input are the same, but for the rounding of another algorithm."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(np.allclose(a, b, rtol=1e-2, atol=1e-3, equal_nan=True) if a.dtype.kind == "f" else (a == b).all())
