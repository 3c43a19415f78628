"""ONNX weights and activations in FP16, with the tensors of the signature left as they are."""

from __future__ import annotations

import logging
from pathlib import Path

from serving.runtime.base import LoadFailed

_log = logging.getLogger("hardcase.runtime.onnx")


def half_precision(path: Path) -> bytes:
    """The model of a file with FP16 inside and its own datatypes outside, serialised.

    Operators that lose too much in FP16 stay in FP32, by the list of ONNX Runtime's converter.

    Raises:
        LoadFailed: the model cannot be converted.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        model = convert_float_to_float16(onnx.load(str(path)), keep_io_types=True)
        return bytes(model.SerializeToString())
    except Exception as error:
        _log.error("the conversion to FP16 failed: %s", error)
        raise LoadFailed(
            "runtime.precision is fp16, and the file cannot be converted: the log has the reason"
        ) from error
