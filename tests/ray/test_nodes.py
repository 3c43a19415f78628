"""Two machines with addresses of their own, and a cluster that was there before us: attach, drain, roll, leave.

One test, because each step begins where the one before it ended, and a cluster of two nodes is dear.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from export.registry import Registry
from tests.support import packages as p
from tests.support.hardcase_process import Place
from tests.support.ray_nodes import Nodes, network, why_not
from tests.support.traffic import Traffic, digits, driving

_REASON = why_not()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.timeout(400),
    pytest.mark.skipif(_REASON is not None, reason=_REASON or ""),
]
TOKEN = "a-client-of-the-data-plane"
OTHER = """
from ray import serve
@serve.deployment
class Other:
    def __call__(self, request): return "still here"
serve.run(Other.options(ray_actor_options={"num_cpus": 0}).bind(), name="other", route_prefix="/other")
"""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with network(2) as cluster:
        cluster.start(cluster.head, cpus=4)
        cluster.wait_for_nodes(1)
        cluster.start(cluster.nodes[1], cpus=1, environment={})  # forgot what we need
        cluster.wait_for_nodes(2)
        yield cluster


def settings(place: Place, nodes: Nodes, **serving: object) -> None:
    plain = {
        "serving": {
            "host": "0.0.0.0", "port": place.serving_port, "replicas": 2,
            "auth": {"keys": [{"name": "test", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}]}, **serving,
        },
        "monitor": {"port": place.monitor_port},
        "ray": {"address": nodes.ray_address, "auth_token_file": str(nodes.token), "drain_s": 2.0},
    }  # fmt: skip
    (place.folder / "hardcase.yaml").write_text(yaml.safe_dump(plain))


def on_nodes(nodes: Nodes) -> dict[str, int]:
    """How many replicas of ours each node has, by address."""
    code = (
        "from ray.util.state import list_actors\n"
        "import collections, json\n"
        "ip = {n['NodeID']: n['NodeManagerAddress'] for n in ray.nodes()}\n"
        "ours = ray._private.state.actors().values()\n"
        "names = [ip[a['Address']['NodeID']] for a in ours if a['State'] == 'ALIVE' "
        "and a['Name'].startswith('SERVE_REPLICA::hardcase')]\n"
        "print(json.dumps(collections.Counter(names)))"
    )
    found: dict[str, int] = json.loads(nodes.ask(code))
    return found


def until(holds: object, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.5)


def failures(*traffic: Traffic) -> list[object]:
    return [s for t in traffic for s in t.failed()]


def test_a_cluster_of_two_machines_that_is_not_ours(nodes: Nodes, tmp_path: Path):
    first, second = nodes.nodes
    place = Place.make(tmp_path / "here")
    place = Place(place.folder, place.serving_port, place.monitor_port, prefix=first.inside)
    place.paths.make()
    package = p.digits_like_package(tmp_path)
    registry = Registry(place.paths.registry)
    registry.add(package.dir)
    registry.promote("digits", "1", author="test")
    settings(place, nodes)

    # a node was started without our environment: refused, with what is missing and what to do
    refused = place.run("serve", timeout=120)
    assert refused.returncode != 0
    assert "RAY_SERVE_ENABLE_HA_PROXY=1" in refused.stdout + refused.stderr
    assert "python -m serving.ray_environment" in refused.stdout + refused.stderr
    nodes.stop(second)
    nodes.wait_for_nodes(1)
    nodes.start(second, cpus=1)
    nodes.wait_for_nodes(2)

    running = place.start("--no-demo")
    nodes.ask(OTHER)
    until(lambda: on_nodes(nodes) == {first.address: 1, second.address: 1})

    def client(node_address: str, keep_alive: bool = True):  # type: ignore[no-untyped-def]
        return driving(
            place.serving_port, "digits", digits(), threads=2, host=node_address, token=TOKEN, keep_alive=keep_alive,
            pause_s=0.005,
        )  # fmt: skip

    # every machine's HAProxy answers, at its real address, and sends to the replicas of both
    with client(first.address) as one, client(second.address) as other:
        one.wait_for(100)
        other.wait_for(100)
    assert failures(one, other) == []

    # settings change, and the next `up` replaces the replicas under load
    assert place.run("down", "--keep-serving", timeout=90).returncode == 0
    assert running.process.wait(30) == 0
    settings(place, nodes, plan_poll_s=0.5)
    with client(first.address) as one, client(first.address, keep_alive=False) as fresh:
        one.wait_for(50)  # nobody supervises, the cluster goes on answering
        running = place.start("--no-demo")
        one.wait_for(50)
    assert failures(one, fresh) == []

    # the second machine is drained under load: its replica moves, nothing is lost
    with client(first.address) as one, client(first.address, keep_alive=False) as fresh:
        one.wait_for(50)
        node_id = nodes.ask(
            f"print(next(n['NodeID'] for n in ray.nodes() if n['NodeManagerAddress'] == '{second.address}' "
            "and n['Alive']))"
        )
        nodes.ask(
            "from ray._raylet import GcsClient\n"
            "from ray.core.generated import autoscaler_pb2 as a\n"
            f"c = GcsClient(address='{nodes.ray_address}')\n"
            "reason = a.DrainNodeReason.Value('DRAIN_NODE_REASON_PREEMPTION')\n"
            "import time\n"
            f"print(c.drain_node('{node_id}', reason, 'test', int((time.time() + 60) * 1000)))"
        )
        until(lambda: on_nodes(nodes) == {first.address: 2})
        nodes.stop(second)
        one.wait_for(200)
        fresh.wait_for(100)
    assert failures(one, fresh) == []

    # `down` ends ours and nothing else
    assert place.run("down", timeout=90).returncode == 0
    assert running.process.wait(30) == 0
    assert on_nodes(nodes) == {}
    code = "import urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    assert nodes.ask(code, f"http://127.0.0.1:{place.serving_port}/other") == "still here"
