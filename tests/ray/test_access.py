"""Who reaches the control plane of the cluster that we start."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.ray_cluster import RayServing

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

# In a process of its own: the test's own must not read Ray's environment.
CONNECT = """
import ray, sys
try:
    ray.init(address=sys.argv[1], log_to_driver=False)
    print("in", len(ray.nodes()))
except Exception as error:
    print("refused", type(error).__name__)
"""


def connect(address: str, code: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | variables
    done = subprocess.run(
        [sys.executable, "-c", code, address], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    return done.stdout.strip() or done.stderr[-300:]


def test_the_control_plane_asks_for_the_token_and_the_data_plane_does_not(cluster: RayServing, tmp_path: Path) -> None:
    (raylet,) = cluster.named("raylet")
    (address,) = (word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--gcs-address="))
    token, wrong = cluster.folder / "token", tmp_path / "wrong"
    assert token.stat().st_mode & 0o777 == 0o600
    wrong.write_text("0" * 64)
    with_token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    ways = (with_token, {**with_token, "RAY_AUTH_TOKEN_PATH": str(wrong)}, {"RAY_AUTH_MODE": "disabled"})
    with ThreadPoolExecutor() as side_by_side:  # a refusal takes Ray a dozen seconds
        right, bad, none = side_by_side.map(lambda way: connect(address, CONNECT, **way), ways)
    assert right == "in 1", "the control: with the token it can be reached"
    assert bad.startswith("refused")
    assert none.startswith("refused")
    assert httpx.get(f"http://127.0.0.1:{cluster.port}/v2").status_code == 200


def test_the_token_is_in_no_command_line(cluster: RayServing) -> None:
    token = (cluster.folder / "token").read_text()
    assert len(token) == 64
    assert not [p.pid for p in cluster.processes() if token in " ".join(p.cmdline())]
