"""Which providers ONNX Runtime is given, and with which options: every name is one that its libraries know."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from export.contracts.datatypes import Datatype
from export.contracts.signature import InputSpec, OutputSpec, Signature
from serving.options import Precision, RuntimeOptions
from serving.runtime.base import DeviceUnavailable
from serving.runtime.devices import CPU, Device
from serving.runtime.onnx_session import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    SessionOptions,
    choose_providers,
)

ALL = [TENSORRT_PROVIDER, CUDA_PROVIDER, CPU_PROVIDER]
CUDA = Device(kind="cuda", index=2)
SIGNATURE = Signature(
    inputs=(
        InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 3, 224, 224)),
        InputSpec(name="k", datatype=Datatype.INT64, shape=(-1, 7)),
    ),
    outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 10)),),
)


def how(graphs: bool = False, **runtime: object) -> SessionOptions:
    return SessionOptions(threads=1, max_rows=32, graphs=graphs, runtime=RuntimeOptions(**runtime))  # type: ignore[arg-type]


def test_the_cpu_has_one_provider() -> None:
    assert choose_providers(ALL, SIGNATURE, CPU, how()) == [(CPU_PROVIDER, {})]


def test_cuda_has_its_device_its_budget_and_no_search_in_the_traffic() -> None:
    ((name, options),) = choose_providers(ALL, SIGNATURE, CUDA, how(memory_bytes=1 << 30))
    assert name == CUDA_PROVIDER
    assert options["device_id"] == "2"
    assert options["gpu_mem_limit"] == str(1 << 30)
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert options["enable_cuda_graph"] == "0"
    assert choose_providers(ALL, SIGNATURE, CUDA, how(graphs=True))[0][1]["enable_cuda_graph"] == "1"
    with pytest.raises(DeviceUnavailable, match="built without CUDA"):
        choose_providers([CPU_PROVIDER], SIGNATURE, CUDA, how())


def test_tensorrt_comes_before_cuda_with_its_cache_precision_and_shapes(tmp_path: Path) -> None:
    cache = tmp_path / "state" / "engines"
    given = how(providers=("tensorrt",), engine_cache=str(cache), precision=Precision.FP16)
    (first, options), (second, _) = choose_providers(ALL, SIGNATURE, CUDA, given)
    assert (first, second) == (TENSORRT_PROVIDER, CUDA_PROVIDER)
    assert options["trt_fp16_enable"] == "1"
    assert options["trt_engine_cache_path"] == str(cache)
    assert cache.stat().st_mode & 0o077 == 0, "engines are code"
    assert options["trt_profile_min_shapes"] == "x:1x3x224x224,k:1x7"
    assert options["trt_profile_max_shapes"] == "x:32x3x224x224,k:32x7"
    with pytest.raises(DeviceUnavailable, match="built without Tensorrt"):
        choose_providers([CUDA_PROVIDER, CPU_PROVIDER], SIGNATURE, CUDA, given)


def test_every_option_is_one_that_the_installed_library_knows() -> None:
    """A misspelt option fails on the device only, where no test runs: so its name is looked for in the library."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    libraries = {
        CUDA_PROVIDER: folder / "libonnxruntime_providers_cuda.so",
        TENSORRT_PROVIDER: folder / "libonnxruntime_providers_tensorrt.so",
    }
    if not all(path.is_file() for path in libraries.values()):
        pytest.skip("this ONNX Runtime was built without CUDA")
    given = how(True, providers=("tensorrt",), engine_cache="", memory_bytes=1, precision=Precision.BF16)
    for name, options in choose_providers(ALL, SIGNATURE, CUDA, given):
        known = libraries[name].read_bytes()
        for option in options:
            assert option[:15].encode() in known, f"{name} does not know {option}"
