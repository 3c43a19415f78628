"""F51: promote, roll back, challenge, pin, delete, load and unload at once; the pool ends where the model says.

A stateful property test. The registry is the real one over real tiny packages; the loader is a double that turns a
version into a runtime at once, later, or never, so that hundreds of steps take seconds. The pool is the real one, and
follows the registry exactly as it does in a replica. A plain model in the test says what must hold: who answers, who is
loaded, who is on duty; in between, requests are sent all the time and every one must be answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from export.contracts.errors import HardcaseError, NotFound, RegistryError, Unavailable
from export.contracts.traffic import ChallengerMode
from export.registry import Registry
from serving import pool as pool_module
from serving.auth import Authenticator
from serving.call import Call
from serving.dataplane import DataPlane
from serving.options import ChallengerOptions, RuntimeOptions, ServingOptions
from serving.pool import Pool
from serving.runtime.base import Array, LoadFailed
from serving.served import VersionState
from serving.version import LoadedVersion
from tests.support import packages as p
from tests.support.planes import Collected
from tests.support.trials import binary, images, version_of

VERSIONS = ("1", "2", "3", "4")
BROKEN = "4"  # never loads
version_of_machine = st.sampled_from(VERSIONS)


class Runtime:
    """Answers its version's number in every logit."""

    kind, device, provider, fallback, healthy, concurrency = "double", "cpu", "double", False, True, 1

    def __init__(self, number: float) -> None:
        self._number = number
        self.closed = False

    def buffer(self, index: int, shape: tuple[int, ...]) -> Array | None:
        return None

    def run(self, inputs: Any, outputs: Any) -> list[Array]:
        assert not self.closed, "a version that was closed was asked"
        widths = (10, 64)
        return [np.full((len(inputs[0]), widths[i]), self._number, np.float32) for i in outputs]

    def close(self) -> None:
        self.closed = True


class Loader:
    """Stands in for `serving.version_loader.VersionLoader`."""

    def __init__(self, registry: Registry, options: ServingOptions) -> None:
        self._registry, self._options = registry, options
        self.delay_s = 0.0
        self.open: list[LoadedVersion] = []

    async def load(self, model: str, version: str, wanted: Callable[[], bool]) -> LoadedVersion:
        package = self._registry.package(model, version)
        await asyncio.sleep(self.delay_s)
        if version == BROKEN or not wanted():
            raise LoadFailed("it is broken")
        loaded = LoadedVersion(
            package=package,
            runtime=Runtime(float(version)),
            options=self._options,
            writer=None,
            inline=True,
            batch_us=10.0,
        )
        self.open.append(loaded)
        return loaded

    async def unload(self, loaded: LoadedVersion, *_: Any) -> dict[str, Any]:
        loaded.close()
        self.open.remove(loaded)
        return {}

    async def earlier_champions(self, model: str) -> list[str]:
        from export.plan_log import previous_champions

        return previous_champions(self._registry.history(model))[::-1]


class Machine(RuleBasedStateMachine):
    """Steps against the registry and the repository API; `settle` lets the pool catch up."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(prefix="hardcase-f51-")
        root = Path(self.folder.name)
        self.registry = Registry(root / "registry")
        for version in VERSIONS:
            self.registry.add(PACKAGES[version])
        self.options = ServingOptions(
            registry=str(root / "registry"),
            records="",
            keep_previous_s=0.0,
            capture=None,
            runtime=RuntimeOptions(device="cpu"),
            challenger=ChallengerOptions(shadow_delay_ms=0.0, shadow_time_share=1.0),
        )
        self.pins: set[str] = set()
        self.asked = self.answered = 0
        self.seed = itertools.count()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.registry.promote("digits", "1", author="test")
        self.pool = Pool(self.options, self.registry)
        self.loader = Loader(self.registry, self.options)
        self.pool._loader = self.loader  # type: ignore[assignment]
        self.plane = DataPlane(pool=self.pool, options=self.options, auth=Authenticator(self.options.auth), writer=None)

        async def begin() -> None:
            await self.pool._follow()
            await self.pool.settled(10)

        self.run(begin())

    # ---- what people do

    @rule(version=version_of_machine)
    def promote(self, version: str) -> None:
        if version in self.registry.versions("digits"):
            self.registry.promote("digits", version, author="test")

    @rule()
    def roll_back(self) -> None:
        with contextlib.suppress(RegistryError):  # nothing to go back to
            self.registry.rollback("digits", author="test")

    @rule(
        version=version_of_machine,
        mode=st.sampled_from([ChallengerMode.SHADOW, ChallengerMode.CANARY]),
        percent=st.sampled_from([0.0, 10.0, 50.0, 100.0]),
    )
    def challenge(self, version: str, mode: ChallengerMode, percent: float) -> None:
        with contextlib.suppress(HardcaseError):  # it is the champion, or gone
            self.registry.challenge("digits", version, mode, percent, author="test")

    @rule()
    def withdraw(self) -> None:
        self.registry.withdraw("digits", author="test")

    @rule(version=version_of_machine)
    def pin(self, version: str) -> None:
        if version in self.registry.versions("digits"):
            self.registry.pin("digits", version, author="test")

    @rule(version=version_of_machine)
    def unpin(self, version: str) -> None:
        self.registry.unpin("digits", version, author="test")

    @rule(version=version_of_machine)
    def delete(self, version: str) -> None:
        try:
            self.registry.remove_version("digits", version)
        except HardcaseError:
            pass  # the plan names it, or it is gone
        else:
            self.pins.discard(version)

    @rule(version=version_of_machine)
    def add(self, version: str) -> None:
        self.registry.add(PACKAGES[version])

    @rule(version=version_of_machine)
    def load(self, version: str) -> None:
        known = version in self.registry.versions("digits")
        try:
            self.run(self.pool.load("digits", version))
        except NotFound:
            assert not known
        except Unavailable:
            assert version == BROKEN
            self.pins.add(version)
        else:
            self.pins.add(version)

    @rule(version=version_of_machine)
    def unload(self, version: str) -> None:
        try:
            self.run(self.pool.unload("digits", version))
        except HardcaseError:
            return  # not here, or the plan names it
        self.pins.discard(version)

    # ---- what the machine does

    @rule(delay_s=st.sampled_from([0.0, 0.001, 0.02]))
    def loads_take(self, delay_s: float) -> None:
        self.loader.delay_s = delay_s

    @rule()
    def look(self) -> None:
        self.run(self.pool._follow())

    @rule(count=st.integers(1, 20))
    def ask(self, count: int) -> None:
        """Requests in the middle of everything: all are answered, by a version that the plan allows or allowed."""
        reply = Collected()

        async def send() -> None:
            for _ in range(count):
                body, length = binary(images(1), outputs=[{"name": "logits", "parameters": {"binary_data": True}}])
                self.plane.accept(Call(model="digits", header_length=length), body, reply)
                if next(self.seed) % 3 == 0:
                    await asyncio.sleep(0)
            await reply.wait(count)

        self.run(send())
        for _, status, _, body in reply.answers:
            assert status == 200, body
            number = float(np.frombuffer(body[-40:], np.float32)[0])
            assert str(int(number)) == version_of(body), "the version that is named is the one that computed it"
        self.asked += count
        self.answered += len(reply.answers)

    @precondition(lambda self: hasattr(self, "pool"))
    @rule()
    def settle(self) -> None:
        """Let the pool catch up; then it must be where the model is."""

        async def catch_up() -> None:
            await self.pool._follow(force=True)
            for _ in range(500):
                served = self.pool.models["digits"]
                busy = any(
                    e.state in (VersionState.LOADING, VersionState.UNLOADING) for e in served.entries.values()
                ) or len(self.loader.open) != len(list(served.loaded()))
                if not busy:
                    return
                await asyncio.sleep(0.002)
            raise AssertionError([(e.version, e.state) for e in served.entries.values()])

        self.run(catch_up())
        served = self.pool.models["digits"]
        plan = self.registry.plan("digits")
        assert plan is not None
        assert served.plan == plan
        ready = {v for v, e in served.entries.items() if e.state is VersionState.READY}
        wanted = (set(plan.versions) | self.pins) - {BROKEN}
        # what answers while the plan's champion is broken stays, besides
        extra = {served.champion.version} if served.champion is not None and plan.champion == BROKEN else set()
        assert ready == wanted | extra, (ready, wanted, extra)
        if plan.champion != BROKEN:
            assert served.champion is not None
            assert served.champion.version == plan.champion
        elif served.champion is not None:
            assert served.behind
        on_duty = plan.challenger if plan.mode is not ChallengerMode.NONE else None
        if on_duty in (None, BROKEN) or served.champion is None or served.champion.version == on_duty:
            assert (served.canary, served.shadow) == (None, None)
        elif plan.mode is ChallengerMode.CANARY:
            assert served.canary is not None
            assert (served.canary.challenger.version, served.shadow) == (on_duty, None)
            assert served.canary.share.percent == plan.canary_percent
        else:
            assert served.shadow is not None
            assert (served.shadow.challenger.version, served.canary) == (on_duty, None)
            assert served.shadow.champion is served.champion

    @invariant()
    def the_champion_is_never_lost(self) -> None:
        if hasattr(self, "pool"):
            served = self.pool.models["digits"]
            assert served.champion is not None, "once something answered, something answers"
            assert not served.champion.runtime.closed  # type: ignore[attr-defined]

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.run(self.pool.stop())
            assert self.asked == self.answered
        self.loop.close()
        self.folder.cleanup()


PACKAGES: dict[str, Path] = {}


def test_the_pool_ends_where_the_registry_says(tmp_path: Path, monkeypatch: Any) -> None:
    for version in VERSIONS:
        PACKAGES[version] = p.digits_like_package(tmp_path, version=version, seed=1).dir
    monkeypatch.setattr(pool_module, "_UNLOAD_AFTER_S", 0.01)

    class Case(Machine.TestCase):  # type: ignore[misc, valid-type]
        settings = settings(
            max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        )

    Case("runTest").debug()
