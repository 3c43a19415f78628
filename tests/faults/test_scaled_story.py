"""The story on the scaled stack: PostgreSQL, a bucket, two Ray nodes, the monitor on a third machine; a node is lost.

`pytest tests/faults/test_scaled_story.py -s -m ""`, as root: about two minutes and a half on two quiet cores. The short
form of the story: traffic, a shift, the alarm, labels typed into the console's API by the stand-in reviewer, trigger,
training, gate, shadow, canary, champion. While the new version is canary, the plug of the second machine is pulled.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from deploy.demo.digits import load_digits
from deploy.demo.loop_story import tell_loop
from deploy.demo.overlay import FAULTS, MODEL, VERSION, overlay
from deploy.demo.told import Told
from deploy.demo.train import package, write_base
from deploy.monitor_client import MonitorClient
from export.contracts.traffic import ChallengerMode
from export.from_torch import export_module
from export.provenance import make_provenance
from export.registry import Registry
from tests.support.ray_nodes import why_not
from tests.support.scaled_stack import TOKEN, World, scaled_stack, told, until

_REASON = why_not()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(_REASON is not None, reason=_REASON or ""),
]
IN_HAND = 16  # requests: eight clients, and as many again while HAProxy has not noticed


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    pytest.importorskip("moto")
    sections = overlay(tmp_path / FAULTS, quick=True)
    sections["monitor"]["lateness_s"] = 4.0  # records come in pieces, through a bucket
    sections["serving"] = {"runtime": {"device": "cpu", "load_timeout_s": 300.0}}
    with scaled_stack(tmp_path / "registry", **sections) as made:
        yield made


class Plug(threading.Thread):
    """Pulls the plug of the second machine as soon as the candidate is canary."""

    def __init__(self, world: World, registry: Registry) -> None:
        super().__init__(name="plug", daemon=True)
        self._world, self._registry = world, registry
        self.pulled: float | None = None  # wall clock
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.1):
            plan = self._registry.plan(MODEL)
            if plan is not None and plan.mode is ChallengerMode.CANARY:
                self._world.nodes.kill(self._world.nodes.nodes[1])
                self.pulled = time.time()
                return


def make_champion(world: World, folder: Path) -> None:
    """The demo's model into the bucket, its base data onto the monitor's disk."""
    digits = load_digits()
    datasets = world.nodes.folder / "disk2" / "datasets"
    datasets.mkdir(mode=0o700)
    provenance = make_provenance("deploy.demo.train", dataset_snapshot=write_base(digits, datasets))
    made = export_module(**package(digits), out_dir=folder, provenance=provenance)
    world.registry.add(made.dir)
    world.registry.promote(MODEL, VERSION, author="test")


def story(world: World, registry: Registry, folder: Path) -> Told:
    serving = f"http://{world.nodes.head.address}:8123"
    client = MonitorClient(f"http://{world.monitor_node.address}:8124", TOKEN)
    try:
        return tell_loop(
            serving=serving,
            grpc=None,
            client=client,
            registry=registry,
            faults=folder / FAULTS,
            log=folder / "clients.log",
            out=Console(file=sys.stdout, width=200),
            quick=True,
            settings={},
        )
    except BaseException:
        world.tell_logs()
        raise
    finally:
        client.close()


def test_the_story_ends_well_though_a_machine_is_lost_while_the_candidate_is_canary(world: World, tmp_path: Path):
    make_champion(world, tmp_path / "package")
    world.start_all()
    registry = Registry(world.nodes.folder / "disk2" / "registry")  # the monitor's own copy
    plug = Plug(world, registry)
    try:
        found = story(world, registry, tmp_path)
    finally:
        plug.over.set()
        plug.join(30)
    assert plug.pulled is not None
    failing = {claim.name: claim.detail for claim in found.claims if not claim.holds}
    print(json.dumps({"failed": found.failed, "sent": found.sent, "failing": failing, "failures": found.failures}))
    assert set(failing) <= {"every request was answered"}, failing
    assert [turn.stage for turn in found.turns] == ["promoted"]
    world.registry.pull()
    assert world.registry.plan(MODEL).champion == "2"  # type: ignore[union-attr]  # in the bucket, not in one copy

    # what the lost machine had in hand is gone, and nothing else
    lost = [m for m in found.moments if m.failed]
    assert found.sent == found.answered + found.failed
    assert found.failed <= IN_HAND, found.failures
    began = plug.pulled - wall(found)
    assert all(began - 2.0 <= m.at_s <= began + 15.0 for m in lost), (began, lost)

    until(lambda: sum(a["final"] for a in world.accounts()) >= 1, what="the lost machine's account")
    until(lambda: world.settled, what="everything in PostgreSQL")
    for account in world.accounts():
        assert account["requests"] == told(account), account
    by_version = {a["version"] for a in world.accounts() if a["captured"]}
    assert by_version == {"1", "2"}


def wall(found: Told) -> float:
    """When the story began, on the wall clock; to a second."""
    return datetime.fromisoformat(found.started_at).timestamp()
