"""Replicas that come and go while requests are answered: new settings, more load, less load."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from export.contracts import codec
from export.registry import Registry
from tests.ray.conftest import OPTIONS
from tests.support import packages as p
from tests.support import ray_faults as faults
from tests.support import wire
from tests.support.ray_cluster import RayServing
from tests.support.traffic import digits, driving

# Slow: it follows the autoscaler's own clock, and on an idle machine the load of one step ends before the next begins.
pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]


LOST_AT = 255  # rows of a batch at which the device double breaks for good; the largest batch has 256


def lose_a_device(cluster: RayServing) -> None:
    """A sticky device error costs its own batch and the replica, which says so itself; nobody else notices."""
    before = set(cluster.replica_pids())
    port = next(at for at in cluster.replica_ports() if is_answered(at, *wire.request(digits())))
    headers, body = wire.request(digits(rows=LOST_AT))
    with faults.clients(cluster) as traffic:
        traffic[0].wait_for(50)
        faults.wait_until(lambda: not is_answered(port, headers, body), 20)  # others' rows may join it in a batch
        gone_s = faults.wait_until(lambda: len(set(cluster.replica_pids()) & before) == len(before) - 1)
        faults.wait_until(lambda: faults.in_rotation(cluster) == 2)
    assert gone_s < 5
    assert [s for t in traffic for s in t.failed()] == []


def the_models_own_pool_answers(cluster: RayServing) -> None:
    """Requests reach the pool that has the model; each pool knows its own models and no others."""
    faults.wait_until(lambda: faults.in_rotation(cluster, "http-hardcase-heavy") == 1)

    def index(port: int) -> set[str]:
        listed = httpx.post(f"http://127.0.0.1:{port}/v2/repository/index", json={}).json()
        return {line["name"] for line in listed}

    def answered(port: int, model: str) -> int:
        return httpx.get(f"http://127.0.0.1:{port}/v2/models/{model}/ready").status_code

    hosted = {port: index(port) for port in cluster.replica_ports()}
    assert sorted(map(sorted, hosted.values())) == [["digits", "echo"], ["digits", "echo"], ["heavy"]]
    (own,) = (port for port, models in hosted.items() if models == {"heavy"})
    assert [answered(own, m) for m in ("heavy", "digits")] == [200, 404]
    assert [answered(cluster.port, m) for m in ("heavy", "digits")] == [200, 200], "HAProxy knows who has which"
    assert index(cluster.port) == {"digits", "echo"}, "the front's index is the default pool's"
    headers, body = wire.request(digits())
    done = httpx.post(f"http://127.0.0.1:{cluster.port}/v2/models/heavy/infer", content=body, headers=headers)
    assert done.status_code == 200, done.text
    metrics = httpx.get(f"http://127.0.0.1:{own}/metrics").text
    assert 'hardcase_requests_total{model="heavy",outcome="ok",variant="champion",version="1"} 1' in metrics
    assert httpx.get(f"http://127.0.0.1:{own}/-/healthz").status_code == 200
    assert httpx.get(f"http://127.0.0.1:{own}/nothing").json().keys() == {"error"}


def is_answered(port: int, headers: dict[str, str], body: bytes) -> bool:
    """Whether a replica answers a request with success; with an error or with nothing otherwise."""
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}/v2/models/digits/infer", content=body, headers=headers)
    except httpx.TransportError:
        return False
    return answer.status_code == 200


def test_settings_roll_and_load_scales_without_a_lost_request(
    cluster: RayServing, registry: Registry, tmp_path: Path
) -> None:
    """One test, because each step begins where the one before it ended: two fixed replicas, one of which is lost and
    replaced → autoscaled: 1 → 2 → 1.

    Beside them, from the first step on, `heavy` has a pool of its own, with one replica.
    """
    registry.add(p.digits_like_package(tmp_path, name="heavy").dir)
    registry.promote("heavy", "1", author="test")
    plain = json.loads(codec.dumps(OPTIONS))
    plain["batch"]["queue_rows"] = 4095
    plain["runtime"]["lanes"] = 1  # one batch at a time, so that one batch meets the failure
    plain["runtime"]["cuda_graphs"] = False  # they are for powers of two: no batch would have LOST_AT rows
    plain["runtime"]["device"] = f"double:0ms+100us,lost_at={LOST_AT}"
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_utilisation": 0.5, "target_queue_ms": 50.0}
    cluster.options_file.write_text(json.dumps(plain))
    autoscaled = {"autoscaling": {**scaling, "upscale_s": 1.0, "downscale_s": 1.0}, "pools": {"heavy": 1}}
    cluster.scale_file.write_text(json.dumps({"pools": {"heavy": 1}}))

    def replicas(count: int) -> bool:
        return faults.in_rotation(cluster) == len(cluster.replica_pids()) - 1 == count

    try:
        rolled = faults.roll(cluster, replicas=2, after=3)
        assert rolled.failed == []
        assert rolled.sent > 200
        the_models_own_pool_answers(cluster)
        lose_a_device(cluster)
        with faults.clients(cluster, pause_s=0.1) as calm:
            cluster.scale_file.write_text(json.dumps(autoscaled))
            cluster.read_again()
            faults.wait_until(lambda: replicas(1))
        with driving(cluster.port, "digits", digits(rows=512), threads=6) as load:
            faults.wait_until(lambda: replicas(2))
        with faults.clients(cluster, pause_s=0.1) as few:
            faults.wait_until(lambda: replicas(1))
        assert [s for t in (load, *calm, *few) for s in t.failed()] == []
    finally:
        cluster.options_file.write_bytes(codec.dumps(OPTIONS))
        cluster.scale_file.write_text("{}")
        cluster.read_again()
