"""ONNX Runtime, by plain `InferenceSession.run`: 10 µs a row for a small CNN (I/O binding: 15 µs, OrtValues: 47 µs)."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest, ModelFailed
from export.contracts.signature import InputSpec, OutputSpec, Signature
from serving.runtime.base import MODEL_OUT_OF_MEMORY, MODEL_RAISED, Array, DeviceUnavailable, LoadFailed, closed
from serving.runtime.devices import Device

_log = logging.getLogger("hardcase.runtime.onnx")
_WARNINGS = 2  # ONNX Runtime's severity: verbose 0, info 1, warning 2, error 3
_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
_ONNX_TYPES: dict[str, Datatype] = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(bfloat16)": Datatype.BF16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}


class OnnxRuntime:
    """A session of ONNX Runtime on one device. See `serving.runtime.base.Runtime`."""

    kind = "onnx"
    concurrency = 1

    def __init__(self, path: Path, signature: Signature, device: Device, intra_op_threads: int) -> None:
        self._session: Any = _open_session(path, device, intra_op_threads)
        self.provider: str = self._session.get_providers()[0]
        self.device = str(device)
        self.fallback = False
        self.healthy = True
        _check_tensors("input", self._session.get_inputs(), signature.inputs, complete=True)
        _check_tensors("output", self._session.get_outputs(), signature.outputs, complete=False)
        self._inputs = signature.inputs
        self._input_names = [spec.name for spec in signature.inputs]
        self._outputs = signature.outputs
        self._texts_in = frozenset(i for i, spec in enumerate(signature.inputs) if spec.datatype is Datatype.BYTES)
        self._texts_out = frozenset(i for i, spec in enumerate(signature.outputs) if spec.datatype is Datatype.BYTES)
        self._bits_in = any(spec.datatype is Datatype.BF16 for spec in signature.inputs)
        self._bits_out = frozenset(i for i, spec in enumerate(signature.outputs) if spec.datatype is Datatype.BF16)
        if self._bits_out and (self._texts_in or self._texts_out):
            raise LoadFailed("ONNX Runtime cannot carry BYTES tensors beside BF16 outputs in one model")
        self._names: dict[tuple[int, ...], list[str]] = {}

    def buffer(self, index: int, shape: tuple[int, ...]) -> Array | None:
        """None: the CPU reads whatever memory the batch was gathered in; see `Runtime.buffer`."""
        return None

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Execute one batch; see `Runtime.run`."""
        wanted = tuple(outputs)
        names = self._names.get(wanted) or self._names.setdefault(wanted, [self._outputs[i].name for i in wanted])
        if self._texts_in:
            inputs = [_decode(a, self._inputs[i]) if i in self._texts_in else a for i, a in enumerate(inputs)]
        session = self._session
        if session is None:
            raise closed()
        try:
            results: list[Array] = (
                self._run_bits(inputs, wanted, names)
                if self._bits_in or self._bits_out
                else session.run(names, dict(zip(self._input_names, inputs, strict=True)))
            )
        except Exception as error:
            raise self._failed(error) from error
        if self._texts_out:
            return [_encode(r) if i in self._texts_out else r for i, r in zip(wanted, results, strict=True)]
        return results

    def close(self) -> None:
        """Drop the session; see `Runtime.close`."""
        self._session = None

    def _run_bits(self, inputs: Sequence[Array], wanted: tuple[int, ...], names: list[str]) -> list[Array]:
        """The way for BF16, which numpy cannot name: its bits travel in OrtValues."""
        import onnxruntime as ort

        as_values = not self._bits_out.isdisjoint(wanted)
        feed: dict[str, Any] = {}
        for spec, array in zip(self._inputs, inputs, strict=True):
            if spec.datatype is Datatype.BF16:
                feed[spec.name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
            else:
                feed[spec.name] = ort.OrtValue.ortvalue_from_numpy(array) if as_values else array
        if not as_values:
            return self._session.run(names, feed)  # type: ignore[no-any-return] # onnxruntime is untyped
        return [_value_to_numpy(value) for value in self._session.run_with_ort_values(names, feed)]

    def _failed(self, error: Exception) -> ModelFailed:
        """The public error of what the framework raised; the log gets the rest."""
        text = str(error)
        out_of_memory = "Failed to allocate memory" in text or "out of memory" in text
        if self.device != "cpu" and "CUDA failure" in text and not out_of_memory:
            self.healthy = False
        _log.error("the model raised: %s", text)
        return ModelFailed(MODEL_OUT_OF_MEMORY if out_of_memory else MODEL_RAISED)


def _open_session(path: Path, device: Device, intra_op_threads: int) -> Any:
    """A session on exactly this device.

    Raises:
        DeviceUnavailable: ONNX Runtime would use another provider than the one asked for.
        LoadFailed: the file is not a model that this ONNX Runtime executes.
    """
    import onnxruntime as ort

    ort.set_default_logger_severity(_WARNINGS)
    options = ort.SessionOptions()
    options.log_severity_level = _WARNINGS
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    for pool in ("intra_op", "inter_op"):  # a spinning thread steals the core that the event loop runs on
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    provider: Any = "CPUExecutionProvider"
    if device.kind == "cuda":
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise DeviceUnavailable(f"this ONNX Runtime was built without CUDA, and the device asked for is {device}")
        ort.preload_dlls()
        provider = ("CUDAExecutionProvider", {"device_id": str(device.index)})
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider])
        session.disable_fallback()  # otherwise a failing run re-creates the session on the CPU, silently
    except Exception as error:
        _log.error("ONNX Runtime refused the file: %s", error)
        raise LoadFailed("ONNX Runtime cannot load the weights: the log has its reason") from error
    wanted = provider if isinstance(provider, str) else provider[0]
    in_use = session.get_providers()
    if in_use[0] != wanted:
        raise DeviceUnavailable(f"the device asked for is {device}, and ONNX Runtime would run on {in_use[0]}")
    return session


def _check_tensors(
    kind: str, nodes: Sequence[Any], specs: Sequence[InputSpec] | Sequence[OutputSpec], *, complete: bool
) -> None:
    """Hold the file's tensors against the signature.

    Raises:
        LoadFailed: names the tensor and both versions of the fact.
    """
    real = {node.name: node for node in nodes}
    for spec in specs:
        node = real.get(spec.name)
        if node is None:
            raise LoadFailed(f"wrong signature: the model has no {kind} '{spec.name}'")
        datatype = _ONNX_TYPES.get(node.type)
        if datatype is not spec.datatype:
            raise LoadFailed(f"wrong signature: {kind} '{spec.name}' is {datatype or node.type}, not {spec.datatype}")
        shape = [d if isinstance(d, int) and d > 0 else -1 for d in node.shape]
        # A fixed dimension of the file binds; where the file leaves it open, the signature may be stricter.
        if len(shape) != len(spec.shape) or any(f not in (-1, s) for f, s in zip(shape, spec.shape, strict=True)):
            raise LoadFailed(f"wrong signature: {kind} '{spec.name}' has shape {shape}, not {list(spec.shape)}")
    missing = sorted(set(real) - {spec.name for spec in specs})
    if complete and missing:
        raise LoadFailed(f"wrong signature: the model's {kind} '{missing[0]}' is not in it")


def _decode(array: Array, spec: InputSpec) -> Array:
    """Bytes to text. ONNX strings are UTF-8, and ONNX Runtime would take `repr(b"…")` of anything that is not `str`."""
    flat = array.ravel()
    texts = np.empty(len(flat), dtype=object)
    try:
        texts[:] = [element.decode() if isinstance(element, bytes) else str(element) for element in flat]
    except UnicodeDecodeError:
        raise InvalidRequest(f"input '{spec.name}' holds an element that is not valid UTF-8") from None
    return texts.reshape(array.shape)


def _encode(array: Array) -> Array:
    """Text to bytes, elementwise."""
    flat = np.asarray(array, dtype=object).ravel()
    encoded = np.empty(len(flat), dtype=object)
    encoded[:] = [element.encode() for element in flat]
    return encoded.reshape(np.shape(array))


def _value_to_numpy(value: Any) -> Array:
    """An OrtValue as an array of its own; BF16 as the uint16 of its bits."""
    if value.element_type() != _BFLOAT16:
        return np.ascontiguousarray(value.numpy())
    shape = tuple(value.shape())
    size_bytes = int(np.prod(shape, dtype=np.int64)) * 2
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size_bytes), dtype="<u2").reshape(shape)
