"""A real server under traffic: bad versions, promotions and rollbacks cost no request."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from export.registry import Registry
from serving.options import RuntimeOptions, ServingOptions
from tests.support import packages as p
from tests.support.server import Server, standalone
from tests.support.traffic import digits, driving

OPTIONS = ServingOptions(registry="", records="", plan_poll_s=0.1, runtime=RuntimeOptions(device="cpu"))


def damaged(registry: Registry, folder: Path, version: str, change: Callable[[bytes], bytes]) -> None:
    """Registered whole, and damaged on the disk afterwards."""
    registry.add(p.digits_like_package(folder, version=version, seed=3).dir)
    file = registry.package("digits", version).dir / "model.onnx"
    file.chmod(0o644)
    file.write_bytes(change(file.read_bytes()))


def corrupt_file(registry: Registry, folder: Path, version: str) -> None:
    damaged(registry, folder, version, lambda data: data[: len(data) // 2])


def wrong_digest(registry: Registry, folder: Path, version: str) -> None:
    damaged(registry, folder, version, lambda data: data[:-1] + bytes([data[-1] ^ 1]))


def wrong_signature(registry: Registry, folder: Path, version: str) -> None:
    """The manifest says 11 classes."""
    first, second = p.DIGITS_SIGNATURE.outputs
    signature = replace(p.DIGITS_SIGNATURE, outputs=(replace(first, shape=(-1, 11)), second))
    package = p.package_model(folder, p.digits_like_model(3), signature, name="digits", version=version)
    registry.add(package.dir)


def nan_on_the_golden_cases(registry: Registry, folder: Path, version: str) -> None:
    registry.add(p.nan_package(folder, version=version).dir)


BAD = {
    corrupt_file: "bytes, the manifest says",
    wrong_digest: "digest",
    wrong_signature: "signature: output 'logits'",
    nan_on_the_golden_cases: "not finite in 40 of 40",
}


def promote_by_hand(registry: Registry, version: str) -> None:
    """As somebody who edits the plan, past every gate."""
    plan = registry.plan("digits")
    assert plan is not None
    registry.set_plan(replace(plan, champion=version, author="by hand"), expected_revision=plan.revision)


def wait_for(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def index(server: Server) -> dict[str, dict[str, Any]]:
    return {line["version"]: line for line in server.post("/v2/repository/index").json()}


@pytest.mark.fault
@pytest.mark.parametrize("lane", ["fast", "asgi"])
def test_bad_versions_promoted_by_hand_are_refused_while_the_champion_answers_every_request(
    tmp_path: Path, lane: str
) -> None:
    registry = Registry(tmp_path / "registry")
    registry.add(p.digits_like_package(tmp_path).dir)
    registry.promote("digits", "1", author="test")
    with standalone(tmp_path / "server", registry.root, lane=lane, options=OPTIONS) as server:
        with driving(server.port, "digits", digits(), pause_s=0.002) as traffic:
            for make, reason in BAD.items():
                version = make.__name__
                make(registry, tmp_path, version)
                traffic.mark(version)
                promote_by_hand(registry, version)
                wait_for(lambda v=version: index(server).get(v, {}).get("state") == "UNAVAILABLE")  # type: ignore[misc]
                assert time.monotonic() - traffic.marks[version] < 60
                line = index(server)[version]
                assert reason in line["reason"]
                assert str(tmp_path) not in line["reason"]
                metrics = server.client.get("/metrics").text
                assert 'hardcase_champion_behind{model="digits"} 1.0' in metrics
                assert (
                    f'hardcase_version_state{{model="digits",state="UNAVAILABLE",version="{version}"}} 1.0' in metrics
                )
                assert server.client.get("/v2/health/ready").status_code == 200
                traffic.wait_for(50)
        assert traffic.failed() == []
        assert set(traffic.versions()) == {"1"}
        assert all(len(traffic.after(make.__name__)) >= 50 for make in BAD)


@pytest.mark.fault
def test_promotions_and_rollbacks_in_a_row_lose_no_request_and_each_flip_is_final(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    for version in ("1", "2", "3"):
        registry.add(p.digits_like_package(tmp_path, version=version, seed=int(version)).dir)
    registry.promote("digits", "1", author="test")
    flips = ["2", "1", "3", "2", "3", "1"]
    with standalone(tmp_path / "server", registry.root, options=OPTIONS) as server:
        with driving(server.port, "digits", digits(), threads=1) as traffic:
            for version in flips:
                registry.promote("digits", version, author="test")
                wait_for(lambda v=version: traffic.sent[-1].version == v)  # type: ignore[misc]
                traffic.wait_for(20)
        assert traffic.failed() == []
        order = [version for version, _ in itertools.groupby(s.version for s in traffic.sent)]
        assert order == ["1", *flips]
        # each version computes with weights of its own: the flips were real
        x = np.ones((1, 1, 8, 8), np.float32)
        tensor = [replace(digits()[0], array=x, datatype=Datatype.FP32)]
        answers = {}
        for version in ("1", "2"):
            registry.promote("digits", version, author="test")
            wait_for(lambda v=version: server.infer("digits", tensor).version == v)  # type: ignore[misc]
            answers[version] = server.infer("digits", tensor)["logits"]
        assert not np.allclose(answers["1"], answers["2"])
