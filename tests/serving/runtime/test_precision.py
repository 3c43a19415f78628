"""`runtime.precision`: other arithmetic, the same tensors outside, and the golden cases as the judge."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.contracts.datatypes import Datatype
from export.contracts.manifest import Tolerance
from export.package import Package
from serving.options import Precision, RuntimeOptions
from serving.runtime.base import DeviceUnavailable, LoadFailed
from serving.runtime.loader import load_runtime
from serving.runtime.onnx_precision import half_precision
from serving.runtime.proof import prove
from tests.support import packages as p


def options(kind: str, precision: Precision, device: str = "cpu") -> RuntimeOptions:
    return RuntimeOptions(device=device, prefer=(kind,), precision=precision, lanes=1)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return p.torchscript_package(tmp_path_factory.mktemp("digits"))


@pytest.mark.parametrize(
    ("kind", "precision", "device"),
    [
        ("torchscript", Precision.FP16, "cpu"),
        ("torchscript", Precision.BF16, "cpu"),
        ("torchscript", Precision.BF16, "double"),
        ("onnx", Precision.FP16, "cpu"),
    ],
)
def test_the_answer_is_near_and_not_the_same_and_keeps_its_datatype(
    package: Package, kind: str, precision: Precision, device: str
) -> None:
    x = p.random_tensor(Datatype.FP32, (9, 1, 8, 8))
    plain = load_runtime(package.dir, package.manifest, options(kind, Precision.AS_EXPORTED)).run([x], (0, 1))
    runtime = load_runtime(package.dir, package.manifest, options(kind, precision, device))
    for _ in range(3):  # TorchScript optimises in the first runs
        other = runtime.run([x], (0, 1))
        for a, b in zip(plain, other, strict=True):
            assert b.dtype == np.float32
            scale = float(np.abs(a).max())
            off = float(np.abs(a - b).max())
            assert 1e-7 * scale < off < 0.03 * scale
    runtime.close()


def test_golden_cases_out_of_tolerance_refuse_the_version(package: Package) -> None:
    runtime = load_runtime(package.dir, package.manifest, options("torchscript", Precision.BF16))
    strict = replace(
        package, manifest=replace(package.manifest, golden_tolerance=Tolerance(absolute=1e-6, relative=0.0))
    )
    with pytest.raises(LoadFailed, match="golden cases: output 'logits' differs"):
        prove(runtime, strict, 8)
    wide = replace(package, manifest=replace(package.manifest, golden_tolerance=Tolerance(absolute=0.1, relative=0.05)))
    assert prove(runtime, wide, 8).golden_rows > 0


def test_bf16_tensors_stay_bits_while_fp16_is_computed_in(tmp_path: Path) -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2.0

    from tests.serving.test_runtime_conformance import one, scripted

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = scripted(tmp_path, Doubled(), one((-1, 2), Datatype.BF16))
    given = np.array([[0x3F80, 0x4000]], dtype="<u2")  # 1.0, 2.0
    (answer,) = load_runtime(package.dir, package.manifest, options("torchscript", Precision.FP16)).run([given], (0,))
    np.testing.assert_array_equal(answer, np.array([[0x4000, 0x4080]], dtype="<u2"))


def test_onnx_files_have_no_bf16_of_their_own(package: Package) -> None:
    with pytest.raises(LoadFailed, match="ONNX files run so with TensorRT only"):
        load_runtime(package.dir, package.manifest, options("onnx", Precision.BF16))


def test_a_converted_file_holds_half_the_bytes_and_the_same_tensors_outside(tmp_path: Path) -> None:
    package = p.slow_package(tmp_path, width=256, layers=3)
    data = half_precision(package.dir / "model.onnx")
    assert len(data) < 0.6 * (package.dir / "model.onnx").stat().st_size
    model = onnx.load_from_string(data)
    assert {t.type.tensor_type.elem_type for t in (*model.graph.input, *model.graph.output)} == {onnx.TensorProto.FLOAT}
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(LoadFailed, match="cannot be converted") as caught:
        half_precision(tmp_path / "broken.onnx")
    assert str(tmp_path) not in caught.value.message


def test_tensorrt_is_refused_where_it_cannot_be_had(package: Package) -> None:
    for device in ("cpu", "cuda"):
        asked = RuntimeOptions(device=device, prefer=("onnx",), providers=("tensorrt",))
        with pytest.raises(DeviceUnavailable, match=r"Tensorrt|device asked for"):
            load_runtime(package.dir, package.manifest, asked)
    with pytest.raises(LoadFailed, match="must be one of tensorrt"):
        load_runtime(package.dir, package.manifest, RuntimeOptions(device="cpu", providers=("openvino",)))
    fallback = RuntimeOptions(device="cuda", prefer=("onnx",), providers=("tensorrt",), allow_cpu_fallback=True)
    assert load_runtime(package.dir, package.manifest, fallback).fallback
