"""The scaled stack under load: a promotion through the bucket, then a node's plug is pulled."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import packages as p
from tests.support.ray_nodes import Node, why_not
from tests.support.scaled_stack import TOKEN, World, scaled_stack, told, until
from tests.support.traffic import digits, driving

_REASON = why_not()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.timeout(600),
    pytest.mark.skipif(_REASON is not None, reason=_REASON or ""),
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    pytest.importorskip("moto")
    with scaled_stack(tmp_path / "registry") as made:
        yield made


def test_a_node_is_lost_and_every_record_is_accounted_for(world: World, tmp_path: Path):
    nodes = world.nodes
    first, second = nodes.nodes[:2]
    for version, seed in (("1", 0), ("2", 7)):
        world.registry.add(p.digits_like_package(tmp_path / version, version=version, seed=seed).dir)
    world.registry.promote("digits", "1", author="test")

    world.start_all()

    def client(node: Node):  # type: ignore[no-untyped-def]
        return driving(8123, "digits", digits(), threads=2, host=node.address, token=TOKEN, pause_s=0.01)

    with client(first) as traffic:
        traffic.wait_for(300)
        until(lambda: world.records() > 200, what="records in PostgreSQL")
        # a promotion through the bucket reaches replicas on both nodes
        world.registry.promote("digits", "2", author="test")
        until(
            lambda: len([a for a in world.accounts() if a["version"] == "2" and a["captured"]]) == 2, what="version 2"
        )
        traffic.wait_for(200)
        before_kill = len(traffic.failed())
        # the second machine burns, with its disk
        nodes.kill(second)
        killed = time.monotonic()
        try:
            until(lambda: any(a["final"] for a in world.accounts()), 60, what="the lost machine's account")
        except AssertionError:
            world.tell_logs()
            raise
        found_lost_s = time.monotonic() - killed
        traffic.wait_for(200)
    assert before_kill == 0
    failed = len(traffic.failed())
    answered = len(traffic.sent) - failed

    # the rest of the first node's log arrives while its replica lives on
    until(lambda: world.settled, what="everything in PostgreSQL")
    accounts = world.accounts()
    for account in accounts:
        assert account["requests"] == told(account), account
    lost_sources = {a["source"] for a in accounts if a["final"]}
    assert len(lost_sources) == 1
    for account in accounts:
        assert account["ingested"] == account["captured"], account
    arrived = sum(a["requests"] for a in accounts)
    print(json.dumps({"answered": answered, "failed": failed, "arrived": arrived, "given_up_after_s": found_lost_s}))
    assert failed <= 8  # what the lost machine had in hand: two threads, and HAProxy's checks
    assert answered - arrived <= 400  # at most what the second machine answered since it had last sent
