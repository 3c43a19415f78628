"""Run an ONNX file on named arrays, for parity, golden cases and references."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.signature import Signature
from export.runners import Array, Runner


def onnx_runner(path: Path, signature: Signature) -> Runner:
    """Run an ONNX file with ONNX Runtime on the CPU.

    Raises:
        PackageError: ONNX Runtime cannot load the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # most calls are one row; see `torch_runner.one_thread`
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        raise PackageError(f"ONNX Runtime cannot load the file: {type(error).__name__}") from error
    bf16_inputs = {s.name for s in signature.inputs if s.datatype is Datatype.BF16}
    names = [o.name for o in signature.outputs]
    if bf16_inputs or any(o.datatype is Datatype.BF16 for o in signature.outputs):
        raise PackageError("BF16 inputs and outputs cannot be compared by numpy: cast them inside the model")

    def run(arrays: Mapping[str, Array]) -> dict[str, Array]:
        feeds = {s.name: arrays[s.name] for s in signature.inputs}
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run
