"""A module becomes a package that computes the same, or the export stops and leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from export.admission import admit
from export.contracts.errors import PackageError, ParityFailed
from export.contracts.manifest import RuntimeKind, Task, TaskKind, Tolerance
from export.contracts.signature import InputDisplay, InputKind, OutputRole
from export.from_torch import export_module
from export.torch_runner import torchscript_runner
from tests.support import packages as p

pytestmark = pytest.mark.timeout(300)
OTHER = Task(kind=TaskKind.OTHER)
ONNX_ONLY = (RuntimeKind.ONNX,)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
        )
        self.embed = nn.Linear(256, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = torch.relu(self.embed(self.body(x)))
        return {"logits": self.head(h), "embedding": h}


def rows(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((n, 1, 8, 8), dtype=np.float32)


def export(module: nn.Module, example: Any, out: Path, **more: Any) -> Any:
    arguments: dict[str, Any] = {"name": "m", "version": "1", "task": OTHER, "out_dir": out} | more
    return export_module(module, example, **arguments)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    module = Net().train()
    x = rows(120)
    with torch.no_grad():
        y = Net().eval()(torch.from_numpy(x))["logits"].argmax(dim=1).numpy()
    made = export(
        module,
        x[:1],
        tmp_path_factory.mktemp("export") / "p",
        task=p.DIGITS_TASK,
        displays={"x": InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0))},
        reference_inputs=x,
        reference_labels=y,
    )
    assert module.training, "the caller's module must be left as it was"
    return made


def test_one_call_writes_everything_and_it_is_admitted(package: Any) -> None:
    names = {f.path for f in package.manifest.files}
    assert names == {"model.onnx", "model.pt", "golden.npz", "parity.json", "reference.json", "reference.npz"}
    package.verify()
    admit(package.dir)
    assert package.manifest.provenance.environment["torch"] == torch.__version__
    assert json.loads((package.dir / "parity.json").read_text())["batch_sizes"] == [1, 2, 7, 32]


def test_signature_names_shapes_and_roles_come_from_the_module(package: Any) -> None:
    s = package.manifest.signature
    assert [(i.name, i.shape) for i in s.inputs] == [("x", (-1, 1, 8, 8))]
    assert [(o.name, o.shape, o.role) for o in s.outputs] == [
        ("logits", (-1, 10), OutputRole.LOGITS),
        ("embedding", (-1, 64), OutputRole.EMBEDDING),
    ]


def test_golden_cases_and_reference_come_from_the_eager_module(package: Any) -> None:
    golden, reference = package.golden(), package.reference()
    assert golden.rows == 16
    with torch.no_grad():
        expected = Net().eval()(torch.from_numpy(golden.inputs["x"]))["logits"].numpy()
    np.testing.assert_allclose(golden.outputs["logits"], expected, atol=1e-5)
    assert reference.classes.accuracy == 1.0
    assert reference.embedding is not None


def test_both_files_compute_what_the_module_computes(package: Any) -> None:
    x = rows(5, seed=9)
    with torch.no_grad():
        expected = Net().eval()(torch.from_numpy(x))["logits"].numpy()
    session = onnxruntime.InferenceSession(package.dir / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"x": x})[0], expected, atol=1e-4)
    script = torchscript_runner(package.dir / "model.pt", ["x"], ["logits", "embedding"])
    np.testing.assert_allclose(script({"x": x})["logits"], expected, atol=1e-4)


def test_the_onnx_file_tells_nothing_about_the_machine_that_made_it(package: Any) -> None:
    data = (package.dir / "model.onnx").read_bytes()
    assert b".py" not in data
    assert str(Path(__file__).parent).encode() not in data


def test_reference_labels_that_do_not_fit_stop_the_export(tmp_path: Path) -> None:
    more = {"task": p.DIGITS_TASK, "runtimes": ONNX_ONLY, "reference_inputs": rows(20)}
    with pytest.raises(PackageError, match="19 labels for 20 rows"):
        export(Net(), rows(2), tmp_path / "p", reference_labels=[0] * 19, **more)
    with pytest.raises(PackageError, match="without reference_inputs"):
        export(Net(), rows(2), tmp_path / "p", reference_labels=[0], runtimes=ONNX_ONLY)
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    """Tracing freezes the branch that the example took."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 1000.0):
            return x * 2
        return x - 1


def test_a_trace_that_lost_a_branch_stops_the_export_with_the_numbers(tmp_path: Path) -> None:
    big = np.full((40, 3), 1000.0, dtype=np.float32)
    with pytest.raises(ParityFailed, match="runtime 'torchscript', output 'output'") as caught:
        export(
            Branching(),
            np.zeros((2, 3), np.float32),
            tmp_path / "p",
            runtimes=(RuntimeKind.TORCHSCRIPT,),
            reference_inputs=big,
        )
    assert "100.0% of 120 elements" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_scripting_keeps_the_branch(tmp_path: Path) -> None:
    big = np.full((40, 3), 1000.0, dtype=np.float32)
    made = export(
        Branching(),
        np.zeros((2, 3), np.float32),
        tmp_path / "p",
        runtimes=(RuntimeKind.TORCHSCRIPT,),
        reference_inputs=big,
        script=True,
    )
    assert made.golden().outputs["output"].tolist() == [[2000.0] * 3] * 16


class BatchStatistics(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(dim=0, keepdim=True)


def test_a_module_whose_rows_influence_each_other_stops_the_export(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((8, 3), dtype=np.float32)
    with pytest.raises(ParityFailed, match="rows influence each other"):
        export(BatchStatistics(), x, tmp_path / "p", runtimes=ONNX_ONLY)


class TwoInputs(nn.Module):
    def forward(self, tokens: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (tokens.float() * weights).sum(dim=1), tokens + 1


def test_several_inputs_and_variable_axes_are_exported(tmp_path: Path) -> None:
    example = (np.array([[1, 2, 3]]), np.array([[0.5, 1.0, 2.0]], dtype=np.float32))
    made = export(
        TwoInputs(),
        example,
        tmp_path / "p",
        dynamic_axes={"tokens": [1], "weights": [1]},
        output_names=["score", "next"],
        output_roles={"score": OutputRole.VALUE},
    )
    s = made.manifest.signature
    assert [(i.name, i.shape) for i in s.inputs] == [("tokens", (-1, -1)), ("weights", (-1, -1))]
    assert [(o.name, o.shape, o.role) for o in s.outputs] == [
        ("score", (-1,), OutputRole.VALUE),
        ("next", (-1, -1), OutputRole.OTHER),
    ]
    session = onnxruntime.InferenceSession(made.dir / "model.onnx", providers=["CPUExecutionProvider"])
    tokens, weights = np.arange(10).reshape(2, 5), np.ones((2, 5), dtype=np.float32)
    assert session.run(None, {"tokens": tokens, "weights": weights})[0].tolist() == [10.0, 35.0]


class Wrong(nn.Module):
    def __init__(self, answer: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "more", "text"),
    [
        (lambda x: "text", {}, "returns a str"),
        (lambda x: x.sum(), {}, "batch as its first axis"),
        (lambda x: x.T, {}, "batch as its first axis"),
        (lambda x: x @ x, {}, "does not run"),
        (lambda x: x, {"output_names": ["a", "b"]}, "2 names for 1 outputs"),
        (lambda x: x, {"output_roles": {"z": OutputRole.LOGITS}}, "no output 'z'"),
        (lambda x: x, {"displays": {"z": InputDisplay()}}, "no input 'z'"),
        (lambda x: x, {"dynamic_axes": {"x": [9]}}, "no axis 9"),
        (lambda x: x, {"dynamic_axes": {"z": [1]}}, "no input 'z'"),
        (lambda x: x, {"name": "../m"}, "name '../m'"),
        (lambda x: x, {"runtimes": ()}, "at least one"),
        (lambda x: x, {"reference_inputs": np.zeros((0, 3), np.float32)}, "no rows"),
        (lambda x: x.to(torch.complex64), {}, "complex64"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_reason_and_leaves_nothing(
    answer: Any, more: dict[str, Any], text: str, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).random((2, 3), dtype=np.float32)
    with pytest.raises(PackageError, match=text):
        export(Wrong(answer), x, tmp_path / "p", **{"runtimes": ONNX_ONLY, **more})
    assert list(tmp_path.iterdir()) == []


class Sensitive(nn.Module):
    """Sums in an order that no two libraries share."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w", torch.from_numpy(np.random.default_rng(1).normal(size=(1000, 30)).astype(np.float32)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(x @ self.w).exp().sum(dim=1, keepdim=True).log()


def test_a_tolerance_that_nothing_can_meet_stops_the_export_and_the_default_does_not(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 1000)).astype(np.float32)
    exact = Tolerance(absolute=0, relative=0)
    with pytest.raises(ParityFailed, match=r"out of \|a-b\| <= 0"):
        export(Sensitive(), x, tmp_path / "p", runtimes=ONNX_ONLY, tolerance=exact)
    made = export(Sensitive(), x, tmp_path / "p", runtimes=ONNX_ONLY)
    assert onnx.load(made.dir / "model.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param
