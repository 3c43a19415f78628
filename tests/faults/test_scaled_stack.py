"""Two Ray nodes, the monitor on a third machine, PostgreSQL, a bucket: everything with disks and addresses of its own.

What `hardcase render kuberay` hands to Ray Serve is what is applied here. Nothing but the bucket connects the nodes'
registry folders and record logs with the monitor's. Then a node's plug is pulled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from deploy import processes
from deploy.settings import Settings
from deploy.stack.kuberay import serve_config
from export.bucket_registry import BucketRegistry
from tests.support import packages as p
from tests.support.bucket import BUCKET, KEYS, make_bucket, moto_process, store
from tests.support.postgres import postgres
from tests.support.ray_nodes import ROOT, Node, Nodes, clean, network, why_not
from tests.support.traffic import digits, driving

_REASON = why_not()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.timeout(600),
    pytest.mark.skipif(_REASON is not None, reason=_REASON or ""),
]
TOKEN = "a-client-of-the-data-plane"
APPLY = """
import yaml
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
config = ServeDeploySchema.parse_obj(yaml.safe_load(open(sys.argv[1])))
for attempt in range(3):  # on a busy machine the first proxy may be too slow for its own health check
    try:
        serve.start(http_options=HTTPOptions(host=config.http_options.host, port=config.http_options.port))
        break
    except (ray.exceptions.RayError, TimeoutError):
        if attempt == 2:
            raise
_get_global_client().deploy_apps(config)
print("applied")
"""
STATUS = """
from ray import serve
import json
found = serve.status().applications["hardcase"]
states = {d: s.replica_states for d, s in found.deployments.items()}
print(json.dumps([found.status.value, found.message, str(states)]))
"""


@dataclass
class World:
    nodes: Nodes
    settings_file: Path
    settings: Settings
    registry: BucketRegistry
    engine: sa.Engine
    started: list[subprocess.Popen[bytes]]

    @property
    def monitor_node(self) -> Node:
        return self.nodes.nodes[2]

    def start(self, node: Node, *command: str) -> subprocess.Popen[bytes]:
        """One of our commands on a machine."""
        mark = {processes.RUN_ID: node.run_id} if node.run_id else {}
        with (self.nodes.folder / f"{command[-1]}-{node.namespace[-1]}.log").open("ab") as log:
            process = subprocess.Popen(
                [*node.inside, sys.executable, "-m", "deploy.cli", "-c", str(self.settings_file), *command],
                env=clean() | KEYS | self.nodes.access() | mark | {"PYTHONPATH": str(ROOT)}, cwd=ROOT,
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.started.append(process)
        return process

    def accounts(self) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT * FROM accounting")).mappings()
            return [dict(row) for row in rows]

    def records(self, version: str | None = None) -> int:
        return sum(a["captured"] for a in self.accounts() if version in (None, a["version"]))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    pytest.importorskip("moto")
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(network(3))
        database = stack.enter_context(postgres(also=nodes.outside))
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        url, moto = moto_process(nodes.outside)
        stack.callback(moto.wait)
        stack.callback(moto.kill)
        make_bucket(url)
        state = nodes.folder / "state"
        state.mkdir()
        for number, node in enumerate(nodes.nodes):
            disk = nodes.folder / f"disk{number}"
            disk.mkdir()
            node.disk = (disk, state)
        own = url.rpartition(":")[2]
        token = hashlib.sha256(TOKEN.encode()).hexdigest()
        plain = {
            "state_dir": str(state),
            "serving": {"host": "0.0.0.0", "port": 8123, "grpc_port": 0, "replicas": 2, "plan_poll_s": 0.3,
                        "auth": {"keys": [{"name": "test", "sha256": token}]}, "runtime": {"device": "cpu"}},
            "capture": {"durability": "async"},
            "monitor": {"host": "0.0.0.0", "port": 8124, "token_sha256": [token],
                        "database_url": database.url.replace("127.0.0.1", nodes.outside)},
            "ray": {"address": nodes.ray_address, "auth_token_file": str(nodes.token), "drain_s": 2.0},
            "storage": {"url": f"s3://{BUCKET}/p", "endpoint": f"http://{nodes.outside}:{own}",
                        "plan_poll_s": 0.5, "ship_s": 0.5, "lost_after_s": 10.0},
        }  # fmt: skip
        file = nodes.folder / "hardcase.yaml"
        file.write_text(yaml.safe_dump(plain))
        registry = BucketRegistry(tmp_path / "registry", store(url))
        engine = sa.create_engine(database.url)
        stack.callback(engine.dispose)
        made = World(nodes, file, Settings.model_validate(plain), registry, engine, [])
        stack.callback(_end, made)
        yield made


def _end(world: World) -> None:
    for process in world.started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in world.started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


def until(holds: Callable[[], object], timeout_s: float = 90.0, what: str = "it") -> None:
    deadline, last = time.monotonic() + timeout_s, None
    while True:
        try:
            if holds():
                return
        except (AssertionError, sa.exc.DBAPIError) as error:
            last = error
        assert time.monotonic() < deadline, f"{what} never came true; {last}"
        time.sleep(0.5)


def test_a_node_is_lost_and_every_record_is_accounted_for(world: World, tmp_path: Path):
    nodes = world.nodes
    first, second = nodes.nodes[:2]
    for version, seed in (("1", 0), ("2", 7)):
        world.registry.add(p.digits_like_package(tmp_path / version, version=version, seed=seed).dir)
    world.registry.promote("digits", "1", author="test")

    nodes.start(first, cpus=2)
    nodes.wait_for_nodes(1)
    nodes.start(second, cpus=2)
    nodes.wait_for_nodes(2)
    for node in (first, second):
        world.start(node, "node")
    world.start(world.monitor_node, "monitor")
    for disk in ("disk0", "disk1", "disk2"):
        until(lambda d=disk: (nodes.folder / d / "registry/models/digits/plans/00000001.json").exists(), what=disk)

    config = nodes.folder / "serve.yaml"
    config.write_text(yaml.safe_dump(serve_config(world.settings)))
    assert nodes.ask(APPLY, str(config), timeout_s=200) == "applied"
    until(lambda: json.loads(nodes.ask(STATUS))[0] == "RUNNING", 240, what="the application")
    logs = [nodes.folder / f"disk{n}" / "records" for n in (0, 1)]
    until(lambda: all(any(log.glob("pool-*")) for log in logs), what="one replica on each node")

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
            for log in sorted(nodes.folder.glob("*.log")):
                print(log.name, log.read_text(errors="replace")[-3000:])
            print(world.accounts())
            raise
        found_lost_s = time.monotonic() - killed
        traffic.wait_for(200)
    assert before_kill == 0
    failed = len(traffic.failed())
    answered = len(traffic.sent) - failed

    # the rest of the first node's log arrives while its replica lives on
    until(lambda: _settled(world), what="everything in PostgreSQL")
    accounts = world.accounts()
    for account in accounts:
        assert account["requests"] == _told(account), account
    lost_sources = {a["source"] for a in accounts if a["final"]}
    assert len(lost_sources) == 1
    for account in accounts:
        assert account["ingested"] == account["captured"], account
    arrived = sum(a["requests"] for a in accounts)
    print(json.dumps({"answered": answered, "failed": failed, "arrived": arrived, "given_up_after_s": found_lost_s}))
    assert failed <= 8  # what the lost machine had in hand: two threads, and HAProxy's checks
    assert answered - arrived <= 400  # at most what the second machine answered since it had last sent


def _told(account: dict[str, Any]) -> int:
    dropped = sum(_plain(account["dropped"]).values())
    return int(account["captured"] + account["sampled_out"] + dropped + account["lost"] + account["corrupt"])


def _plain(value: Any) -> dict[str, int]:
    return json.loads(value) if isinstance(value, str) else value or {}


def _settled(world: World) -> bool:
    return all(a["ingested"] == a["captured"] and a["requests"] == _told(a) for a in world.accounts())
