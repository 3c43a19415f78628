"""What can go wrong with a cluster that serves, done to it under load, and what the clients saw of it.

Used by `tests/ray` (each once) and by `benchmarks/ray_faults.py` (many times). Every function ends when the cluster is
whole again, so that they can follow one another.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import random
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil

from tests.support.ray_cluster import RayServing
from tests.support.traffic import Sent, Traffic, digits, driving

WHOLE_S = 90.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one fault did.

    Attributes:
        sent: Requests of all clients.
        failed: Those that did not end with 200, as (seconds after the fault at which the client saw it, what it saw).
        slowest_s: The longest that a request took.
        gap_s: The longest time between two answers.
        seen_s: From the fault until HAProxy sent nothing more to the victim; None where that is not asked.
        whole_s: From the fault until every replica was back in rotation.
    """

    sent: int
    failed: list[tuple[float, str]] = field(default_factory=list)
    slowest_s: float
    gap_s: float
    seen_s: float | None = None
    whole_s: float


def wait_until(holds: Callable[[], bool], timeout_s: float = WHOLE_S, pause_s: float = 0.02) -> float:
    """Seconds until it holds."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < timeout_s, "it never came true"
        time.sleep(pause_s)
    return time.monotonic() - started


def in_rotation(cluster: RayServing, backend: str = "http-hardcase") -> int:
    """Replicas of an application to which HAProxy sends requests; 0 while it does not say."""
    url = f"http://127.0.0.1:{cluster.haproxy_ports[0]}/stats;csv"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            rows = list(csv.DictReader(io.StringIO(answer.read().decode().lstrip("# "))))
    except OSError:
        return 0
    return sum(
        row["pxname"] == backend
        and row["svname"] != "BACKEND"
        and "fallback" not in row["svname"]
        and row["status"].startswith("UP")
        for row in rows
    )


@contextlib.contextmanager
def clients(cluster: RayServing, *, pause_s: float = 0.004) -> Iterator[list[Traffic]]:
    """Four clients on kept connections, and two that open one for every request."""
    with (
        driving(cluster.port, "digits", digits(), threads=4, pause_s=pause_s) as kept,
        driving(cluster.port, "digits", digits(), threads=2, keep_alive=False, pause_s=pause_s) as fresh,
    ):
        yield [kept, fresh]


def outcome_of(traffic: list[Traffic], fault_at: float, whole_s: float, seen_s: float | None = None) -> Outcome:
    """Put together what the clients saw."""
    sent: list[Sent] = [s for t in traffic for s in t.sent]
    answered = sorted(s.at + s.seconds for s in sent if s.status == 200)
    return Outcome(
        sent=len(sent),
        failed=[(round(s.at + s.seconds - fault_at, 3), f"{s.status} {s.error[:80]}") for s in sent if s.status != 200],
        slowest_s=max(s.seconds for s in sent),
        gap_s=max(after - before for before, after in itertools.pairwise(answered)),
        seen_s=seen_s,
        whole_s=whole_s,
    )


def signal_replica(cluster: RayServing, number: int, *, replicas: int = 2, wait_s: float | None = None) -> Outcome:
    """SIGKILL or SIGSTOP to one replica at a random moment."""
    wait_until(lambda: len(cluster.replica_pids()) == replicas and in_rotation(cluster) == replicas)
    with clients(cluster) as traffic:
        traffic[0].wait_for(50)
        time.sleep(random.uniform(0, 1) if wait_s is None else wait_s)
        victim = psutil.Process(random.choice(cluster.replica_pids()))
        fault_at = time.monotonic()
        victim.send_signal(number)
        seen_s = wait_until(lambda: in_rotation(cluster) < replicas)
        assert len(traffic[0].sent) > 50
        wait_until(lambda: not is_alive(victim))
        wait_until(lambda: len(p := cluster.replica_pids()) == replicas and victim.pid not in p)
        wait_until(lambda: in_rotation(cluster) == replicas)
        whole_s = time.monotonic() - fault_at
        traffic[0].wait_for(50)
    return outcome_of(traffic, fault_at, whole_s, seen_s)


def kill_process(cluster: RayServing, name: str, *, quiet_s: float = 3.0) -> Outcome:
    """SIGKILL to a process that Ray runs for us: HAProxy, its manager, the controller."""
    with clients(cluster) as traffic:
        traffic[0].wait_for(50)
        (victim,) = cluster.named(name)
        fault_at = time.monotonic()
        victim.kill()
        wait_until(lambda: not is_alive(victim))
        wait_until(lambda: any(p.pid != victim.pid for p in cluster.named(name)))
        whole_s = time.monotonic() - fault_at
        time.sleep(quiet_s)
        traffic[0].wait_for(50)
    wait_until(lambda: in_rotation(cluster) == 2)
    return outcome_of(traffic, fault_at, whole_s)


def roll(cluster: RayServing, *, replicas: int = 2, after: int | None = None) -> Outcome:
    """Replace all replicas because the settings changed; `after` is how many there should be then."""
    after = replicas if after is None else after
    wait_until(lambda: len(cluster.replica_pids()) == replicas and in_rotation(cluster) == replicas)
    before = set(cluster.replica_pids())
    with clients(cluster) as traffic:
        traffic[0].wait_for(50)
        fault_at = time.monotonic()
        cluster.read_again()
        wait_until(lambda: len(p := set(cluster.replica_pids())) == after and not p & before)
        wait_until(lambda: not any(psutil.pid_exists(pid) for pid in before))
        whole_s = time.monotonic() - fault_at
        traffic[0].wait_for(50)
    return outcome_of(traffic, fault_at, whole_s)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


KILL, STOP = signal.SIGKILL, signal.SIGSTOP
