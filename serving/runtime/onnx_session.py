"""ONNX Runtime sessions: which provider, with which options, on exactly the device that was asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.contracts.datatypes import Datatype
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.onnx_runner import missing_kernel
from serving.options import Precision, RuntimeOptions
from serving.runtime.base import DeviceUnavailable, LoadFailed
from serving.runtime.devices import Device

_log = logging.getLogger("hardcase.runtime.onnx")
_WARNINGS = 2  # ONNX Runtime's severity: verbose 0, info 1, warning 2, error 3
CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
_NAMED_PROVIDERS = {"tensorrt": TENSORRT_PROVIDER}
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


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionOptions:
    """What a session is opened with.

    Attributes:
        threads: Threads of one execution on the CPU; 0 lets ONNX Runtime choose.
        max_rows: Rows of the largest batch.
        graphs: Let CUDA graphs be recorded, which binds the session to one run at a time.
        runtime: Providers, precision, memory.
    """

    threads: int
    max_rows: int
    graphs: bool
    runtime: RuntimeOptions


def open_session(path: Path, signature: Signature, device: Device, options: SessionOptions) -> Any:
    """A session on exactly this device.

    Raises:
        DeviceUnavailable: ONNX Runtime would use another provider than the one asked for.
        LoadFailed: the file is not a model that this ONNX Runtime executes, or not the signature's.
    """
    import onnxruntime as ort

    ort.set_default_logger_severity(_WARNINGS)
    settings = ort.SessionOptions()
    settings.log_severity_level = _WARNINGS
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    for pool in ("intra_op", "inter_op"):  # a spinning thread steals the core that the event loop runs on
        settings.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    providers = choose_providers(ort.get_available_providers(), signature, device, options)
    wanted = providers[0][0]
    if wanted != CPU_PROVIDER:
        ort.preload_dlls()
    try:
        session = ort.InferenceSession(_model(path, wanted, options.runtime.precision), settings, providers=providers)
        session.disable_fallback()  # otherwise a failing run re-creates the session on the CPU, silently
    except LoadFailed:
        raise
    except Exception as error:
        _log.error("ONNX Runtime refused the file: %s", error)
        operator = missing_kernel(error)
        if operator is not None:
            raise LoadFailed(
                f"ONNX Runtime's {wanted} does not compute {operator} in a datatype of this file"
                " (BF16: TorchScript does)"
            ) from error
        raise LoadFailed("ONNX Runtime cannot load the weights: the log has its reason") from error
    in_use = session.get_providers()
    if in_use[0] != wanted:
        name = f"{device} by {wanted}" if wanted in _NAMED_PROVIDERS.values() else str(device)
        raise DeviceUnavailable(f"the device asked for is {name}, and ONNX Runtime would run on {in_use[0]}")
    _check_tensors("input", session.get_inputs(), signature.inputs, complete=True)
    _check_tensors("output", session.get_outputs(), signature.outputs, complete=False)
    return session


def choose_providers(
    available: Sequence[str], signature: Signature, device: Device, options: SessionOptions
) -> list[tuple[str, dict[str, str]]]:
    """Providers in order of preference, with their options.

    Raises:
        DeviceUnavailable: one that is asked for is not in this ONNX Runtime, or needs another device.
        LoadFailed: the settings name one that does not exist.
    """
    named = []
    for name in options.runtime.providers:
        if name not in _NAMED_PROVIDERS:
            raise LoadFailed(f"runtime.providers names '{name[:40]}': it must be one of {', '.join(_NAMED_PROVIDERS)}")
        named.append(_NAMED_PROVIDERS[name])
    if device.kind == "cpu":
        if named and not options.runtime.allow_cpu_fallback:
            raise DeviceUnavailable(f"{named[0]} is asked for, and the device is the CPU")
        return [(CPU_PROVIDER, {})]
    for provider in (*named, CUDA_PROVIDER):
        if provider not in available:
            raise DeviceUnavailable(f"this ONNX Runtime was built without {provider}: the device asked for is {device}")
    chosen = [(TENSORRT_PROVIDER, tensorrt_options(signature, device, options))] if named else []
    return [*chosen, (CUDA_PROVIDER, cuda_options(device, options))]


def cuda_options(device: Device, options: SessionOptions) -> dict[str, str]:
    """Options of the CUDA provider.

    Example:
        >>> how = SessionOptions(threads=1, max_rows=8, graphs=False, runtime=RuntimeOptions())
        >>> cuda_options(Device(kind="cuda", index=1), how)["device_id"]
        '1'
    """
    chosen = {
        "device_id": str(device.index),
        # Powers of two would take memory from the other models on the device.
        "arena_extend_strategy": "kSameAsRequested",
        # The default tries every algorithm at every new shape: hundreds of milliseconds in the middle of the traffic.
        "cudnn_conv_algo_search": "HEURISTIC",
        "enable_cuda_graph": "1" if options.graphs else "0",
    }
    if options.runtime.memory_bytes:
        chosen["gpu_mem_limit"] = str(options.runtime.memory_bytes)
    return chosen


def tensorrt_options(signature: Signature, device: Device, options: SessionOptions) -> dict[str, str]:
    """Options of the TensorRT provider: precision, engine cache, and one profile over all batch sizes."""
    runtime = options.runtime
    chosen = {
        "device_id": str(device.index),
        "trt_fp16_enable": "1" if runtime.precision is Precision.FP16 else "0",
        "trt_bf16_enable": "1" if runtime.precision is Precision.BF16 else "0",
    }
    if runtime.engine_cache:
        os.makedirs(runtime.engine_cache, mode=0o700, exist_ok=True)  # engines are code: nobody else may write them
        chosen |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": runtime.engine_cache,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": runtime.engine_cache,
        }
    shapes = [spec.shape for spec in signature.inputs]
    if signature.batched and all(n > 0 for shape in shapes for n in shape[1:]):
        for name, rows in (("min", 1), ("opt", options.max_rows), ("max", options.max_rows)):
            chosen[f"trt_profile_{name}_shapes"] = ",".join(
                f"{spec.name}:{'x'.join(map(str, (rows, *spec.shape[1:])))}" for spec in signature.inputs
            )
    return chosen


def _model(path: Path, provider: str, precision: Precision) -> str | bytes:
    """What the session reads: the file, or its weights in another precision.

    Raises:
        LoadFailed: ONNX has no such precision outside TensorRT.
    """
    if precision is Precision.AS_EXPORTED or provider == TENSORRT_PROVIDER:
        return str(path)
    if precision is Precision.BF16:
        raise LoadFailed("runtime.precision is bf16: ONNX files run so with TensorRT only; TorchScript does everywhere")
    from serving.runtime.onnx_precision import half_precision

    return half_precision(path)


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
