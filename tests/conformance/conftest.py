"""One registry with every kind of model, and the transports that must all answer alike."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from export.contracts.bf16 import widen
from export.contracts.datatypes import Datatype
from export.package import Package
from export.registry import Registry
from export.torch_runner import torchscript_runner
from serving.options import BatchOptions, Limits, ServingOptions
from tests.support import packages
from tests.support.images import image_package
from tests.support.ray_cluster import RayServing, ray_serving
from tests.support.server import CANARY, Server, standalone

# Short, so that the tests of slow clients are quick; small, so that the tests of large bodies are.
LIMITS = Limits(body_bytes=8 << 20, receive_s=1.2, idle_s=2.5, rows=512, timeout_s=20.0)

LANES = [pytest.param("fast", id="fast lane"), pytest.param("asgi", id="ASGI lane")]


@dataclass(frozen=True)
class Models:
    """The registry under test, and ONNX Runtime on the same files."""

    root: Path
    packages: dict[tuple[str, str], Package]
    sessions: dict[tuple[str, str], onnxruntime.InferenceSession]

    def bf16(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """FP32 logits of `bf16script` for rows of `ml_dtypes.bfloat16`, when nothing is in between."""
        path = self.packages["bf16script", "1"].dir / "model.pt"
        run = torchscript_runner(path, ["x"], ["logits"], ["x"])
        return widen(run({"x": x.view(np.uint16)})["logits"])

    def run(self, model: str, inputs: dict[str, Any], version: str = "1") -> dict[str, np.ndarray[Any, Any]]:
        """What the model computes when nothing is in between."""
        key = (model, version)
        if key not in self.sessions:
            path = str(self.packages[key].dir / self.packages[key].manifest.runtimes[0].path)
            self.sessions[key] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        session = self.sessions[key]
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("packages")
    numeric = [d for d in Datatype if d is not Datatype.BF16]
    built = [
        packages.digits_like_package(folder, max_batch_rows=64),
        packages.digits_like_package(folder, version="2", seed=7),
        packages.echo_package(folder),
        packages.multi_input_package(folder),
        packages.all_dtypes_package(folder, datatypes=numeric),
        packages.all_dtypes_package(folder, name="bf16", datatypes=[Datatype.BF16]),
        packages.bf16_script_package(folder),
        packages.variable_length_package(folder),
        packages.unbatched_package(folder),
        packages.probabilities_package(folder),
        packages.slow_package(folder, width=1024, layers=40),
        packages.torchscript_package(folder, name="script", version="1", with_onnx=False),
        image_package(folder),
    ]
    registry = Registry(tmp_path_factory.mktemp("registry"))
    for package in built:
        registry.add(package.dir)
    for name in sorted({p.manifest.name for p in built}):
        registry.promote(name, "1", author="tests", reason="conformance")
    return Models(root=registry.root, packages={(p.manifest.name, p.manifest.version): p for p in built}, sessions={})


TRANSPORTS = ("fast", "asgi", "replica", "haproxy")
_NAMES = {"fast": "fast lane", "asgi": "ASGI lane", "replica": "Ray replica", "haproxy": "HAProxy"}
OPTIONS = ServingOptions(registry="", records="", limits=LIMITS, batch=BatchOptions(queue_rows=256))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that takes `server` runs over every transport, or over the `TRANSPORTS` that its module names."""
    if "server" in metafunc.fixturenames:
        wanted = getattr(metafunc.module, "TRANSPORTS", TRANSPORTS)
        marks = {"replica": [pytest.mark.ray], "haproxy": [pytest.mark.ray]}
        parameters = [pytest.param(t, id=_NAMES[t], marks=marks.get(t, ())) for t in wanted]
        metafunc.parametrize("server", parameters, indirect=True, scope="session")


@pytest.fixture(scope="session")
def ray(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServing]:
    """One replica in a Ray Serve of its own, behind its HAProxy."""
    with ray_serving(tmp_path_factory.mktemp("ray"), models.root, replicas=1, options=OPTIONS) as running:
        yield running


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on each transport, with every model of the registry."""
    transport: str = request.param
    if transport in ("fast", "asgi"):
        with standalone(tmp_path_factory.mktemp(transport), models.root, lane=transport, options=OPTIONS) as running:
            yield running
        return
    cluster: RayServing = request.getfixturevalue("ray")
    port = cluster.port if transport == "haproxy" else cluster.replica_ports()[0]
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Accept-Encoding": "identity"}, timeout=30
    ) as client:
        wait_until_ready(client)
        yield Server(port=port, lane="fast", client=client, records=cluster.records, grpc_port=cluster.grpc_port)


def wait_until_ready(client: httpx.Client, seconds: float = 90) -> None:
    """Ray Serve is up before the models are loaded."""
    deadline = time.monotonic() + seconds
    while client.get("/v2/health/ready").status_code != 200:
        assert time.monotonic() < deadline, client.post("/v2/repository/index").text
        time.sleep(0.2)


def leaks(body: bytes) -> bool:
    """S01: whether an error body tells about paths, code, memory, hosts or the environment of the server."""
    return _LEAKS.search(body) is not None


_LEAKS = re.compile(
    rb"Traceback|File \"|/site-packages|/tmp/|/home/|/root/|\.py\b|object at 0x|0x[0-9a-f]{8}|localhost|127\.0\.0\.1|"
    + re.escape(CANARY["HARDCASE_TEST_CANARY"].encode())
)


@pytest.fixture(autouse=True)
def no_error_tells_about_the_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """S01: every error body that any test of this folder receives is searched for what must not leak."""
    received = httpx.Client.send

    def scan(self: httpx.Client, *args: Any, **kwargs: Any) -> httpx.Response:
        response = received(self, *args, **kwargs)
        if response.status_code >= 400:
            assert not leaks(response.content), response.content
        return response

    monkeypatch.setattr(httpx.Client, "send", scan)


@pytest.fixture
def rng() -> np.random.Generator:
    """Payloads are random, so that a re-ordering shows; the seed is fixed, so that a failure comes back."""
    return np.random.default_rng(20260101)
