"""A served digits model with a shadow, its traffic, and a console that knows where the service is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import helper

from deploy.wiring import RegistryCatalogue
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.registry import Registry
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.cycle import Loop, make_loop, run_cycle
from monitoring.inference_options import InferenceOptions
from monitoring.options import MonitorOptions
from monitoring.refetch import Refetch
from monitoring.server import report_service
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support import story
from tests.support.console_server import listening
from tests.support.console_store import StillMonitor
from tests.support.packages import DIGITS_SIGNATURE, make_model, package_model
from tests.support.server import Server, standalone
from tests.support.watching import until


@dataclass(kw_only=True)
class World:
    """Everything that runs. `read` lets the monitor catch up with the log."""

    server: Server
    address: str
    store: Store
    loop: Loop
    options: MonitorOptions

    def read(self) -> None:
        while run_cycle(self.loop):
            pass


def second_version(folder: Path, *, shadow: bool) -> None:
    """Version 2 of the digits: the first layer of version 1 with its last layer shaken, so that some answers flip."""
    d = w.digits()
    rng = np.random.default_rng(3)
    w1, b1, w2, b2 = (np.asarray(x, dtype=np.float32) for x in d.weights)
    weights = {"w1": w1, "b1": b1, "w2": w2 + rng.normal(0, 0.35, w2.shape).astype(np.float32), "b2": b2}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w2", "b2"], ["logits"]),
    ]
    model, task = make_model(DIGITS_SIGNATURE, nodes, weights), w.manifest().task
    made = package_model(folder / "p", model, DIGITS_SIGNATURE, name="digits", version="2", task=task)
    registry = Registry(folder / "registry")
    registry.add(made.dir)
    if shadow:
        plan = registry.plan("digits")
        assert plan is not None
        registry.set_plan(
            TrafficPlan(
                model="digits",
                revision=plan.revision,
                champion="1",
                challenger="2",
                mode=ChallengerMode.SHADOW,
                pinned=("2",),
            ),
            expected_revision=plan.revision,
        )


@contextmanager
def explored(folder: Path, *, requests: int = 240, database_url: str = "") -> Iterator[World]:
    """Serve, send digits (the second half turned) with their labels, read the log, show it. Default: SQLite."""
    registry = story.registry(folder)
    second_version(folder, shadow=True)
    with standalone(folder / "server", registry) as server:
        until(lambda: "2" in server.get("/v2/models/digits")["versions"], 30, "version 2 is not loaded")
        day = story.Day(server)
        day.send(requests // 2)
        day.send(requests - requests // 2, story.turned)
        options = story.options(folder)
        options = replace(options, database_url=database_url or options.database_url)
        store = Store(options.database_url)
        catalogue = RegistryCatalogue(Registry(registry))
        loop = make_loop(options, store, catalogue)
        reports = report_service(options, store, catalogue)
        app = build_console(
            store,
            catalogue,
            StillMonitor(),
            list,
            ConsoleOptions(),
            reports=reports,
            inference=InferenceOptions(url=server.url, replay_rows_per_s=500.0),
            refetch=Refetch(options, store),
        )
        with listening(app) as address:
            world = World(server=server, address=address, store=store, loop=loop, options=options)
            for version in ("1", "2"):  # the shadow's answers come after the champion's
                until(lambda v=version: world.read() or _counted(world, v) >= requests, 30, f"no {version} in the log")
            yield world
        assert loop.roster.wait(60)  # a duty beside the loop holds a connection while it works
        reports.close()
        store.close()


def _counted(world: World, version: str) -> int:
    rows = world.store.windows("digits", version=version, limit=500)
    return sum(row.requests for row in rows)
