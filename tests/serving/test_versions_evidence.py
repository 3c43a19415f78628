"""F07: versions that load and pass their golden cases, and are bad on live traffic: a real server, real packages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from export.contracts.datatypes import Datatype
from export.contracts.traffic import ChallengerMode
from export.package import Package
from export.registry import Registry
from serving.options import RuntimeOptions, ServingOptions
from tests.support import packages as p
from tests.support.server import Server, infer_path, standalone
from tests.support.wire import Tensor, answer, request

OPTIONS = ServingOptions(registry="", records="", plan_poll_s=0.1, runtime=RuntimeOptions(device="cpu"))


def live(value: float = -1.0) -> list[Tensor]:
    """What clients send: images darker than any golden case."""
    x = np.full((1, 1, 8, 8), value, np.float32) + np.random.default_rng().random((1, 1, 8, 8), dtype=np.float32) * 0.1
    return [Tensor(name="x", datatype=Datatype.FP32, array=x)]


def made(folder: Path, version: str, nodes: list[Any], weights: dict[str, Any]) -> Package:
    model = p.make_model(p.DIGITS_SIGNATURE, nodes, weights)
    x = np.random.default_rng(1).random((4, 1, 8, 8), dtype=np.float32)
    golden = p.golden_from_onnx(model, {"x": x}, p.DIGITS_SIGNATURE)
    return p.package_model(
        folder, model, p.DIGITS_SIGNATURE, name="digits", version=version, task=p.DIGITS_TASK, golden=golden
    )


def nan_on_dark_images(folder: Path) -> Package:
    """The square root of its inputs: finite on the golden cases, NaN below zero."""
    w = {"w": np.random.default_rng(2).random((64, 10), dtype=np.float32)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Sqrt", ["flat"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "w"], ["logits"]),
    ]
    return made(folder, "nan", nodes, w)


def constant_on_dark_images(folder: Path) -> Package:
    """A ReLU kills everything below zero: always class 3 then."""
    bias = np.zeros(10, np.float32)
    bias[3] = 1.0
    w = {"w": np.random.default_rng(2).random((64, 10), dtype=np.float32), "b": bias}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Relu", ["flat"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w", "b"], ["logits"]),
    ]
    return made(folder, "constant", nodes, w)


def raises_on_dark_images(folder: Path) -> Package:
    """Gathers at an index that comes from the brightness: out of range on dark images."""
    rng = np.random.default_rng(2)
    w = {
        "w": rng.random((64, 10), dtype=np.float32),
        "table": rng.random((100, 10), dtype=np.float32),
        "hundred": np.array(1000, np.float32),
        "axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["embedding"], axis=1),
        helper.make_node("MatMul", ["embedding", "w"], ["raw"]),
        helper.make_node("ReduceMin", ["embedding", "axis"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "hundred"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["index"], to=7),
        helper.make_node("Gather", ["table", "index"], ["row"], axis=0),
        helper.make_node("Add", ["raw", "row"], ["logits"]),
    ]
    return made(folder, "raises", nodes, w)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    registry.add(p.digits_like_package(tmp_path).dir)
    registry.promote("digits", "1", author="test")
    return registry


def challenger(server: Server) -> dict[str, Any]:
    (model,) = server.get("/v2/repository/traffic")["models"]
    found: dict[str, Any] = model["challenger"] or {}
    return found


def until(holds: Callable[[], Any], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def send(server: Server, count: int, **headers: str) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Versions and logits; every request must succeed."""
    seen = []
    for i in range(count):
        fields, body = request(live(), id=f"{headers}{i}")
        response = server.client.post(infer_path("digits"), content=body, headers={**fields, **headers})
        assert response.status_code == 200, response.text
        got = answer(response.headers, response.content)
        seen.append((got.version, got["logits"]))
    return seen


@pytest.mark.fault
@pytest.mark.parametrize("make", [nan_on_dark_images, raises_on_dark_images])
def test_a_canary_that_fails_on_live_traffic_is_taken_out_before_one_client_saw_it(
    registry: Registry, tmp_path: Path, make: Callable[[Path], Package]
) -> None:
    package = make(tmp_path)
    version = package.manifest.version
    registry.add(package.dir)
    with standalone(tmp_path / "server", registry.root, options=OPTIONS) as server:
        registry.challenge("digits", version, ChallengerMode.CANARY, 5.0, author="test")
        until(lambda: challenger(server).get("on_duty"))
        sent = send(server, 400)
        until(lambda: challenger(server)["tripped"], 1)
        state = challenger(server)
        assert {v for v, _ in sent} == {"1"}, "the champion answered whatever the challenger failed on"
        assert all(np.isfinite(logits).all() for _, logits in sent)
        assert 4 <= state["failures"] == sum(state["fallbacks"].values()) <= 8
        assert state["requests"] <= 0.02 * len(sent) + 4
        metrics = server.client.get("/metrics").text
        assert f'hardcase_challenger_tripped{{model="digits",version="{version}"}} 1.0' in metrics
        assert f'hardcase_challenger_on_duty{{mode="canary",model="digits",version="{version}"}} 0.0' in metrics
        # positive control: who asks for the version by name gets what it really answers
        fields, body = request(live())
        pinned = server.client.post(infer_path("digits", version), content=body, headers=fields)
        assert pinned.status_code == 500 or np.isnan(answer(pinned.headers, pinned.content)["logits"]).all()


@pytest.mark.fault
def test_a_constant_version_is_visible_in_the_shadow_before_it_answers_anybody(
    registry: Registry, tmp_path: Path
) -> None:
    package = constant_on_dark_images(tmp_path)
    registry.add(package.dir)
    with standalone(tmp_path / "server", registry.root, options=OPTIONS) as server:
        registry.challenge("digits", "constant", ChallengerMode.SHADOW, author="test")
        until(lambda: challenger(server).get("on_duty"))
        sent = send(server, 60)
        until(
            lambda: (
                challenger(server)["shadow"].get("compared", 0)
                + sum(n for k, n in challenger(server)["shadow"].items() if k != "compared")
                == 60
            )
        )
        state = challenger(server)
        assert {v for v, _ in sent} == {"1"}
        expected = sum(int(logits.argmax()) != 3 for _, logits in sent)
        assert state["shadow"]["compared"] == state["rows"] == 60
        assert state["different_rows"].get("argmax", 0) == expected
        assert state["max_abs_difference"] > 0
        text = server.client.get("/metrics").text
        assert 'hardcase_shadow_requests_total{model="digits",result="compared",version="constant"} 60.0' in text
        assert f'difference="argmax",model="digits",version="constant"}} {float(expected)}' in text


@pytest.mark.fault
def test_a_version_that_is_nan_on_its_golden_cases_never_gets_a_request(registry: Registry, tmp_path: Path) -> None:
    registry.add(p.nan_package(tmp_path).dir)
    with standalone(tmp_path / "server", registry.root, options=OPTIONS) as server:
        registry.challenge("digits", "nan", ChallengerMode.CANARY, 100.0, author="test")
        index = lambda: {  # noqa: E731 # asked again and again
            s["version"]: s["state"] for s in server.post("/v2/repository/index").json()
        }
        until(lambda: index().get("nan") == "UNAVAILABLE")
        assert {v for v, _ in send(server, 20)} == {"1"}
        assert challenger(server)["requests"] == 0


def test_a_canary_answers_grpc_clients_by_their_metadata_and_spares_them_its_failures(
    registry: Registry, tmp_path: Path
) -> None:
    import tritonclient.grpc as triton

    registry.add(nan_on_dark_images(tmp_path).dir)
    with (
        standalone(tmp_path / "server", registry.root, options=OPTIONS) as server,
        triton.InferenceServerClient(server.grpc_netloc) as client,
    ):
        registry.challenge("digits", "nan", ChallengerMode.CANARY, 50.0, author="test")
        until(lambda: challenger(server).get("on_duty"))

        def ask(tensor: Tensor, session: str) -> tuple[str, np.ndarray[Any, Any]]:
            wanted = triton.InferInput("x", list(tensor.array.shape), "FP32")
            wanted.set_data_from_numpy(tensor.array)
            answered = client.infer("digits", [wanted], headers={"hardcase-session": session})
            return answered.get_response().model_version, answered.as_numpy("logits")

        sessions = [f"client-{i}" for i in range(20)]
        (bright,) = live(0.5)
        first = {s: ask(bright, s)[0] for s in sessions}
        assert set(first.values()) == {"1", "nan"}
        assert {s: ask(bright, s)[0] for s in sessions} == first, "each client stays where it is"
        (dark,) = live()
        spared = [ask(dark, s) for s in sessions]
        assert {version for version, _ in spared} == {"1"}
        assert all(np.isfinite(logits).all() for _, logits in spared)
        assert challenger(server)["fallbacks"]["non_finite"] >= 4
