"""Files that somebody else made become packages, or are refused with a reason that helps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.admission import admit
from export.contracts.datatypes import Datatype
from export.contracts.errors import AdmissionRefused, PackageError, ParityFailed
from export.contracts.manifest import SampleSource, Task, TaskKind
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.from_onnx import describe_onnx, import_onnx, import_torchscript
from tests.support import packages as p

OTHER = Task(kind=TaskKind.OTHER)
X = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def bring(path: Path, out: Path, **more: Any) -> Any:
    arguments: dict[str, Any] = {"name": "m", "version": "1", "task": OTHER, "out_dir": out} | more
    return import_onnx(path, **arguments)


def test_an_onnx_file_with_samples_gets_golden_cases_parity_and_a_reference(tmp_path: Path) -> None:
    path = saved(tmp_path, p.digits_like_model(4))
    made = bring(path, tmp_path / "p", task=p.DIGITS_TASK, reference_inputs=X, reference_labels=np.arange(40) % 10)
    assert made.golden().rows == 16
    assert made.reference().rows == 40
    assert made.manifest.parity == "parity.json"
    assert [o.role for o in made.manifest.signature.outputs] == [OutputRole.LOGITS, OutputRole.EMBEDDING]
    assert made.manifest.provenance.source == "onnx:theirs.onnx"
    admit(made.dir)


def test_an_onnx_file_without_samples_gets_golden_cases_of_made_up_rows_and_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path, p.digits_like_model())
    display = InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(10.0, 20.0))
    made = bring(path, tmp_path / "p", displays={"x": display})
    rows = made.golden().inputs["x"]
    assert rows.shape == (16, 1, 8, 8)
    assert 10 <= rows.min() < 11
    assert 19 < rows.max() <= 20
    assert made.manifest.provenance.samples is SampleSource.MADE_UP
    assert json.loads((made.dir / "parity.json").read_text())["trusted"] == "the imported file on made-up rows"
    admit(made.dir)
    real = bring(path, tmp_path / "q", samples=X)
    assert real.manifest.provenance.samples is SampleSource.REAL


def test_made_up_rows_show_rows_that_influence_each_other(tmp_path: Path) -> None:
    model = p.digits_like_model()
    model.graph.node[3].output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis0"))
    model.graph.node.append(helper.make_node("ReduceMean", ["raw", "axis0"], ["mean"], keepdims=1))
    model.graph.node.append(helper.make_node("Sub", ["raw", "mean"], ["logits"]))
    with pytest.raises(ParityFailed, match="on made-up rows"):
        bring(saved(tmp_path, model), tmp_path / "p")


def test_variable_dimensions_are_made_up_too_and_a_model_that_refuses_them_has_no_golden_cases(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    varlen = p.variable_length_package(tmp_path).dir / "model.onnx"
    made = bring(varlen, tmp_path / "p")
    assert made.golden().inputs["x"].shape == (16, 8)
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, -1)),),
        outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 5)),),
    )
    five = p.make_model(signature, [helper.make_node("Add", ["x", "five"], ["y"])], {"five": np.ones(5, np.float32)})
    refused = bring(saved(tmp_path, five), tmp_path / "q")
    assert refused.golden() is None
    assert refused.manifest.provenance.samples is None
    assert "give real ones" in caplog.text


def test_an_onnx_file_may_be_tried_only(tmp_path: Path) -> None:
    made = bring(saved(tmp_path, p.digits_like_model()), tmp_path / "p", made_up=False)
    assert made.golden() is None
    assert made.manifest.provenance.samples is None
    assert made.manifest.parity is None
    assert {o.role for o in made.manifest.signature.outputs} == {OutputRole.OTHER, OutputRole.EMBEDDING}


def test_class_names_are_counted_out_when_a_role_says_there_are_classes(tmp_path: Path) -> None:
    made = bring(
        saved(tmp_path, p.digits_like_model()),
        tmp_path / "p",
        task=Task(kind=TaskKind.CLASSIFICATION),
        output_roles={"logits": OutputRole.LOGITS},
    )
    assert made.manifest.task.class_names == tuple("0123456789")


def test_external_data_comes_along_and_is_admitted(tmp_path: Path) -> None:
    model = p.digits_like_model()
    (tmp_path / "src").mkdir()
    path = tmp_path / "src" / "big.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="big.data", size_threshold=0)
    made = bring(path, tmp_path / "p", samples=X)
    assert {f.path for f in made.manifest.files} >= {"model.onnx", "big.data"}
    admit(made.dir)
    (tmp_path / "src" / "big.data").unlink()
    with pytest.raises(PackageError, match="not beside the file"):
        bring(path, tmp_path / "q")


def test_a_fixed_batch_dimension_is_stated_and_the_model_is_not_batched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    package = p.unbatched_package(tmp_path)
    made = bring(package.dir / "model.onnx", tmp_path / "p", samples=np.ones(3, np.float32))
    assert not made.manifest.signature.batched
    assert "first dimension is fixed" in caplog.text
    assert made.golden().outputs["y"].tolist() == [2, 2, 2]


def test_a_file_whose_rows_influence_each_other_is_refused(tmp_path: Path) -> None:
    signature = p.DIGITS_SIGNATURE
    model = p.digits_like_model()
    model.graph.node[3].output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis0"))
    model.graph.node.append(helper.make_node("ReduceMean", ["raw", "axis0"], ["mean"], keepdims=1))
    model.graph.node.append(helper.make_node("Sub", ["raw", "mean"], ["logits"]))
    assert signature.batched
    with pytest.raises(ParityFailed, match="rows influence each other"):
        bring(saved(tmp_path, model), tmp_path / "p", samples=X)
    assert not (tmp_path / "p").exists()


def test_files_that_cannot_be_served_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(PackageError, match="not a readable ONNX file"):
        describe_onnx(tmp_path / "bad.onnx")
    (tmp_path / "x.onnx").write_bytes(b"x\n")  # parses as an empty message
    with pytest.raises(PackageError, match=r"'x\.onnx' is not an ONNX file"):
        describe_onnx(tmp_path / "x.onnx")
    model = p.digits_like_model()
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    model.graph.output.append(helper.make_value_info("z", helper.make_sequence_type_proto(element)))
    with pytest.raises(PackageError, match="zipmap=False"):
        describe_onnx(saved(tmp_path, model))


def test_an_evil_file_is_refused_before_it_runs(tmp_path: Path) -> None:
    model = p.digits_like_model()
    model.graph.node.append(helper.make_node("Run", ["x"], ["z"], domain="evil"))
    model.opset_import.append(helper.make_opsetid("evil", 1))
    with pytest.raises(AdmissionRefused, match="evil::Run"):
        bring(saved(tmp_path, model), tmp_path / "p")


def test_samples_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path, p.digits_like_model())
    for samples, text in (
        (X.astype(np.float64), "input 'x' is float64"),
        (X[:, :, :4], "input 'x' is float32"),
        ({"y": X}, "expected the inputs x"),
        (X[:0], "no rows"),
    ):
        with pytest.raises(PackageError, match=text):
            bring(path, tmp_path / "p", samples=samples)


def test_a_torchscript_file_is_brought_in_with_its_signature(tmp_path: Path) -> None:
    source = p.torchscript_package(tmp_path, with_onnx=False).dir / "model.pt"
    made = import_torchscript(
        source,
        name="m",
        version="1",
        task=p.DIGITS_TASK,
        out_dir=tmp_path / "p",
        signature=p.DIGITS_SIGNATURE,
        samples=X,
    )
    assert made.golden().outputs["logits"].shape == (16, 10)
    admit(made.dir)
    wrong = p.regression_package(tmp_path).manifest.signature
    with pytest.raises(PackageError, match=r"does not run|2 outputs|signature"):
        import_torchscript(source, name="m", version="1", task=OTHER, out_dir=tmp_path / "q", signature=wrong)


def test_contracts_import_no_framework_and_importing_them_is_fast() -> None:
    code = (
        "import sys, export.contracts.reference, export.contracts.scores, export.contracts.descriptors,"
        "export.contracts.manifest, export.contracts.traffic, export.package, export.registry, export.admission;"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'sklearn', 'scipy', 'datasketches') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
