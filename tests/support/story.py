"""A day in the life of a model, over HTTP: healthy, harmlessly darker, turned, healthy again.

`python -m tests.support.story FOLDER` is the monitor of the story as a process: it prints its port. With `--drain NAME`
it consumes the log into the databases of these names, prints a line a cycle, and ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from onnx import helper

from deploy.wiring import RegistryCatalogue
from export.contracts.datatypes import Datatype
from export.contracts.traffic import TrafficPlan
from export.registry import Registry
from monitoring import schema as t
from monitoring.options import CaseOptions, DriftOptions, MonitorOptions
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.packages import DIGITS_SIGNATURE, make_model, package_model
from tests.support.server import Server, infer_path
from tests.support.wire import Tensor, request

MODEL = "digits"
AUDIT_RATE = 0.5
# What must be the same whenever and however often the monitor looked. (Reports, leases and the like are no findings.)
FINDINGS = (
    *("windows", "window_samples", "signals", "cases", "case_tensors", "records", "feedback"),
    *("audit_windows", "audit_labels", "alarm_watches", "alarms", "alarm_events"),
)


def registry(folder: Path) -> Path:
    """A registry with the digits classifier of `monitor_world`, as ONNX with its compiled reference, in traffic."""
    d = w.digits()
    weights = {n: np.asarray(x, dtype=np.float32) for n, x in zip(("w1", "b1", "w2", "b2"), d.weights, strict=True)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w2", "b2"], ["logits"]),
    ]
    model = make_model(DIGITS_SIGNATURE, nodes, weights)
    task = w.manifest().task
    package = package_model(folder / "p", model, DIGITS_SIGNATURE, name=MODEL, task=task, reference=d.profile)
    made = Registry(folder / "registry")
    made.add(package.dir)
    plan = made.plan(MODEL)
    revision = 0 if plan is None else plan.revision
    made.set_plan(TrafficPlan(model=MODEL, revision=revision, champion="1"), expected_revision=revision)
    return folder / "registry"


def options(folder: Path, database: str = "live") -> MonitorOptions:
    """Windows of a second, every other record audited."""
    return MonitorOptions(
        records_root=folder / "server" / "records",
        database_url=f"sqlite:///{folder / database / 'monitor.db'}",
        state_dir=folder / database,
        port=0,
        poll_interval_s=0.05,
        window_s=1,
        lateness_s=1.0,
        batch_bytes=1 << 20 if database == "live" else 40_000,
        cases=CaseOptions(audit_rate=AUDIT_RATE),
        drift=DriftOptions(min_rows=40, interval_s=0.5),
    )


class Day:
    """Sends digits to a server, and the truth about each after it. Seeded: every run sends the same."""

    def __init__(self, server: Server, seed: int = 0) -> None:
        self._server = server
        self._random = np.random.default_rng(seed)
        self.sent = 0

    def send(self, count: int, change: Callable[[Any], Any] = lambda images: images) -> None:
        """So many requests of one digit each, and their labels."""
        d = w.digits()
        chosen = self._random.integers(0, len(d.images), count)
        images = np.asarray(change(d.images[chosen]), dtype=np.float32)
        for begin in range(0, count, 50):
            said = []
            for i in range(begin, min(begin + 50, count)):
                identity = f"story-{self.sent}"
                headers, body = request(
                    [Tensor(name="x", datatype=Datatype.FP32, array=images[i : i + 1])], id=identity
                )
                answer = self._server.client.post(infer_path(MODEL), content=body, headers=headers)
                assert answer.status_code == 200, answer.text
                said.append({"id": identity, "label": w.NAMES[d.labels[chosen[i]]]})
                self.sent += 1
            assert self._server.post(f"/v2/models/{MODEL}/feedback", said).status_code < 300


def darker(images: Any) -> Any:
    """A change of brightness that costs nothing: 6.3 % instead of 6.0 % wrong over all held-out digits."""
    return images * 0.8


def turned(images: Any) -> Any:
    """A change that costs much: 60 % wrong."""
    return w.turned(images, 30.0)


def findings(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that was found, without the numbers that only say in which order rows were made."""
    store = Store(f"sqlite:///{database / 'monitor.db'}")
    try:
        everything = w.snapshot(store)
        with store.read() as connection:
            assert connection.scalar(sa.select(t.windows.c.id).where(t.windows.c.signals_due.is_(True))) is None
        return {name: everything[name] for name in FINDINGS}
    finally:
        store.close()


def main(folder: Path, drain: bool) -> None:
    """Be the monitor."""
    from monitoring.cycle import make_loop, run_cycle
    from monitoring.server import serve_monitor

    catalogue = RegistryCatalogue(Registry(folder / "registry"))
    if not drain:
        serve_monitor(options(folder), catalogue, lambda: [], on_ready=lambda port: print(port, flush=True))
        return
    for database in sys.argv[3:]:
        chosen = replace(options(folder, database), batch_bytes=40_000)
        store = Store(chosen.database_url)
        loop = make_loop(chosen, store, catalogue)
        print("open", flush=True)
        while run_cycle(loop):
            print("cycle", flush=True)
        loop.roster.finish(loop)
        store.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--drain" in sys.argv)
