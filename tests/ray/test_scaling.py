"""Replicas that come and go while requests are answered: new settings, more load, less load."""

from __future__ import annotations

import json

import pytest

from export.contracts import codec
from tests.ray.conftest import OPTIONS
from tests.support import ray_faults as faults
from tests.support.ray_cluster import RayServing
from tests.support.traffic import digits, driving

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(300)]


def test_settings_roll_and_load_scales_without_a_lost_request(cluster: RayServing) -> None:
    """One test, because each step begins where the one before it ended: two fixed replicas → 1 → 2 → 1."""
    plain = json.loads(codec.dumps(OPTIONS))
    plain["batch"]["queue_rows"] = 4095
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_utilisation": 0.2, "target_queue_ms": 5.0}
    cluster.options_file.write_text(json.dumps(plain))
    cluster.scale_file.write_text(json.dumps({"autoscaling": {**scaling, "upscale_s": 1.0, "downscale_s": 1.0}}))

    def replicas(count: int) -> bool:
        return faults.in_rotation(cluster) == len(cluster.replica_pids()) == count

    try:
        rolled = faults.roll(cluster, replicas=2, after=1)
        assert rolled.failed == []
        assert rolled.sent > 200
        with driving(cluster.port, "digits", digits(rows=512), threads=6) as load:
            faults.wait_until(lambda: replicas(2))
        with faults.clients(cluster, pause_s=0.1) as few:
            faults.wait_until(lambda: replicas(1))
        assert [s for t in (load, *few) for s in t.failed()] == []
    finally:
        cluster.options_file.write_bytes(codec.dumps(OPTIONS))
        cluster.scale_file.write_text("{}")
        cluster.read_again()
