"""A real server, a real monitor and real versions: good, wrong, slow, and NaN on live traffic only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deploy.wiring import RegistryCatalogue
from deploy.workshop import RegistryPlans
from export.contracts.datatypes import Datatype
from export.contracts.traffic import TrafficPlan
from export.package import Package
from export.registry import Registry
from monitoring.loop.contracts import Workshop
from monitoring.monitor import Monitor
from monitoring.options import CaseOptions, MonitorOptions
from monitoring.rollout import rows
from monitoring.rollout.policy import Metric, RolloutPolicy, Step, StepKind
from monitoring.rollout.rows import Rollout
from monitoring.store import Store
from serving.options import ServingOptions
from tests.support import packages
from tests.support.server import Server, standalone
from tests.support.traffic import Traffic, driving
from tests.support.wire import Tensor

MODEL = "digits"
LIVE = 2.0  # golden cases hold inputs up to 1
POLICY = RolloutPolicy(
    steps=(
        Step(kind=StepKind.SHADOW, percent=100, dwell_s=3, requests=60, prove=(Metric.INVALID,), max_s=120),
        Step(kind=StepKind.CANARY, percent=0.5, dwell_s=3, requests=2, max_s=120),
        Step(kind=StepKind.CANARY, percent=1.0, dwell_s=3, requests=6, max_s=120),
        Step(kind=StepKind.CHAMPION, percent=5.0, dwell_s=4, requests=50, max_s=120),
    ),
    disagreement=0.02,
    latency_factor=1.5,
    fresh_s=20.0,  # a loaded machine in a test
)


def good_package(folder: Path, version: str) -> Package:
    return packages.digits_like_package(folder, version=version)


def wrong_package(folder: Path, version: str) -> Package:
    """Other weights: reproduces its own golden cases, and answers otherwise than the champion."""
    return packages.digits_like_package(folder, version=version, seed=7)


def nan_package(folder: Path, version: str) -> Package:
    """Finite up to inputs of 1.5, NaN beyond."""
    nodes = [
        helper.make_node("Sub", ["bound", "flat"], ["room"]),
        helper.make_node("Sqrt", ["room"], ["rooted"]),
        helper.make_node("MatMul", ["rooted", "nothing"], ["added"]),
    ]
    weights = {"bound": np.array(1.5, np.float32), "nothing": np.zeros((64, 10), np.float32)}
    return _with(folder, version, nodes, weights)


def slow_package(folder: Path, version: str, products: int = 400) -> Package:
    """The champion's answers, after a detour through many matrix products: tens of milliseconds a row."""
    weights = {"wide": np.zeros((64, 1024), np.float32), "turn": np.eye(1024, dtype=np.float32)}
    weights["nothing"] = np.zeros((1024, 10), np.float32)
    nodes = [helper.make_node("MatMul", ["flat", "wide"], ["t0"])]
    nodes += [helper.make_node("MatMul", [f"t{i}", "turn"], [f"t{i + 1}"]) for i in range(products)]
    nodes.append(helper.make_node("MatMul", [f"t{products}", "nothing"], ["added"]))
    return _with(folder, version, nodes, weights, max_batch_rows=2)


def _with(
    folder: Path, version: str, nodes: list[onnx.NodeProto], weights: dict[str, Any], max_batch_rows: int = 256
) -> Package:
    model = packages.digits_like_model(0)
    kept = [n for n in model.graph.node if "logits" not in n.output]
    (last,) = [n for n in model.graph.node if "logits" in n.output]
    last.output[0] = "plain"
    own = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    made = packages.make_model(
        packages.DIGITS_SIGNATURE,
        [*kept, last, *nodes, helper.make_node("Add", ["plain", "added"], ["logits"])],
        own | weights,
    )
    x = np.random.default_rng(1).random((4, 1, 8, 8), dtype=np.float32)
    return packages.package_model(
        folder,
        made,
        packages.DIGITS_SIGNATURE,
        name=MODEL,
        version=version,
        task=packages.DIGITS_TASK,
        golden=packages.golden_from_onnx(made, {"x": x}, packages.DIGITS_SIGNATURE),
        max_batch_rows=max_batch_rows,
    )


@dataclass(kw_only=True)
class Live:
    """A server that follows the registry, a monitor that reads its log, and traffic."""

    folder: Path
    registry: Registry
    server: Server
    store: Store
    monitor: Monitor
    traffic: Traffic

    def roll_out(self, version: str, policy: RolloutPolicy = POLICY) -> str:
        plan = self.plan()
        with self.store.write() as connection:
            return rows.begin(
                connection,
                model=MODEL,
                candidate=version,
                champion=plan.champion,
                policy=policy,
                author="test",
                now_ns=time.time_ns(),
            )

    def plan(self) -> TrafficPlan:
        plan = self.registry.plan(MODEL)
        assert plan is not None
        return plan

    def look(self, identity: str) -> Rollout:
        with self.store.read() as connection:
            return rows.look(connection, identity)

    def log(self, identity: str) -> str:
        with self.store.read() as connection:
            return "\n".join(f"{e.time_ns / 1e9:.1f} {e.words}" for e in rows.events(connection, identity))

    def until_ended(self, identity: str, timeout_s: float = 150.0) -> Rollout:
        deadline = time.monotonic() + timeout_s
        while not (one := self.look(identity)).ended:
            assert time.monotonic() < deadline, f"{one.reason}\n{self.log(identity)}"
            time.sleep(0.2)
        return one


@contextmanager
def live(folder: Path, make: Callable[[Path], object], *, pause_s: float = 0.01, threads: int = 2) -> Iterator[Live]:
    """Serve version 1 and whatever `make` writes, with a monitor and about 150 requests a second."""
    registry, made = Registry(folder / "registry"), folder / "packages"
    good_package(made, "1")
    make(made)
    for package in sorted((made / MODEL).iterdir()):
        registry.add(package)
    registry.promote(MODEL, "1", author="test")
    serving = ServingOptions(registry="", records="", plan_poll_s=0.2)
    serving = replace(serving, challenger=replace(serving.challenger, shadow_time_share=0.2))
    images = np.full((1, 1, 8, 8), LIVE, np.float32)
    with standalone(folder / "serving", folder / "registry", options=serving) as server:
        records = server.records
        assert records is not None
        options = MonitorOptions(
            records_root=records,
            database_url=f"sqlite:///{folder / 'monitor.db'}",
            state_dir=folder / "monitor",
            poll_interval_s=0.1,
            cases=CaseOptions(audit_rate=0.0),
        )
        store = Store(options.database_url)
        unused: Any = None
        workshop = Workshop(
            jobs=unused,
            candidates=unused,
            plans=RegistryPlans(registry),
            folder=folder / "loop",
            datasets=folder / "datasets",
        )
        monitor = Monitor(options, store, RegistryCatalogue(registry), workshop=workshop)
        monitor.start()
        try:
            tensors = [Tensor(name="x", datatype=Datatype.FP32, array=images)]
            with driving(server.port, MODEL, tensors, threads=threads, pause_s=pause_s) as traffic:
                traffic.wait_for(100)
                yield Live(
                    folder=folder, registry=registry, server=server, store=store, monitor=monitor, traffic=traffic
                )
        finally:
            monitor.stop()
            store.close()
