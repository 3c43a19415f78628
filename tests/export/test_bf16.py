"""BF16 from export to a loaded runtime: weights, tensors on the wire, parity, golden cases, reference, refusals."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save
from torch import nn

from export.admission import admit
from export.contracts.bf16 import narrow, numbers, widen
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.manifest import RuntimeKind, Task, TaskKind, Tolerance
from export.contracts.signature import InputSpec, OutputRole, OutputSpec, Signature
from export.from_onnx import import_onnx
from export.from_torch import export_module
from export.from_torchscript import import_torchscript
from export.onnx_runner import missing_kernel
from export.parity import compare, run_parity
from export.tolerances import BF16_TOLERANCE, FP16_TOLERANCE
from serving.options import RuntimeOptions
from serving.runtime.base import LoadFailed
from serving.runtime.loader import load_runtime
from serving.runtime.proof import prove
from tests.support import packages as p

TASK = Task(kind=TaskKind.CLASSIFICATION, class_names=("a", "b", "c", "d"))
TORCHSCRIPT = (RuntimeKind.TORCHSCRIPT,)
CPU = RuntimeOptions(device="cpu", prefer=("torchscript",), lanes=1)


class Net(nn.Module):
    """Two layers; what goes in is cast to what the weights are."""

    def __init__(self, answer: torch.dtype | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last, self.answer = nn.Linear(16, 32), nn.Linear(32, 4), answer

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = torch.relu(self.first(x.to(self.first.weight.dtype)))
        y = self.last(h)
        return {"logits": y if self.answer is None else y.to(self.answer), "embedding": h}


def rows(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


def export(module: nn.Module, examples: Any, out: Path, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return export_module(module, examples, **({"name": "m", "version": "1", "task": TASK, "out_dir": out} | more))


def eager(module: nn.Module, bits: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    with torch.inference_mode():
        answer = module(torch.from_numpy(bits.copy()).view(torch.bfloat16))
    return {name: t.float().numpy() for name, t in answer.items()}


def test_rounding_is_torchs_and_every_number_comes_back() -> None:
    every = np.arange(65536, dtype=np.uint16)
    finite = every[np.isfinite(widen(every))]
    np.testing.assert_array_equal(narrow(widen(finite)), finite)
    assert np.isnan(widen(narrow(widen(every[np.isnan(widen(every))])))).all()
    bits = np.random.default_rng(3).integers(0, 1 << 32, 200_000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = np.append(values[~np.isnan(values)], np.float32([np.inf, -np.inf, 3.4e38, 1e-45, -0.0]))
    expected = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    np.testing.assert_array_equal(narrow(values), expected)
    np.testing.assert_array_equal(values.astype(ml_dtypes.bfloat16).view(np.uint16), expected)
    assert narrow(np.float32(1.5)).shape == ()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """BF16 weights and BF16 tensors, with a reference."""
    module, x = Net().bfloat16(), rows(200)
    labels = eager(module, narrow(x))["logits"].argmax(axis=1)
    return export(
        module,
        torch.from_numpy(x[:4]).bfloat16(),
        tmp_path_factory.mktemp("bf16") / "p",
        runtimes=TORCHSCRIPT,
        reference_inputs=x,  # FP32: rounded to what the input is
        reference_labels=labels,
    )


def test_a_bf16_module_becomes_a_package_with_bf16_tensors(package: Any) -> None:
    s = package.manifest.signature
    assert [(i.name, i.datatype, i.shape) for i in s.inputs] == [("x", Datatype.BF16, (-1, 16))]
    assert [(o.name, o.datatype, o.role) for o in s.outputs] == [
        ("logits", Datatype.BF16, OutputRole.LOGITS),
        ("embedding", Datatype.BF16, OutputRole.EMBEDDING),
    ]
    assert package.manifest.golden_tolerance == BF16_TOLERANCE
    admit(package.dir)
    golden = package.golden()
    np.testing.assert_array_equal(golden.inputs["x"].dtype, np.uint16)
    expected = eager(Net().bfloat16(), golden.inputs["x"])["logits"]
    np.testing.assert_allclose(widen(golden.outputs["logits"]), expected, atol=0.03, rtol=0.03)


def test_the_reference_is_of_numbers_and_not_of_bits(package: Any) -> None:
    profile = package.reference()
    assert profile.classes.accuracy == 1.0
    assert profile.embedding is not None
    np.testing.assert_allclose(profile.column_mean[:16], widen(narrow(rows(200))).mean(axis=0), atol=1e-5)
    energies = profile.score_quantiles["energy"]
    assert np.abs(energies).max() < 50, "bits would be tens of thousands"


@pytest.mark.parametrize("device", ["cpu", "double"])
def test_a_runtime_reproduces_the_golden_cases_and_the_module(package: Any, device: str) -> None:
    options = RuntimeOptions(device=device, prefer=("torchscript",), lanes=1)
    runtime = load_runtime(package.dir, package.manifest, options)
    try:
        assert prove(runtime, package, 8).golden_rows == 16
        bits = narrow(rows(7, seed=5))
        for _ in range(3):  # TorchScript optimises in the first runs
            for answer, name in zip(runtime.run([bits], (0, 1)), ("logits", "embedding"), strict=True):
                assert answer.dtype == np.uint16
                expected = eager(Net().bfloat16(), bits)[name]
                np.testing.assert_allclose(widen(answer), expected, atol=0.03, rtol=0.03)
    finally:
        runtime.close()


def test_bf16_weights_behind_fp32_tensors(tmp_path: Path) -> None:
    package = export(Net(torch.float32).bfloat16(), rows(8), tmp_path / "p", runtimes=TORCHSCRIPT)
    s = package.manifest.signature
    assert s.inputs[0].datatype is Datatype.FP32
    assert [o.datatype for o in s.outputs] == [Datatype.FP32, Datatype.BF16]
    assert package.manifest.golden_tolerance == BF16_TOLERANCE, "the weights decide"
    runtime = load_runtime(package.dir, package.manifest, CPU)
    assert prove(runtime, package, 8).golden_rows == 8
    runtime.close()
    single = export(Net(torch.float32), rows(8), tmp_path / "single", runtimes=TORCHSCRIPT)
    assert single.manifest.golden_tolerance == Tolerance()


@pytest.mark.parametrize("kind", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_fp16_weights_and_tensors(tmp_path: Path, kind: str) -> None:
    package = export(Net().half(), rows(8).astype(np.float16), tmp_path / "p", runtimes=(RuntimeKind(kind),))
    s = package.manifest.signature
    assert {t.datatype for t in (*s.inputs, *s.outputs)} == {Datatype.FP16}
    assert package.manifest.golden_tolerance == FP16_TOLERANCE
    runtime = load_runtime(package.dir, package.manifest, RuntimeOptions(device="cpu", prefer=(kind,), lanes=1))
    assert prove(runtime, package, 8).golden_rows == 8
    runtime.close()


def test_rows_of_torch_and_of_ml_dtypes_are_the_same_rows(tmp_path: Path) -> None:
    x = rows(6)
    ways = {
        "torch": torch.from_numpy(x).bfloat16(),
        "ml_dtypes": x.astype(ml_dtypes.bfloat16),
        "mapping": {"x": x.astype(ml_dtypes.bfloat16)},
    }
    golden = [
        export(Net().bfloat16(), given, tmp_path / way, runtimes=TORCHSCRIPT).golden() for way, given in ways.items()
    ]
    for other in golden[1:]:
        np.testing.assert_array_equal(other.inputs["x"], golden[0].inputs["x"])
        np.testing.assert_array_equal(other.outputs["logits"], golden[0].outputs["logits"])


def test_onnx_is_refused_with_the_provider_and_the_operator(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"CPUExecutionProvider does not compute Gemm .* TorchScript") as caught:
        export(Net().bfloat16(), torch.from_numpy(rows(4)).bfloat16(), tmp_path / "p", runtimes=(RuntimeKind.ONNX,))
    assert str(tmp_path) not in caught.value.message
    assert not (tmp_path / "p").exists()


def test_onnx_operators_that_the_provider_has_are_exported_and_served(tmp_path: Path) -> None:
    save(onnx_model("Cast", to=TensorProto.BFLOAT16), tmp_path / "cast.onnx")
    given = rows(6)
    package = import_onnx(
        tmp_path / "cast.onnx", name="cast", version="1", task=TASK, out_dir=tmp_path / "p", samples=given
    )
    assert [o.datatype for o in package.manifest.signature.outputs] == [Datatype.BF16]
    np.testing.assert_array_equal(package.golden().outputs["y"], narrow(package.golden().inputs["x"]))
    runtime = load_runtime(package.dir, package.manifest, RuntimeOptions(device="cpu", prefer=("onnx",), lanes=1))
    assert prove(runtime, package, 4).golden_rows == 6
    np.testing.assert_array_equal(runtime.run([given], (0,))[0], narrow(given))
    runtime.close()


def test_a_runtime_without_the_kernel_names_provider_and_operator(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"datatype": Datatype.BF16, "shape": (-1, 16)}
    signature = Signature(inputs=(InputSpec(name="x", **spec),), outputs=(OutputSpec(name="y", **spec),))
    made = p.package_model(tmp_path, onnx_model("Sin", TensorProto.BFLOAT16), signature, name="sin", version="1")
    with pytest.raises(LoadFailed, match="CPUExecutionProvider does not compute Sin"):
        load_runtime(made.dir, made.manifest, RuntimeOptions(device="cpu", prefer=("onnx",), lanes=1))


def test_what_onnx_runtime_says_of_a_missing_kernel_is_understood() -> None:
    said = {
        "Could not find an implementation for Sub(14) node with name 'n'": "Sub",
        "Type 'tensor(bfloat16)' of input parameter (x) of operator (Conv) in node (n) is invalid.": "Conv",
        "Type parameter (T) of Optype (Conv) bound to different types (tensor(bfloat16) and tensor(float)": "Conv",
        "Protobuf parsing failed.": None,
    }
    assert {text: missing_kernel(RuntimeError(text)) for text in said} == said


def onnx_model(operator: str, given: int = TensorProto.FLOAT, **attributes: Any) -> Any:
    """x (batch, 16) → y (batch, 16) BF16 by one operator."""
    x = helper.make_tensor_value_info("x", given, ["batch", 16])
    y = helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["batch", 16])
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def test_a_torchscript_file_with_bf16_tensors_is_brought_in(tmp_path: Path) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net().bfloat16()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)["logits"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Plain().eval(), torch.from_numpy(rows(3)).bfloat16())
        torch.jit.freeze(traced.eval()).save(str(tmp_path / "m.pt"))
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.BF16, shape=(-1, 16)),),
        outputs=(OutputSpec(name="y", datatype=Datatype.BF16, shape=(-1, 4)),),
    )
    for way, samples in {"real": torch.from_numpy(rows(9)).bfloat16(), "made up": None}.items():
        more = {"name": "m", "version": "1", "task": TASK, "signature": signature, "samples": samples}
        package = import_torchscript(tmp_path / "m.pt", out_dir=tmp_path / way, **more)
        assert package.manifest.signature.outputs[0].role is OutputRole.LOGITS
        assert package.manifest.golden_tolerance == BF16_TOLERANCE


def test_parity_compares_the_numbers() -> None:
    near = narrow(np.float32([[1.0, -0.0, 3.0]])), narrow(np.float32([[1.0078125, 0.0, 3.015625]]))
    assert compare("r", "y", 1, *near, BF16_TOLERANCE, Datatype.BF16).passed
    assert not compare("r", "y", 1, *near, BF16_TOLERANCE, Datatype.UINT16).passed, "bits of -0 and 0 are far apart"
    far = compare("r", "y", 1, narrow(np.float32([1.0])), narrow(np.float32([-1.0])), BF16_TOLERANCE, Datatype.BF16)
    assert (far.passed, far.got, far.expected) == (False, "1.0", "-1.0")


@pytest.mark.parametrize(("second", "agreement"), [(2.0, 1.0), (1.9921875, 1.0), (1.5, 0.0)])
def test_a_class_that_is_as_good_as_the_best_is_the_same_decision(second: float, agreement: float) -> None:
    spec = OutputSpec(name="y", datatype=Datatype.BF16, shape=(-1, 2), role=OutputRole.LOGITS)
    signature = Signature(inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1)),), outputs=(spec,))

    def answering(*scores: float) -> Any:
        return lambda arrays: {"y": narrow(np.tile(np.float32([scores]), (len(arrays["x"]), 1)))}

    report = run_parity(
        answering(2.0, second),
        {"turned": answering(second, 2.015625)},
        {"x": np.zeros((4, 1), np.float32)},
        signature=signature,
        tolerance=BF16_TOLERANCE,
    )
    assert report.metrics[0].agreement == agreement
    assert report.passed is (agreement == 1.0)


def test_numbers_leaves_every_other_datatype_alone() -> None:
    for datatype in Datatype:
        array = p.random_tensor(datatype, (2, 2))
        assert (numbers(datatype, array) is array) is (datatype is not Datatype.BF16)
