"""One stack for the drills, with a slow test device and small bounds.

Prometheus and Alertmanager run at a pace at which an hour is a minute; a receiver hears what people would.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from deploy.demo.digits import CLASS_NAMES, load_digits
from deploy.demo.traffic import binary_request
from deploy.observability.prometheus import Around, write_prometheus
from deploy.observability.rules import Objectives
from deploy.run_state import current_run
from export.registry import Registry
from tests.support.hardcase_process import Place, Running, free_ports
from tests.support.watching import ALERTMANAGER_NAMES, Heard, Prometheus, alertmanager, program, prometheus, receiver

MODEL = "digits"
PACE = 1 / 60
SCRAPE_S = 60.0  # a second at this pace: a busy machine answers within it, a tenth of it would be an outage
Image = npt.NDArray[np.float32]


def as_it_is(image: Image) -> Image:
    return image


def turned(image: Image) -> Image:
    return np.rot90(image, axes=(2, 3))


def spoiled(image: Image) -> Image:
    return np.full_like(image, np.nan)


@dataclass
class Stack:
    """What the drills work on."""

    system: Running
    prometheus: Prometheus
    heard: Heard
    serial: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def place(self) -> Place:
        return self.system.place

    @property
    def registry(self) -> Registry:
        return Registry(self.place.paths.registry)

    def pid(self, role: str) -> int:
        run = current_run(self.place.paths)
        assert run is not None
        return run.children[role]

    @contextmanager
    def stopped(self, role: str) -> Iterator[int]:
        """A process that hangs: it is there and does nothing."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def traffic(
        self,
        change: Callable[[Image], Image] = as_it_is,
        *,
        clients: int = 1,
        pause_s: float = 0.02,
        labels: bool = False,
    ) -> Iterator[None]:
        """Clients that send until the block ends; what they are answered does not matter to them."""
        live, ended = load_digits().live, threading.Event()

        def send() -> None:
            with httpx.Client(base_url=self.place.serving, trust_env=False, timeout=60) as client:
                while not ended.wait(pause_s):
                    with self.lock:
                        self.serial += 1
                        number = self.serial
                    item = number % len(live.images)
                    body, headers = binary_request(change(live.images[item : item + 1]), f"drill-{number}")
                    try:
                        answer = client.post(f"/v2/models/{MODEL}/infer", content=body, headers=headers)
                        if labels and answer.status_code == 200:
                            said = {"id": f"drill-{number}", "label": CLASS_NAMES[live.labels[item]]}
                            client.post(f"/v2/models/{MODEL}/feedback", json=[said])
                    except httpx.TransportError:
                        continue

        threads = [threading.Thread(target=send, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join(70)


SETTINGS = {
    "serving": {
        "standalone": True,
        "batch": {"max_rows": 1, "queue_rows": 16},
        "queue": {"target_queue_ms": 0},
        "runtime": {"device": "double:20ms", "load_attempts": 1},
        "plan_poll_s": 0.2,
    },
    "monitor": {
        "window_s": 2,
        "lateness_s": 1,
        "batch_bytes": 1 << 14,
        "cases": {"audit_rate": 1.0, "audits_per_window": 200},
        "drift": {"interval_s": 1, "min_rows": 20},
    },
    "capture": {"quota_bytes": 1 << 20, "segment_bytes": 1 << 16, "segment_age_s": 1},
}


@contextmanager
def watched(folder: Path, **sections: object) -> Iterator[Stack]:
    """A stack, its Prometheus and its Alertmanager."""
    program("prometheus")
    program(*ALERTMANAGER_NAMES)
    one, two = free_ports(2)
    place = Place.make(folder, **sections)  # type: ignore[arg-type]
    with ExitStack() as stack:
        system = place.start()
        stack.callback(system.ensure_stopped)
        heard = stack.enter_context(receiver())
        around = Around(
            monitor=f"127.0.0.1:{place.monitor_port}",
            console=place.console,
            alertmanager=f"127.0.0.1:{two}",
            webhook=heard.url,
            pace=PACE,
            scrape_s=SCRAPE_S,
        )
        write_prometheus(folder / "watch", around, Objectives())
        stack.enter_context(alertmanager(folder / "watch", two))
        asked = stack.enter_context(prometheus(folder / "watch", one))
        yield Stack(system, asked, heard)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with watched(tmp_path_factory.mktemp("drills"), **SETTINGS) as made:
        yield made
