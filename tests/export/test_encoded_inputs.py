"""Encoded images as declared input: declarations, both exports and the import, golden cases, parity, admission."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from export.admission import admit
from export.contracts import codec, descriptors
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.manifest import Task, TaskKind
from export.contracts.preprocess import Colour, ImageDecode, PixelLayout, Resize
from export.contracts.signature import InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.from_onnx import import_onnx, import_torchscript
from export.from_torch import export_module
from export.images import IMAGENET_MEAN, decoded_rows, encoded_rows, image_input
from export.package import read_package
from export.preprocess import Encoding, compare_pipeline
from tests.support import images as im
from tests.support import packages as p

TASK = Task(kind=TaskKind.CLASSIFICATION, class_names=("dark", "light"))
DECODE = image_input(12, values="imagenet", resize="shorter_side", shorter_side=14)
FILES = [im.encode(im.picture(20 + i, 30, seed=i), ("PNG", "JPEG", "WEBP")[i % 3]) for i in range(24)]
LABELS = [i % 2 for i in range(24)]


class Network(torch.nn.Module):
    """A convolution, so that a wrong layout would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.relu(self.conv(image)).mean(dim=(2, 3))
        return {"logits": self.head(features), "embedding": features}


def exported(folder: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "name": "net",
        "version": "1",
        "task": TASK,
        "out_dir": folder / "net",
        "preprocess": {"image": DECODE},
        "reference_inputs": FILES,
        "reference_labels": LABELS,
    }
    return export_module(Network(), FILES[:3], **(given | changes))


# ---- declarations


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": (0, 5)}, "size"),
        ({"size": (5, 9000)}, "size"),
        ({"layout": "HW"}, "colour is RGB"),
        ({"shorter_side": 300}, "shorter_side means nothing"),
        ({"resize": "shorter_side", "shorter_side": 100}, "224..8192"),
        ({"resize": "fit"}, "stretch, shorter_side, letterbox"),
        ({"mean": (0.5,)}, "1 values for 3 channels"),
        ({"colour": "GREY", "std": (0.5, 0.5, 0.5)}, "3 values for 1 channels"),
        ({"std": (0.5, 0.0, 0.5)}, "not 0"),
        ({"scale": float("inf")}, "finite"),
        ({"datatype": "FP64"}, "FP32, FP16 or UINT8"),
        ({"datatype": "UINT8"}, "leave scale"),
        ({"pad": 256}, "0..255"),
        ({"background": (0, 0, -1)}, "0..255"),
        ({"background": (0, 0)}, "a list of 3"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"jpeg_gap": 0.5}, "jpeg_gap"),
        ({"schema_version": 2}, "this release knows 1"),
        ({"colours": "RGB"}, "unknown field 'colours'"),
    ],
)
def test_a_declaration_that_cannot_be_carried_out_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        image_input(**({"size": 224} | fields))


def test_the_values_of_a_model_have_names() -> None:
    white = im.encode(np.full((4, 4, 3), 255, np.uint8))

    def value(values: str, **fields: Any) -> list[float]:
        made = decoded_rows(encoded_rows([white]), image_input(2, values=values, **fields), "x")
        return [round(float(v), 4) for v in made[0, ..., 0, 0].ravel()]

    assert value("raw") == [255] * 3
    assert value("unit") == [1] * 3
    assert value("signed") == [1] * 3
    assert value("imagenet") == [2.2489, 2.4286, 2.64]
    assert value("imagenet", colour="BGR") == [2.64, 2.4286, 2.2489]
    assert value("unit", colour="GREY") == [1]
    assert image_input(3, values="imagenet", colour="BGR").mean == IMAGENET_MEAN[::-1]
    for wrong in ({"values": "zscore"}, {"values": "imagenet", "colour": "GREY"}):
        with pytest.raises(PackageError, match="values"):
            image_input(3, **wrong)


def test_a_declaration_survives_json_and_a_manifest_without_one_does_not_mention_it() -> None:
    assert codec.loads(ImageDecode, codec.dumps(DECODE)) == DECODE
    plain = codec.to_plain(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 2)))
    assert "preprocess" not in plain, "older releases read it"
    assert codec.from_plain(InputSpec, plain).preprocess is None


@pytest.mark.parametrize(
    ("datatype", "shape", "batched"),
    [(Datatype.FP32, (-1, 1), True), (Datatype.BYTES, (-1, 2), True), (Datatype.BYTES, (-1,), True),
     (Datatype.BYTES, (-1, 1), False), (Datatype.BYTES, (2,), False)],
)  # fmt: skip
def test_encoded_images_travel_as_one_element_a_row(datatype: Datatype, shape: Any, batched: bool) -> None:
    lead = (-1,) if batched else (1,)
    with pytest.raises(ValueError, match="encoded images are BYTES"):
        Signature(
            inputs=(InputSpec(name="x", datatype=datatype, shape=shape, preprocess=DECODE),),
            outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(*lead, 2)),),
            batched=batched,
        )


@pytest.mark.parametrize(
    ("shape", "batched", "wire"),
    [((-1, 3, 12, 12), True, (-1, 1)), ((-1, -1, -1, -1), True, (-1, 1)), ((3, 12, 12), False, (1,)),
     ((1, 3, 12, 12), False, (1, 1))],
)  # fmt: skip
def test_the_wire_and_the_model_say_different_things_of_one_input(shape: Any, batched: bool, wire: Any) -> None:
    output = OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 2) if batched else (2,))
    model = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=shape),), outputs=(output,), batched=batched
    )
    encoding = Encoding(model, {"x": DECODE})
    (seen,) = encoding.wire.inputs
    assert (seen.datatype, seen.shape, seen.display.kind) == (Datatype.BYTES, wire, InputKind.IMAGE)
    assert encoding.model.inputs[0].shape == (*wire[:-1], 3, 12, 12)
    assert encoding.model.inputs[0].datatype is Datatype.FP32
    assert encoding.wire.preprocesses
    assert not model.preprocesses
    assert model.model is model


@pytest.mark.parametrize(
    ("decode", "said"),
    [(replace(DECODE, size=(12, 13), shorter_side=20), "makes FP32"), (replace(DECODE, layout=PixelLayout.HWC), "FP32"),
     (replace(DECODE, datatype=Datatype.FP16), "makes FP16")],
)  # fmt: skip
def test_a_declaration_must_make_the_tensor_that_the_model_takes(decode: ImageDecode, said: str) -> None:
    spec = InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 3, 12, 12))
    model = Signature(inputs=(spec,), outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 2)),))
    with pytest.raises(PackageError, match=said):
        Encoding(model, {"x": decode})
    with pytest.raises(PackageError, match="there is no input 'y'"):
        Encoding(model, {"y": decode})


# ---- packages


def test_a_module_is_exported_with_its_preprocessing(tmp_path: Path) -> None:
    package = exported(tmp_path)
    (spec,) = package.manifest.signature.inputs
    assert (spec.datatype, spec.shape, spec.preprocess) == (Datatype.BYTES, (-1, 1), DECODE)
    golden = package.golden()
    files = golden.inputs["image"]
    assert files.shape == (16, 1)
    assert all(data in FILES for data in files[:, 0])
    np.testing.assert_array_equal(golden.tensors["image"], decoded_rows(files, DECODE, "image"))
    with torch.inference_mode():
        truth = Network().eval()(torch.from_numpy(golden.tensors["image"]))["logits"].numpy()
    np.testing.assert_allclose(golden.outputs["logits"], truth, rtol=1e-4, atol=1e-5)
    assert package.manifest.parity is not None
    assert admit(package.dir).digest == package.digest
    assert read_package(package.dir).manifest == package.manifest


def test_the_reference_sees_what_images_look_like(tmp_path: Path) -> None:
    package = exported(tmp_path)
    reference = package.reference()
    columns = descriptors.columns(package.manifest.signature)
    assert reference.columns == columns
    assert columns == tuple(
        f"image:{d}" for d in ("mean", "std", "min", "max", "saturated", "sharpness", "pixels", "aspect", "length")
    )
    frame = dict(zip(columns, reference.frame.T, strict=True))
    assert sorted(frame["image:pixels"]) == sorted(float((20 + i) * 30) for i in range(24))
    assert sorted(frame["image:length"]) == sorted(float(len(f)) for f in FILES)
    assert ((frame["image:mean"] > 0.1) & (frame["image:mean"] < 0.9)).all()
    assert reference.classes is not None


def test_descriptors_follow_the_look_and_not_the_file() -> None:
    pixels = im.picture(50, 70)
    spec = InputSpec(name="x", datatype=Datatype.BYTES, shape=(-1, 1), preprocess=DECODE)
    rows = encoded_rows(
        [im.encode(pixels), im.encode(pixels, "WEBP", orientation=6), im.encode(pixels // 2), b"broken"]
    )
    upright, turned, dark, broken = descriptors.describe(rows, spec, with_features=False)
    names = [d.value for d in descriptors.descriptors_of(spec, with_features=False)]
    assert names[-1] == "length"
    np.testing.assert_allclose(upright[:-1], turned[:-1], rtol=1e-6)
    values = dict(zip(names, upright, strict=True))
    assert values["mean"] == pytest.approx(pixels.mean() / 255, abs=1e-5)
    assert values["std"] == pytest.approx(pixels.std() / 255, abs=1e-5)
    assert (values["pixels"], values["aspect"]) == (3500, pytest.approx(1.4))
    assert dark[0] == pytest.approx(upright[0] / 2, abs=0.01)
    assert np.isnan(broken[:-1]).all()
    assert broken[-1] == 6


def test_images_may_be_given_as_paths(tmp_path: Path) -> None:
    paths = []
    for i, data in enumerate(FILES):
        paths.append(tmp_path / f"{i}.img")
        paths[-1].write_bytes(data)
    one = exported(tmp_path, reference_inputs=paths, out_dir=tmp_path / "one")
    two = exported(tmp_path, reference_inputs={"image": np.array(FILES, dtype=object)}, out_dir=tmp_path / "two")
    np.testing.assert_array_equal(one.golden().outputs["logits"], two.golden().outputs["logits"])
    for wrong, said in (([tmp_path / "none.jpg"], "image 0 cannot be read"), ([1], "image 0 is int")):
        with pytest.raises(PackageError, match=said):
            exported(tmp_path, reference_inputs=wrong, reference_labels=None, out_dir=tmp_path / "x")


def test_an_image_that_is_refused_stops_the_export_and_names_its_row(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"input 'image'\[2\]: not a JPEG, PNG or WebP image"):
        exported(tmp_path, reference_inputs=[*FILES[:2], b"GIF89a"], reference_labels=None)
    assert not (tmp_path / "net").exists()


def theirs(folder: Path, shape: list[Any]) -> Path:
    nodes = [helper.make_node("ReduceMean", ["image"], ["y"], keepdims=0, axes=[2, 3])]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [shape[0], 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = folder / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("samples", [FILES[:5], None])
@pytest.mark.parametrize("shape", [["n", 3, 12, 12], ["n", 3, "h", "w"], [1, 3, 12, 12]])
def test_an_onnx_file_is_imported_with_declared_preprocessing(tmp_path: Path, shape: list[Any], samples: Any) -> None:
    unbatched = shape[0] == 1
    given = (
        None
        if samples is None
        else {"image": np.array(samples[:1], dtype=object).reshape(1, 1)}
        if unbatched
        else samples
    )
    package = import_onnx(
        theirs(tmp_path, shape),
        name="m",
        version="1",
        task=Task(kind=TaskKind.OTHER),
        out_dir=tmp_path / "p",
        preprocess={"image": DECODE},
        samples=given,
    )
    (spec,) = package.manifest.signature.inputs
    assert spec.shape == ((1, 1) if unbatched else (-1, 1))
    assert spec.behind().shape == ((1 if unbatched else -1), 3, 12, 12)
    golden = package.golden()
    assert package.manifest.provenance.samples == ("made_up" if samples is None else "real")
    means = golden.tensors["image"].mean(axis=(2, 3))
    np.testing.assert_allclose(golden.outputs["y"], means, rtol=1e-4, atol=1e-5)
    admit(package.dir)


def test_a_torchscript_file_is_imported_with_declared_preprocessing(tmp_path: Path) -> None:
    class Head(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.mean(dim=(2, 3))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(Head(), torch.zeros(2, 3, 12, 12)).save(str(tmp_path / "head.pt"))
    signature = Signature(
        inputs=(InputSpec(name="image", datatype=Datatype.FP32, shape=(-1, 3, 12, 12)),),
        outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 3), role=OutputRole.OTHER),),
    )
    package = import_torchscript(
        tmp_path / "head.pt",
        name="m",
        version="1",
        task=Task(kind=TaskKind.OTHER),
        out_dir=tmp_path / "p",
        signature=signature,
        preprocess={"image": replace(DECODE, resize=Resize.LETTERBOX, shorter_side=0, colour=Colour.BGR)},
        samples={"image": FILES[:6]},
    )
    golden = package.golden()
    assert golden.rows == 6
    np.testing.assert_allclose(golden.outputs["y"], golden.tensors["image"].mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)
    admit(package.dir)


def test_every_support_package_of_images_is_admitted(tmp_path: Path) -> None:
    for name, changes in {"a": {}, "b": {"batched": False}, "c": {"extra": True}}.items():
        package = im.image_package(tmp_path, name=name, **changes)
        package.verify()
        admit(package.dir)
    assert p.echo_package(tmp_path).manifest.signature.preprocesses is False


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_another_pipeline_is_compared_in_levels(layout: str) -> None:
    decode = image_input(12, values="imagenet", layout=layout)
    tensors = decoded_rows(encoded_rows(FILES[:4]), decode, "x")
    same = compare_pipeline(FILES[:4], tensors, decode)
    assert (same.mean, same.worst_image, same.p99) == (0, 0, 0)
    axis = 1 if layout == "CHW" else 3
    shift = np.array([decode.scale / s for s in decode.std]).reshape([-1 if i == axis else 1 for i in range(4)])
    moved = tensors.astype(np.float64)
    moved[2:3] += (3 * shift)[0]
    gap = compare_pipeline(FILES[:4], moved, decode)
    assert gap.mean == pytest.approx(0.75, abs=1e-3)
    assert (gap.worst_row, gap.worst_image, gap.p99) == (2, pytest.approx(3, abs=1e-3), pytest.approx(3, abs=1e-3))
    with pytest.raises(PackageError, match="the tensors have the shape"):
        compare_pipeline(FILES[:4], tensors[:3], decode)
