"""Versions behind HAProxy: two replicas flip by themselves, no request is lost, and one command sees them converge."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from deploy.cli import main
from export.contracts.traffic import ChallengerMode
from export.registry import Registry
from tests.support.monotone import Clients, Way
from tests.support.ray_cluster import RayServing

pytestmark = [pytest.mark.ray, pytest.mark.fault]


def status(cluster: RayServing, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    asked = [a for port in cluster.replica_ports() for a in ("--replica", f"127.0.0.1:{port}")]
    capsys.readouterr()
    assert main(["traffic", "status", "digits", *asked, *arguments, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_three_flips_under_load_lose_nothing_and_converge_on_both_replicas(
    cluster: RayServing,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardcase.yaml").write_text("serving: {port: 1}\nmonitor: {port: 2}\n")
    (tmp_path / ".hardcase").mkdir()
    (tmp_path / ".hardcase" / "registry").symlink_to(registry.root)
    assert status(cluster, capsys, "--wait")["converged"]
    mix = {Way.KEEP_ALIVE: 4, Way.NEW_CONNECTION: 2}
    clients = Clients([cluster.port], [], mix)
    settled: list[tuple[str, float, float]] = []  # version, from when, until when nothing changes
    with clients.running():
        for version in ("2", "1", "2"):
            registry.promote("digits", version, author="test")
            seen = status(cluster, capsys, "--wait")
            assert [(r["answering"], r["standing"]) for r in seen["replicas"]] == [(version, "current")] * 2  # type: ignore[attr-defined]
            start, before = time.monotonic() + 0.2, clients.requests  # what was under way has been answered by then
            while clients.requests < before + 200 or time.monotonic() < start + 0.5:
                time.sleep(0.02)
            settled.append((version, start, time.monotonic()))
        registry.challenge("digits", "1", ChallengerMode.CANARY, 50.0, author="test")
        seen = status(cluster, capsys, "--wait")
        assert all(r["challenger"]["on_duty"] for r in seen["replicas"])  # type: ignore[attr-defined]
    registry.promote("digits", "1", author="test")
    assert status(cluster, capsys, "--wait")["converged"]
    assert sum(c.failed for c in clients.clients) == 0, [f for c in clients.clients for f in c.failures]
    assert clients.requests > 600
    for client in clients.clients:
        for version, start, end in settled:
            seen_then = {v for v, _, first, last in client.runs if last > start and first < end}
            assert seen_then <= {version}, "once all have converged, nobody hears of the version before"
