"""Processes killed and stopped under load: what clients see. Each fault once; `benchmarks.ray_faults` does many."""

from __future__ import annotations

import pytest

from tests.support import ray_faults as faults
from tests.support.ray_cluster import RayServing

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(300)]


def test_a_stopped_replica_is_out_of_rotation_in_three_seconds_and_costs_no_request(cluster: RayServing) -> None:
    outcome = faults.signal_replica(cluster, faults.STOP)
    assert outcome.failed == []
    assert outcome.seen_s is not None
    assert outcome.seen_s <= 3.5, "checks every 0.8 s; the rest is this machine's"
    assert 1 < outcome.slowest_s < 20, "requests met the stopped process, and were answered by the other one"


def test_haproxy_is_back_at_once_when_it_is_killed_and_ray_gets_its_own_again(cluster: RayServing) -> None:
    outcome = faults.kill_process(cluster, "haproxy")
    assert outcome.gap_s <= 2
    assert outcome.failed, "requests under way do not survive: the fault was real"
    assert all(after_s < 2 for after_s, _ in outcome.failed)
    # what Ray starts in the end takes configuration from it again: a roll reaches it
    faults.wait_until(lambda: not any(".stand-in" in " ".join(p.cmdline()) for p in cluster.named("haproxy")))


def test_the_manager_of_haproxy_killed_is_no_outage_either(cluster: RayServing) -> None:
    outcome = faults.kill_process(cluster, "ray::HAProxyManager")
    assert outcome.gap_s <= 2
    assert all(after_s < 2 for after_s, _ in outcome.failed)


def test_the_data_plane_does_not_need_the_controller(cluster: RayServing) -> None:
    outcome = faults.kill_process(cluster, "ray::ServeController")
    assert outcome.failed == []
