"""The doctor's judgements on facts, and that it finds the facts: sockets of real processes, a driver's real format."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from deploy.doctor_data import Check, Verdict
from deploy.doctor_facts import ask_driver, collect, limit_checks
from deploy.doctor_sockets import Listening, Purpose, purpose_of, socket_checks, sockets_of
from deploy.doctor_versions import Facts, Gpu, version_checks
from tests.support.hardcase_process import Running

CARD = Gpu(name="NVIDIA H100", memory_mib=81_559)
GOOD = Facts(
    packages={"torch": "2.13.0+cu130", "onnxruntime-gpu": "1.31.1", "ray": "2.60.0", "uvicorn": "0.51.0"},
    sqlite="3.51.3",
    torch_cuda="13.0",
    torch_sees_gpu=True,
    onnx_cuda="13.0",
    onnx_providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
    gpus=(CARD,),
    driver="580.95",
    driver_cuda="13.0",
)


def bad(facts: Facts) -> list[Check]:
    return [c for c in version_checks(facts) if c.verdict in (Verdict.WARN, Verdict.FAIL)]


def test_a_machine_on_which_everything_fits_has_nothing_to_do():
    assert bad(GOOD) == []
    assert "NVIDIA H100 (80 GiB); driver 580.95" in next(version_checks(GOOD)).detail
    assert bad(dataclasses.replace(GOOD, gpus=(), torch_cuda=None, torch_sees_gpu=False)) == []


@pytest.mark.parametrize(
    ("change", "name", "verdict", "words"),
    [
        ({"torch_cuda": None}, "torch", "warn", "cannot use the GPU"),
        ({"driver_cuda": "12.4"}, "torch", "fail", "the driver ends at CUDA 12.4"),
        ({"torch_sees_gpu": False}, "torch", "fail", "sees no GPU"),
        ({"onnx_providers": ("CPUExecutionProvider",)}, "onnxruntime", "warn", "cannot use the GPU"),
        ({"onnx_cuda": "12.8"}, "onnxruntime", "warn", "torch for 13.0"),
        ({"onnx_cuda": "14.0", "torch_cuda": "13.0"}, "onnxruntime", "fail", "built for CUDA 14.0"),
        ({"lane_hook": False}, "fast lane", "warn", "slower ASGI way"),
    ],
)
def test_each_trap_is_named_with_what_to_do(change: dict[str, Any], name: str, verdict: str, words: str):
    found = {c.name: c for c in bad(dataclasses.replace(GOOD, **change))}
    assert found[name].verdict == verdict
    assert words in found[name].detail
    assert found[name].advice


@pytest.mark.parametrize(
    ("packages", "name"),
    [
        ({"onnxruntime": "1.31.1"}, "onnxruntime"),
        ({"evidently": "0.7.23", "pandas": "3.1.0"}, "evidently"),
        ({"ray": "2.61.0"}, "ray"),
    ],
)
def test_packages_that_do_not_go_together_are_named(packages: dict[str, str], name: str):
    found = bad(dataclasses.replace(GOOD, packages={**GOOD.packages, **packages}))
    assert [c.name for c in found] == [name]


@pytest.mark.parametrize(
    ("version", "fixed"),
    [("3.40.1", False), ("3.44.6", True), ("3.44.5", False), ("3.50.7", True), ("3.51.2", False), ("3.53.0", True)],
)
def test_sqlite_with_the_wal_reset_bug_is_known(version: str, fixed: bool):
    (found,) = [c for c in version_checks(dataclasses.replace(GOOD, sqlite=version)) if c.name == "sqlite"]
    assert (found.verdict == Verdict.OK) is fixed


def test_the_facts_of_this_machine_can_be_collected_and_judged():
    facts = collect()
    assert facts.packages["torch"]
    assert "CPUExecutionProvider" in facts.onnx_providers
    assert facts.lane_hook
    assert [c for c in version_checks(facts) if c.verdict is Verdict.FAIL] == []


def test_the_driver_is_asked_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Format of nvidia-smi 580: the query's lines, and the header of the page."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1" in --query*) echo "NVIDIA H100 80GB HBM3, 81559, 580.95.05";;\n'
        '*) echo "| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: 13.0  |";; esac\n'
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert ask_driver() == ((Gpu(name="NVIDIA H100 80GB HBM3", memory_mib=81_559),), "580.95.05", "13.0")
    assert ask_driver("no-such-program") == ((), None, None)


def test_limits_are_told_with_their_numbers():
    assert {c.name for c in limit_checks()} >= {"open files", "processes"}


# ---- sockets

RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_SERVE_HAPROXY_STATS_PORT": "8404",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "9101",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "8500",
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": "30000",
    "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": "30999",
    "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": "40000",
    "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": "40999",
}


def listening(port: int, name: str, address: str = "0.0.0.0", **variables: str) -> Listening:
    return Listening(address=address, port=port, pid=7, name=name, environment={**RAY, **variables})


@pytest.mark.parametrize(
    ("found", "text", "asks"),
    [
        (listening(8404, "haproxy"), "HAProxy's statistics page", ""),
        (listening(9101, "haproxy"), "HAProxy's own metrics", ""),
        (listening(30_007, "ray::ServeReplica:hardcase:pool"), "a replica's own HTTP server", "serving.auth.keys"),
        (listening(40_007, "ray::ServeReplica:hardcase:pool"), "a replica's own gRPC server", "serving.auth.keys"),
        (listening(8500, "ray::ProxyActor"), "Ray Serve's own proxy, behind HAProxy", "what the replicas ask for"),
        (listening(6379, "gcs_server"), "control plane of the Ray cluster (gcs_server)", "the cluster's token"),
        (listening(6379, "raylet", RAY_AUTH_MODE="disabled"), "control plane of the Ray cluster (raylet)", ""),
        (listening(33_333, "ray::ServeController"), "calls between Ray's processes (ray::ServeController)",
         "the cluster's token"),
        (listening(8000, "haproxy"), "inference, HTTP", "a key"),
        (listening(4444, "xmrig"), "nothing that we know of (xmrig)", ""),
    ],
)  # fmt: skip
def test_each_socket_has_a_purpose_and_what_it_asks_for(found: Listening, text: str, asks: str):
    assert purpose_of(found, {8000: Purpose(text="inference, HTTP", asks="a key")}) == Purpose(text=text, asks=asks)


def test_beyond_loopback_without_a_credential_is_a_warning_and_loopback_is_fine():
    sockets = [
        listening(8404, "haproxy"),
        listening(8405, "haproxy", "127.0.0.1"),
        listening(8406, "x", "::1"),
        listening(6379, "gcs_server"),
    ]
    verdicts = {c.name: c.verdict for c in socket_checks(sockets, {})}
    assert verdicts == {"socket 8404": "warn", "socket 8405": "ok", "socket 8406": "ok", "socket 6379": "note"}
    (warning,) = [c for c in socket_checks(sockets, {}) if c.verdict is Verdict.WARN]
    assert "reachable from other machines" in warning.detail
    assert "firewall" in warning.advice


def test_real_sockets_are_found_with_address_port_and_process():
    with socket.socket() as one, socket.socket() as other:
        for taken, host in ((one, "127.0.0.1"), (other, "0.0.0.0")):
            taken.bind((host, 0))
            taken.listen()
        found = {(s.address, s.port): s for s in sockets_of({os.getpid(): "me"})}
        mine = found["127.0.0.1", one.getsockname()[1]]
        assert (mine.pid, mine.name, mine.is_loopback) == (os.getpid(), "me", True)
        assert not found["0.0.0.0", other.getsockname()[1]].is_loopback


def test_a_token_is_never_among_what_the_doctor_keeps_of_an_environment():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not [s for s in sockets_of({os.getpid(): "me"}) if any("TOKEN" in k for k in s.environment)]


def test_the_sockets_of_a_run_are_listed_with_their_purposes(running: Running):
    checks = running.place.json("doctor", timeout=120)
    sockets = {c["name"]: c for c in checks if c["name"].startswith("socket ")}
    assert "inference, HTTP" in sockets[f"socket {running.place.serving_port}"]["detail"]
    assert "console and API" in sockets[f"socket {running.place.monitor_port}"]["detail"]
    assert {c["verdict"] for c in sockets.values()} == {"ok"}
    assert json.dumps(sockets).count("nothing that we know of") == 0
