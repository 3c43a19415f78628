"""`--preprocess`: what the file may say, what is answered to what it may not, and the commands that take it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from deploy.cli import main
from deploy.errors import UsageError
from deploy.preprocess_file import SCHEMA_FILE, json_schema, read_preprocess
from export.contracts import codec
from export.contracts.preprocess import Interpolation, Resize
from export.images import IMAGENET_MEAN, IMAGENET_STD
from export.package import read_package
from tests.support import images as im
from tests.support.packages import digits_like_model
from tests.support.source_tree import ROOT

GOOD = """
image:
  size: [224, 160]
  values: imagenet
  resize: shorter_side
  shorter_side: 256
  interpolation: bicubic
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "preprocess.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    from_yaml = read_preprocess(written(tmp_path, GOOD))
    from_json = read_preprocess(written(tmp_path, json.dumps({"$schema": "x", **yaml.safe_load(GOOD)})))
    assert from_yaml == from_json
    decode = from_yaml["image"]
    assert (decode.size, decode.resize, decode.interpolation) == (
        (224, 160),
        Resize.SHORTER_SIDE,
        Interpolation.BICUBIC,
    )
    assert (decode.mean, decode.std, decode.scale) == (IMAGENET_MEAN, IMAGENET_STD, pytest.approx(1 / 255))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must map"),
        ("[1]", "must map"),
        ("image: 5", "image: expected fields"),
        ("image: {1: 2}", "image: expected fields"),
        ("image: {}", "image: 'size' is missing"),
        ("image: {size: 5, colours: RGB}", "image: unknown field 'colours'"),
        ("image: {size: 5, colour: RBG}", "colour: 'RBG' is not one of RGB, BGR, GREY"),
        ("image: {size: five}", "size: expected a list"),
        ("image: {size: [5]}", "size: expected a list of 2"),
        ("image: {size: 5, pad: 1000}", "0..255"),
        ("image: {size: 5, values: big}", "'big' is not one of raw, unit"),
        ("image: [", "neither YAML nor JSON, line 1"),
        (b"\xff\xfe\x00\x00", "neither YAML nor JSON"),
        ("image: !!python/object/apply:os.system [id]", "neither YAML nor JSON"),
        (" " * (1 << 21), "larger than"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_preprocess(written(tmp_path, text))
    assert said in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_preprocess(tmp_path / "none.yaml")


def test_the_schema_is_current_and_agrees_with_the_reader(tmp_path: Path) -> None:
    assert json.loads((ROOT / SCHEMA_FILE).read_text()) == json_schema(), "run: python -m deploy.preprocess_file"
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    assert validator.is_valid(yaml.safe_load(GOOD))
    whole = {"image": codec.to_plain(read_preprocess(written(tmp_path, GOOD))["image"])}
    assert validator.is_valid(whole), "the manifest's own form is valid, too"
    assert read_preprocess(written(tmp_path, json.dumps(whole))) == read_preprocess(written(tmp_path, GOOD))
    for wrong in ("image: {}", "image: {size: 5, colours: RGB}", "image: {size: 5, colour: RBG}", "image: {size: [5]}"):
        assert not validator.is_valid(yaml.safe_load(wrong))
    fields = json_schema()["additionalProperties"]["properties"]
    assert all(len(field["description"]) > 8 for field in fields.values())


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(digits_like_model().SerializeToString())
    (tmp_path / "p.yaml").write_text("x: {size: 8, colour: GREY}\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(5):
        (photos / f"{i}.png").write_bytes(im.encode(im.picture(seed=i)))

    def run(*arguments: str) -> int:
        return main([*arguments])

    return run


def test_a_model_is_imported_with_images(call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["import", "model.onnx", "--name", "photos", "--version", "1", "--role", "logits=logits"]
    assert call(*arguments, "--preprocess", "p.yaml", "--images", "photos", "--register", "--json") == 0
    capsys.readouterr()
    assert call("registry", "show", "photos", "1", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["golden"] == "yes"
    assert made["inputs"] == ["x  BYTES  [-1, 1]  image, JPEG, PNG or WebP → FP32 [-1, 1, 8, 8]"]
    package = read_package(Path("packages/photos-1"))
    golden = package.golden()
    assert golden is not None
    assert golden.rows == 5


def test_options_that_do_not_fit_together_are_refused(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["import", "model.onnx", "--name", "photos", "--version", "1"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.yaml").write_text("y: {size: 8, colour: GREY}\n")
    (tmp_path / "colour.yaml").write_text("x: {size: 8}\n")
    (tmp_path / "photos" / "9.txt").write_text("no image")
    for more, code, said in [
        (["--images", "photos"], 2, "declare it with --preprocess"),
        (["--preprocess", "p.yaml", "--images", "empty"], 2, "holds no files"),
        (["--preprocess", "p.yaml", "--images", "p.yaml"], 2, "is no folder"),
        (["--preprocess", "other.yaml"], 4, "there is no input 'y'"),
        (["--preprocess", "colour.yaml"], 4, "the declaration makes FP32 [3, 8, 8]"),
        (["--preprocess", "p.yaml", "--images", "photos"], 4, "input 'x'[5]: not a JPEG, PNG or WebP image"),
    ]:
        assert call(*arguments, *more) == code, more
        assert said in " ".join(capsys.readouterr().err.split()), more


def test_an_export_may_take_its_preprocessing_from_a_file(call: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        """
from pathlib import Path
import torch
from export.contracts.manifest import Task, TaskKind

class Net(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(1, 2, 3))[:, None].repeat(1, 2)

def package():
    return {"module": Net(), "example_inputs": sorted(Path("photos").iterdir()), "name": "net", "version": "1",
            "task": Task(kind=TaskKind.OTHER)}
"""
    )
    assert call("export", "train.py:package", "--preprocess", "p.yaml") == 0
    (spec,) = read_package(Path("packages/net-1")).manifest.signature.inputs
    assert spec.preprocess is not None
    assert spec.preprocess.tensor_shape == (1, 8, 8)
