"""What we rely on in Ray Serve, each fact by itself: when a new release changes one, this says which."""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from export.registry import Registry
from monitoring.records.reader import RecordLogReader
from serving.grpc.messages import messages
from serving.ray_environment import RayPorts, ray_environment
from tests.support import wire
from tests.support.ray_cluster import RayServing
from tests.support.traffic import digits, driving

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def wait_for(holds: Callable[[], bool], timeout_s: float = 60) -> float:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < timeout_s, "it never came true"
        time.sleep(0.05)
    return time.monotonic() - started


def infer(port: int, model: str = "digits") -> wire.Answer:
    headers, body = wire.request(digits())
    response = httpx.post(f"http://127.0.0.1:{port}/v2/models/{model}/infer", content=body, headers=headers, timeout=30)
    assert response.status_code == 200, response.text
    return wire.answer(response.headers, response.content)


def metric(port: int, line: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    (found,) = re.findall(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return float(found)


def test_every_variable_that_we_set_is_one_that_ray_reads(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("ray")  # found, not imported: the import warns, and reads the environment
    assert spec is not None
    assert spec.origin is not None
    files = (Path(spec.origin).parent / "serve" / "_private").glob("*.py")
    source = "\n".join(path.read_text() for path in files)
    access = Path(spec.origin).with_name("exceptions.py").read_text()  # what reads the token is not Python
    names = ray_environment(Path("/tmp/x"), ports=RayPorts(), token_file=tmp_path, haproxy=tmp_path)
    for name in names:
        if name.startswith("RAY_AUTH_"):
            assert name in access, name
        elif name != "RAY_USAGE_STATS_ENABLED":
            assert f'"{name}"' in source, name
    assert "RAY_SERVE_NO_SUCH_VARIABLE" not in source


def test_a_folder_whose_sockets_would_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="too long a path, by 23 bytes"):
        ray_environment(Path("/tmp/" + "x" * 55))
    ray_environment(Path("/tmp/" + "x" * 32))


def test_the_replicas_servers_use_our_protocol_class(cluster: RayServing) -> None:
    for port in cluster.replica_ports():
        assert metric(port, 'hardcase_lane{lane="fast"}') == 1
        before = metric(port, "hardcase_connections")
        with socket.create_connection(("127.0.0.1", port)):
            # only our class counts connections
            wait_for(lambda p=port, b=before: metric(p, "hardcase_connections") > b)  # type: ignore[misc]


def test_grpc_in_a_replica_is_our_server_and_not_the_fallback(cluster: RayServing) -> None:
    """Both would answer alike: what says which one does is set when it starts. The fallback knows no reflection."""
    for port in cluster.replica_ports():
        wait_for(lambda p=port: metric(p, 'hardcase_grpc_lane{lane="fast"}') == 1)  # type: ignore[misc]
        assert metric(port, 'hardcase_grpc_lane{lane="grpcio"}') == 0
    with grpc.insecure_channel(f"127.0.0.1:{cluster.grpc_port}") as channel:
        ask = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        question = messages().ServerReflectionRequest(list_services="").SerializeToString()
        (answer,) = ask(iter([question]), timeout=20)
    told = messages().ServerReflectionResponse.FromString(answer)
    assert "inference.GRPCInferenceService" in {s.name for s in told.list_services_response.service}


def test_requests_are_answered_through_haproxy_and_by_each_replica_directly(cluster: RayServing) -> None:
    for port in (cluster.port, *cluster.replica_ports()):
        answer = infer(port)
        assert answer["logits"].shape == (1, 10)
        assert httpx.get(f"http://127.0.0.1:{port}/v2").json()["name"] == "hardcase"
        assert httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").json() == {"ready": True}


def test_the_haproxy_that_runs_has_been_amended(cluster: RayServing) -> None:
    """Were Ray to write it in another way, the keeper would leave it as it is, and requests would be lost."""
    (config,) = {
        Path(line[line.index("-f") + 1]) for process in cluster.named("haproxy") if "-f" in (line := process.cmdline())
    }
    text = config.read_text()
    assert text.count("http-request wait-for-body") == 2
    assert text.count("http-error status") == 4
    assert "errorfile" not in text


def test_haproxy_spreads_connections_over_the_replicas(cluster: RayServing) -> None:
    line = 'hardcase_requests_total{model="digits",outcome="ok",variant="champion",version="1"}'
    for _ in range(20):
        infer(cluster.port)
    assert all(metric(port, line) > 0 for port in cluster.replica_ports())


def test_what_nobody_knows_is_answered_in_the_protocols_words_not_rays(cluster: RayServing) -> None:
    for port in (cluster.port, *cluster.replica_ports()):
        for path in ("/nothing", "/v2x", "/v2/models/none/infer"):
            response = httpx.post(f"http://127.0.0.1:{port}{path}", content=b"{}")
            assert response.status_code == 404
            assert list(response.json()) == ["error"]


def test_replicas_listen_on_loopback_only(cluster: RayServing) -> None:
    """Ray's own ports are wide open; the ones that answer requests without a credential must not be."""
    ports = {cluster.port, *cluster.replica_ports()}
    addresses = {
        c.laddr.ip
        for process in cluster.processes()
        for c in process.net_connections("tcp")
        if c.status == "LISTEN" and c.laddr.port in ports
    }
    assert addresses == {"127.0.0.1"}


def test_a_promotion_reaches_every_replica_without_a_restart(cluster: RayServing, registry: Registry) -> None:
    before = sorted(cluster.replica_pids())
    assert len(before) == 2
    try:
        with driving(cluster.port, "digits", digits(), keep_alive=False) as traffic:
            for version in ("2", "1", "2"):
                registry.promote("digits", version, author="test")
                wait_for(lambda v=version: all(infer(p).version == v for p in cluster.replica_ports()))  # type: ignore[misc]
        assert traffic.failed() == []
        assert set(traffic.versions()) == {"1", "2"}
        assert sorted(cluster.replica_pids()) == before
    finally:
        registry.promote("digits", "1", author="test")


@pytest.mark.fault
def test_a_killed_replica_costs_no_request_and_its_log_accounts_for_all_of_them(cluster: RayServing) -> None:
    wait_for(lambda: len(cluster.replica_pids()) == 2)
    victim = cluster.replica_pids()[0]
    sources = set(RecordLogReader(cluster.records).sources())
    with (
        driving(cluster.port, "digits", digits(), threads=4) as kept,
        driving(cluster.port, "digits", digits(), threads=2, keep_alive=False) as fresh,
    ):
        kept.wait_for(100)
        kept.mark("killed")
        psutil.Process(victim).send_signal(signal.SIGKILL)
        kept.wait_for(200)
        fresh.wait_for(100)
        # full strength again: a new process listens, and HAProxy asks it
        wait_for(lambda: len(pids := cluster.replica_pids()) == 2 and victim not in pids, 90)
    assert [*kept.failed(), *fresh.failed()] == []
    assert not psutil.pid_exists(victim) or psutil.Process(victim).status() == psutil.STATUS_ZOMBIE  # it really died
    reader = RecordLogReader(cluster.records)
    dead = [s for s in sources if not reader.is_alive(s)]
    assert len(dead) == 1
    account = reader.finalise(dead[0])
    total = [a for (model, _), a in account.slots.items() if model == "digits"]
    assert total
    for slot in total:
        assert slot.in_flight == 0
        assert slot.requests > 0
        assert slot.requests == slot.captured + slot.sampled_out + sum(slot.dropped.values()) + slot.lost_crash
