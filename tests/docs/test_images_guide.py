"""The guide about images, run from top to bottom: declare, import, serve, ask with curl and with tritonclient."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.cli import main
from export.images import decoded_rows, encoded_rows
from export.package import read_package
from export.registry import Registry
from tests.support import images as im
from tests.support.server import Server, standalone
from tests.support.source_tree import ROOT

GUIDE = ROOT / "docs/guides/images.md"
CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guide's reader works: photos, and a package made by the first block."""
    here = tmp_path_factory.mktemp("guide")
    (here / "photos").mkdir()
    for i in range(6):
        data = im.encode(im.picture(300 + 20 * i, 260, seed=i), ("JPEG", "PNG", "WEBP")[i % 3])
        (here / "photos" / f"{i}.img").write_bytes(data)
    (here / "cat.jpg").write_bytes(im.encode(im.picture(320, 280, seed=7), "JPEG", orientation=6))
    (here / "puma.png").write_bytes(im.encode(im.picture(90, 400, seed=8)))
    run(sys.executable, "-W", "ignore", "-c", blocks("python")[0], folder=here)
    return here


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    registry = Registry(folder / "registry")
    registry.add(folder / "packages/cats-1")
    registry.promote("cats", "1", author="guide", reason="first")
    with standalone(folder / "server", registry.root) as found:
        yield found


def here(block: str, server: Server) -> str:
    return block.replace("127.0.0.1:8000", server.netloc).replace("127.0.0.1:9000", server.grpc_netloc)


def truth(folder: Path, *names: str) -> np.ndarray:
    """The logits of files, by the package's own golden path: decoded here, run by ONNX Runtime."""
    import onnxruntime

    package = read_package(folder / "packages/cats-1")
    (spec,) = package.manifest.signature.inputs
    assert spec.preprocess is not None
    tensor = decoded_rows(encoded_rows([folder / name for name in names]), spec.preprocess, "image")
    session = onnxruntime.InferenceSession(str(package.dir / "model.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": tensor})
    return np.asarray(logits)


def test_the_declaration_in_yaml_is_that_in_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "preprocess.yaml").write_text(blocks("yaml")[0])
    shutil.copyfile(folder / "packages/cats-1/model.onnx", folder / "cats.onnx")
    (block,) = [b for b in blocks("sh") if "hardcase import" in b]
    arguments = block.split()
    assert main(arguments[1:]) == 0, capsys.readouterr().err
    one, two = (read_package(folder / f"packages/cats-{version}").manifest for version in (1, 2))
    assert one.signature.inputs == two.signature.inputs
    assert one.task == two.task


def test_the_pipeline_of_training_is_compared(folder: Path) -> None:
    block = blocks("python")[1]
    assert "PipelineGap(mean=" in run(sys.executable, "-c", block, folder=folder)
    wrong = block.replace("[0.485, 0.456, 0.406]", "[0.406, 0.456, 0.485]")
    done = subprocess.run([sys.executable, "-c", wrong], cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode != 0, "the control: a wrong mean is found"


def test_curl_sends_the_file_itself(folder: Path, server: Server) -> None:
    (block,) = [b for b in blocks("sh") if "answer.bin" in b]
    run("bash", "-euc", here(block, server), folder=folder)
    logits = np.frombuffer((folder / "answer.bin").read_bytes()[-12:], "<f4")
    np.testing.assert_allclose(logits, truth(folder, "cat.jpg")[0], rtol=1e-4, atol=1e-5)


def test_curl_sends_base64_and_gets_named_probabilities(folder: Path, server: Server) -> None:
    (block,) = [b for b in blocks("sh") if "base64" in b]
    answer = json.loads(run("bash", "-euc", here(block, server), folder=folder))
    scores = truth(folder, "cat.jpg")[0].astype(np.float64)
    p = np.exp(scores) / np.exp(scores).sum()
    first = answer["outputs"][0]["data"][0].split(":")
    assert (int(first[1]), first[2]) == (p.argmax(), ("lynx", "puma", "tabby")[p.argmax()])
    assert float(first[0]) == pytest.approx(p.max(), abs=1e-4)
    assert len(answer["outputs"][0]["data"]) == 2


def test_both_clients_send_files(folder: Path, server: Server) -> None:
    over_http, over_grpc = blocks("python")[2:]
    show = "\nprint('LOGITS', logits.tolist())\n"
    for block, names in ((over_http, ("cat.jpg", "puma.png")), (over_grpc, ("cat.jpg",))):
        said = run(sys.executable, "-W", "ignore", "-c", here(block, server) + show, folder=folder)
        logits = json.loads(said.split("LOGITS ")[1])
        np.testing.assert_allclose(logits, truth(folder, *names), rtol=1e-4, atol=1e-5)


def test_what_is_no_image_is_refused_with_its_place(folder: Path, server: Server) -> None:
    for name, data in {"truncated": (folder / "cat.jpg").read_bytes()[:-50], "bomb": im.png_of(60_000, 60_000)}.items():
        response = server.client.post(
            "/v2/models/cats/infer", content=data, headers={"Inference-Header-Content-Length": "0"}
        )
        assert response.status_code == 400, name
        assert response.json()["error"].startswith("inputs[0] 'image'[0]: the ")
