"""A Ray cluster of several nodes on one machine, each in a network namespace with an address of its own.

As somebody else's cluster would be: started with `ray start`, before us and without us.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deploy import processes
from serving.ray_environment import make_haproxy_keeper, make_token, ray_environment

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")
PORT = 6379


def why_not() -> str | None:
    """Why network namespaces cannot be had here; None when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the `ip` command"
    name = f"hc-try-{secrets.token_hex(2)}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"network namespaces are not allowed here: {done.stderr.strip()[:80]}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None


@dataclass
class Node:
    """One machine, as far as Ray can tell."""

    namespace: str
    address: str
    process: subprocess.Popen[bytes] | None = None
    run_id: str = ""
    disk: tuple[Path, Path] | None = None

    @property
    def inside(self) -> tuple[str, ...]:
        """Before a command: run it on this machine. With a disk, `disk[0]` is what it finds at `disk[1]`."""
        where = ("ip", "netns", "exec", self.namespace)
        if self.disk is None:
            return where
        mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'  # in the mount namespace that `ip netns exec` makes
        return (*where, "sh", "-c", mount, "sh", str(self.disk[0]), str(self.disk[1]))


@dataclass
class Nodes:
    """A cluster: the first node is its head."""

    folder: Path
    nodes: list[Node] = field(default_factory=list)

    @property
    def head(self) -> Node:
        return self.nodes[0]

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def outside(self) -> str:
        """The address of this machine, as the nodes reach it."""
        return self.head.address.rpartition(".")[0] + ".254"

    @property
    def ray_address(self) -> str:
        return f"{self.head.address}:{PORT}"

    def access(self) -> dict[str, str]:
        """What a client of the control plane needs."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token), "RAY_USAGE_STATS_ENABLED": "0"}

    def start(self, node: Node, *, cpus: int, environment: Mapping[str, str] | None = None) -> None:
        """`ray start` on a node; `environment` replaces ours for serving."""
        folder = self.folder / node.namespace[-1]
        folder.mkdir(exist_ok=True)
        mine = ray_environment(folder, drain_s=2.0, token_file=self.token, haproxy=make_haproxy_keeper(folder))
        node.run_id = secrets.token_hex(8)
        where = ["--head", f"--port={PORT}", f"--temp-dir={self.folder / 'ray'}", "--include-dashboard=false"]
        if node is not self.head:
            where = [f"--address={self.ray_address}"]
        command = [*node.inside, str(RAY), "start", *where, f"--node-ip-address={node.address}", f"--num-cpus={cpus}"]
        command += ["--object-store-memory=100000000", "--disable-usage-stats", "--block"]
        with (folder / "ray.log").open("ab") as log:
            node.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT,
                env=clean() | self.access() | dict(mine if environment is None else environment)
                | {processes.RUN_ID: node.run_id, "PYTHONPATH": str(ROOT)}
                | {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30"},  # a busy machine takes its time
            )  # fmt: skip

    def stop(self, node: Node) -> None:
        """End every process of a node."""
        if node.process is not None:
            processes.end_all(node.run_id, grace_s=2.0)
            node.process.wait(10)
            node.process = None

    def kill(self, node: Node) -> None:
        """Pull a machine's plug: every process that carries its mark is killed, the agent's too."""
        for process in processes.members(node.run_id):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if node.process is not None:
            node.process.wait(10)
            node.process = None

    def ask(self, code: str, *arguments: str, timeout_s: float = 100.0, **variables: str) -> str:
        """Run Python on the head, connected to the cluster; returns what it prints last."""
        start = f"import ray, sys; ray.init(address={self.ray_address!r}, log_to_driver=False)\n"
        done = subprocess.run(
            [*self.head.inside, sys.executable, "-W", "ignore", "-c", start + code, *arguments],
            env=clean() | self.access() | {"PYTHONPATH": str(ROOT)} | variables,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""

    def wait_for_nodes(self, count: int, timeout_s: float = 60.0) -> None:
        """Until so many nodes are alive."""
        deadline = time.monotonic() + timeout_s
        code = "print(sum(n['Alive'] for n in ray.nodes()))"
        while True:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                if self.ask(code, timeout_s=60) == str(count):
                    return
            assert time.monotonic() < deadline, f"{count} nodes never came up"
            time.sleep(0.5)


def clean() -> dict[str, str]:
    """This environment without Ray's and our variables."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HARDCASE"))}


@contextlib.contextmanager
def network(count: int) -> Iterator[Nodes]:
    """Namespaces with addresses that this machine reaches too; no Ray in them yet."""
    tag, net = secrets.token_hex(2), f"10.{os.getpid() % 200 + 20}.{secrets.randbelow(250)}"
    bridge = f"hcb{tag}"
    folder = Path(tempfile.mkdtemp(prefix="hcn-", dir="/tmp"))
    cluster = Nodes(folder)
    make_token(cluster.token)

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"{net}.254/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for index in range(count):
            node = Node(f"hcn{tag}{index}", f"{net}.{index + 1}")
            outer, inner = f"hco{tag}{index}", f"hci{tag}{index}"
            ip("netns", "add", node.namespace)
            cluster.nodes.append(node)
            ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            ip("link", "set", outer, "master", bridge, "up")
            ip("link", "set", inner, "netns", node.namespace)
            for words in (
                ("addr", "add", f"{node.address}/24", "dev", inner),
                ("link", "set", inner, "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", node.namespace, *words)
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            cluster.stop(node)
            subprocess.run(["ip", "netns", "del", node.namespace], check=False)
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
