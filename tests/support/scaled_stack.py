"""Two Ray nodes, the monitor on a third machine, PostgreSQL, a bucket: everything with disks and addresses of its own.

What `hardcase render kuberay` hands to Ray Serve is what is applied here. Nothing but the bucket connects the nodes'
registry folders and record logs with the monitor's.
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
from deploy.convergence import TOKEN_VARIABLE
from deploy.settings import Settings
from deploy.stack.kuberay import serve_config
from export.bucket_registry import BucketRegistry
from tests.support.bucket import BUCKET, KEYS, make_bucket, moto_process, store
from tests.support.postgres import postgres
from tests.support.ray_nodes import ROOT, Node, Nodes, clean, network

TOKEN = "a-client-of-the-data-plane"
START_S = 300.0  # a node of Ray on a machine that does much else
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

    def start_all(self) -> None:
        """Ray on two machines with our agents, the monitor on the third, the application applied: one replica each."""
        nodes = self.nodes
        first, second = nodes.nodes[:2]
        nodes.start(first, cpus=2)
        nodes.wait_for_nodes(1, START_S)
        nodes.start(second, cpus=2)
        nodes.wait_for_nodes(2, START_S)
        for node in (first, second):
            self.start(node, "node")
        self.start(self.monitor_node, "monitor")
        for disk in ("disk0", "disk1", "disk2"):
            until(lambda d=disk: (nodes.folder / d / "registry/models/digits/plans/00000001.json").exists(), what=disk)
        config = nodes.folder / "serve.yaml"
        config.write_text(yaml.safe_dump(serve_config(self.settings)))
        assert nodes.ask(APPLY, str(config), timeout_s=START_S) == "applied"
        until(lambda: json.loads(nodes.ask(STATUS))[0] == "RUNNING", START_S, what="the application")
        logs = [nodes.folder / f"disk{n}" / "records" for n in (0, 1)]
        until(lambda: all(any(log.glob("pool-*")) for log in logs), what="one replica on each node")

    def tell_logs(self) -> None:
        """Print the end of every process's log: for when something went wrong."""
        for log in sorted(self.nodes.folder.glob("*.log")):
            print(log.name, log.read_text(errors="replace")[-3000:])
        print(self.accounts())

    @property
    def settled(self) -> bool:
        """Whether everything that was captured is in the store, and all accounts are whole."""
        return all(a["ingested"] == a["captured"] and a["requests"] == told(a) for a in self.accounts())


@contextlib.contextmanager
def scaled_stack(copy: Path, **sections: dict[str, Any]) -> Iterator[World]:
    """Machines, database, bucket and settings; nothing of ours runs yet.

    Args:
        copy: Folder for this process's copy of the registry.
        sections: More settings.
    """
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(network(3))
        database = stack.enter_context(postgres(also=nodes.outside))
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {**KEYS, TOKEN_VARIABLE: TOKEN}.items():
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
        plain: dict[str, Any] = {
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
        for name, section in sections.items():
            plain.setdefault(name, {}).update(section)
        file = nodes.folder / "hardcase.yaml"
        file.write_text(yaml.safe_dump(plain))
        registry = BucketRegistry(copy, store(url))
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
    """Wait until it holds.

    Raises:
        AssertionError: it did not in time.
    """
    deadline, last = time.monotonic() + timeout_s, None
    while True:
        try:
            if holds():
                return
        except (AssertionError, sa.exc.DBAPIError) as error:
            last = error
        assert time.monotonic() < deadline, f"{what} never came true; {last}"
        time.sleep(0.5)


def told(account: dict[str, Any]) -> int:
    """What became of an account's requests, added up."""
    dropped = sum(_plain(account["dropped"]).values())
    return int(account["captured"] + account["sampled_out"] + dropped + account["lost"] + account["corrupt"])


def _plain(value: Any) -> dict[str, int]:
    return json.loads(value) if isinstance(value, str) else value or {}
