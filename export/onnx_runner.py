"""Run an ONNX file on named arrays, for parity, golden cases and references."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.runners import Array, Runner

BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
CPU_PROVIDER = "CPUExecutionProvider"
_NO_KERNEL = re.compile(r"(?:implementation for |of operator \(|of Optype \()(\w{1,64})\b")


def onnx_runner(path: Path, signature: Signature) -> Runner:
    """Run an ONNX file with ONNX Runtime on the CPU.

    Raises:
        PackageError: ONNX Runtime cannot load the file, or has nothing that computes one of its operators.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # most calls are one row; see `torch_runner.one_thread`
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[CPU_PROVIDER])
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        operator = missing_kernel(error)
        if operator is not None:
            raise PackageError(
                f"ONNX Runtime's {CPU_PROVIDER} does not compute {operator} in a datatype of this file (BF16 it mostly "
                "does not): leave ONNX out of the runtimes, TorchScript computes it everywhere"
            ) from error
        raise PackageError(f"ONNX Runtime cannot load the file: {type(error).__name__}") from error
    specs: tuple[InputSpec | OutputSpec, ...] = (*signature.inputs, *signature.outputs)
    names = [o.name for o in signature.outputs]
    bf16 = any(s.datatype is Datatype.BF16 for s in specs)
    if bf16 and any(s.datatype is Datatype.BYTES for s in specs):
        raise PackageError("ONNX Runtime cannot carry BYTES tensors beside BF16 ones in one model")

    def run(arrays: Mapping[str, Array]) -> dict[str, Array]:
        if bf16:
            values = {s.name: array_to_value(arrays[s.name], s.datatype) for s in signature.inputs}
            return dict(zip(names, map(value_to_array, session.run_with_ort_values(names, values)), strict=True))
        feeds = {s.name: arrays[s.name] for s in signature.inputs}
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


def missing_kernel(error: BaseException) -> str | None:
    """The operator that a provider does not compute in the file's datatypes, if that is what ONNX Runtime says.

    Example:
        >>> missing_kernel(RuntimeError("Could not find an implementation for Gemm(13) node with name 'x'"))
        'Gemm'
    """
    found = _NO_KERNEL.search(str(error))
    return None if found is None else found[1]


def array_to_value(array: Array, datatype: Datatype) -> Any:
    """An OrtValue of an array; BF16 of the uint16 of its bits."""
    import onnxruntime as ort

    if datatype is Datatype.BF16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def value_to_array(value: Any) -> Array:
    """An OrtValue as an array of its own; BF16 as the uint16 of its bits."""
    if value.element_type() != BFLOAT16:
        return np.ascontiguousarray(value.numpy())
    shape = tuple(value.shape())
    size_bytes = int(np.prod(shape, dtype=np.int64)) * 2
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size_bytes), dtype="<u2").reshape(shape)
