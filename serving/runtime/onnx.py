"""ONNX Runtime, by plain `InferenceSession.run` on the CPU: 10 µs a row for a small CNN (I/O binding: 15 µs).

On CUDA the inputs and outputs are bound to page-locked memory (`onnx_bound`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import HardcaseError, InvalidRequest, ModelFailed
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.onnx_runner import array_to_value, value_to_array
from serving.options import RuntimeOptions
from serving.runtime.base import MODEL_RAISED, Array, DeviceLost, LoadFailed, OutOfMemory, Runtime, closed
from serving.runtime.devices import Device
from serving.runtime.onnx_session import SessionOptions, open_session
from serving.runtime.staged import GraphOptions

_log = logging.getLogger("hardcase.runtime.onnx")


def open_onnx(
    path: Path, signature: Signature, device: Device, options: RuntimeOptions, *, threads: int, graphs: GraphOptions
) -> Runtime:
    """Load an ONNX file.

    Args:
        path: The file; its digest has been checked.
        signature: What it promises.
        device: The CPU, or a CUDA device.
        options: Providers, precision, lanes, memory budget.
        threads: Threads of one execution on the CPU; 0 lets ONNX Runtime choose.
        graphs: Whether, and at which batch sizes, CUDA graphs are recorded.

    Raises:
        DeviceUnavailable: ONNX Runtime cannot use the device, or a provider that the settings name.
        LoadFailed: the file does not load, or is not what the signature says.
    """
    from serving.runtime.onnx_bound import BoundOnnxRuntime
    from serving.runtime.onnx_graphs import GraphedOnnxRuntime
    from serving.runtime.page_locked import page_locked

    specs: tuple[InputSpec | OutputSpec, ...] = (*signature.inputs, *signature.outputs)
    texts = any(s.datatype is Datatype.BYTES for s in specs)
    recorded = graphs.enabled and device.kind == "cuda" and not texts and not options.providers
    how = SessionOptions(threads=threads, max_rows=graphs.max_rows, graphs=recorded, runtime=options)
    session = open_session(path, signature, device, how)
    if device.kind == "cpu" or texts:
        return OnnxRuntime(session, signature, device, lanes=1 if device.kind == "cpu" else options.lanes)
    memory = page_locked(device.index)
    if recorded:
        return GraphedOnnxRuntime(session, signature, device, memory, graphs)
    return BoundOnnxRuntime(session, signature, device, memory, lanes=options.lanes)


class OnnxRuntime:
    """A session of ONNX Runtime by plain `run`. See `serving.runtime.base.Runtime`.

    Args:
        session: The session.
        signature: Its inputs and outputs.
        device: Where it runs.
        lanes: Runs that may be under way at once.
    """

    kind = "onnx"

    def __init__(self, session: Any, signature: Signature, device: Device, *, lanes: int = 1) -> None:
        self._session = session
        self.provider: str = session.get_providers()[0]
        self.device = str(device)
        self.concurrency = lanes
        self.fallback = False
        self.healthy = True
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
        if not self.healthy:
            raise DeviceLost
        try:
            results: list[Array] = (
                self._run_bits(inputs, wanted, names)
                if self._bits_in or self._bits_out
                else session.run(names, dict(zip(self._input_names, inputs, strict=True)))
            )
        except Exception as error:
            public = failed(error)
            if self.device != "cpu" and is_sticky(error):
                self.healthy = False
            raise public from error
        if self._texts_out:
            return [_encode(r) if i in self._texts_out else r for i, r in zip(wanted, results, strict=True)]
        return results

    def close(self) -> None:
        """Drop the session; see `Runtime.close`."""
        self._session = None

    def _run_bits(self, inputs: Sequence[Array], wanted: tuple[int, ...], names: list[str]) -> list[Array]:
        """The way for BF16, which numpy cannot name: its bits travel in OrtValues."""
        as_values = not self._bits_out.isdisjoint(wanted)
        feed: dict[str, Any] = {}
        for spec, array in zip(self._inputs, inputs, strict=True):
            as_value = as_values or spec.datatype is Datatype.BF16
            feed[spec.name] = array_to_value(array, spec.datatype) if as_value else array
        if not as_values:
            return self._session.run(names, feed)  # type: ignore[no-any-return] # onnxruntime is untyped
        return [value_to_array(value) for value in self._session.run_with_ort_values(names, feed)]


def failed(error: Exception) -> HardcaseError:
    """The public error of what ONNX Runtime raised; the log gets the rest."""
    text = str(error)
    _log.error("the model raised: %s", text)
    memory = "Failed to allocate memory" in text or "out of memory" in text
    return OutOfMemory() if memory else ModelFailed(MODEL_RAISED)


def is_sticky(error: Exception) -> bool:
    """Whether the device is broken for this process: taken so of every CUDA failure that is none of memory."""
    text = str(error)
    return "CUDA failure" in text and "out of memory" not in text


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
