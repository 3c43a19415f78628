"""The pool follows the registry: loads in the background, flips when READY, keeps bad versions from the champion."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.admission import admit
from export.contracts.datatypes import Datatype
from export.contracts.errors import Conflict, NotFound, Unavailable
from export.contracts.traffic import Variant
from export.package import Package
from export.registry import Registry
from monitoring.records.record import Event
from serving.loading import Ready, load_in_background
from serving.options import BatchOptions, RuntimeOptions, ServingOptions
from serving.pool import Pool
from serving.queueing.level import Batch
from serving.runtime.trial import LoadTimedOut
from serving.served import VersionState
from tests.support import packages as p


class EventList:
    """Takes events; everything else that a writer does is not asked of it here."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [e.kind for e in self.events]

    def of(self, kind: str) -> list[Event]:
        return [e for e in self.events if e.kind == kind]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def register(registry: Registry, *packages: Package, promote: bool = True) -> None:
    for package in packages:
        registry.add(package.dir)
        if promote:
            registry.promote(package.manifest.name, package.manifest.version, author="test")


def options(registry: Registry, **changes: Any) -> ServingOptions:
    base = ServingOptions(
        registry=str(registry.root),
        records="",
        plan_poll_s=0.05,
        keep_previous_s=0.0,
        capture=None,
        runtime=RuntimeOptions(device="cpu"),
    )
    return replace(base, **changes)


class TestPool(Pool):
    """A pool whose events can be read."""

    __test__ = False
    seen: EventList

    def __init__(self, options: ServingOptions, registry: Registry, **how: Any) -> None:
        super().__init__(options, registry, **how)
        self.seen = EventList()

    def _event(self, kind: str, model: str = "", version: str = "", detail: Any = None) -> None:
        self.seen.event(Event(kind=kind, time_ns=time.time_ns(), model=model, version=version, detail=detail or {}))


@asynccontextmanager
async def pool_of(registry: Registry, **how: Any) -> AsyncIterator[TestPool]:
    changes = how.pop("changes", {})
    pool = TestPool(options(registry, **changes), registry, **how)
    await pool.start()
    try:
        assert await pool.settled(60)
        yield pool
    finally:
        await pool.stop()


async def until(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


def state(pool: Pool, version: str, model: str = "digits") -> tuple[str, str]:
    for status in pool.index():
        if (status.name, status.version) == (model, version):
            return status.state, status.reason
    return "", ""


async def test_the_promoted_version_is_loaded_and_becomes_the_champion(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path))
    async with pool_of(registry) as pool:
        assert pool.ready()
        loaded, variant = pool.models["digits"].choose(None)
        assert (loaded.version, variant) == ("1", Variant.CHAMPION)
        assert pool.models["digits"].choose("1") == (loaded, Variant.PINNED)
        assert [s.state for s in pool.index()] == [VersionState.READY]
        (ready,) = pool.seen.of("version_ready")
        assert ready.detail["golden_rows"] == 4
        assert ready.detail["digest"] == registry.package("digits", "1").digest
        assert {"admit_s", "trial_s", "load_s", "prove_s"} <= set(ready.detail)


async def test_a_small_model_runs_on_the_loop_and_a_slow_one_on_a_thread(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path), p.slow_package(tmp_path))
    async with pool_of(registry) as pool:
        inline = {name: next(model.loaded()).inline for name, model in pool.models.items()}
        assert inline == {"digits": True, "slow": False}
    async with pool_of(registry, changes={"batch": BatchOptions(inline_below_us=0.0)}) as pool:
        assert not next(pool.models["digits"].loaded()).inline


async def test_a_promotion_loads_first_and_flips_then(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path))
    async with pool_of(registry) as pool:
        register(registry, p.digits_like_package(tmp_path, version="2", seed=7))
        await until(lambda: state(pool, "2")[0] == VersionState.LOADING)
        assert pool.models["digits"].choose(None)[0].version == "1"
        await until(lambda: pool.models["digits"].choose(None)[0].version == "2")
        await until(lambda: state(pool, "1") == ("", ""))
        await until(lambda: bool(pool.seen.of("version_unloaded")))
        unloaded = pool.seen.of("version_unloaded")
        assert [e.version for e in unloaded] == ["1"]
        assert [e.detail["from"] for e in pool.seen.of("plan_applied")] == [None, "1"]


async def test_a_rollback_takes_back_a_version_that_was_about_to_go(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path), p.digits_like_package(tmp_path, version="2", seed=7))
    async with pool_of(registry) as pool:
        second = pool.models["digits"].choose(None)[0]
        registry.rollback("digits", author="test")
        await until(lambda: state(pool, "2")[0] == VersionState.UNLOADING)
        registry.promote("digits", "2", author="test")
        await until(lambda: pool.models["digits"].choose(None)[0].version == "2")
        assert pool.models["digits"].choose(None)[0] is second  # never reloaded


def corrupt(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path, version="bad", seed=3), promote=False)
    file = registry.package("digits", "bad").dir / "model.onnx"
    file.chmod(0o644)
    file.write_bytes(os.urandom(file.stat().st_size))


def truncated(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path, version="bad", seed=3), promote=False)
    file = registry.package("digits", "bad").dir / "model.onnx"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-5])


def missing(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path, version="bad", seed=3), promote=False)
    (registry.package("digits", "bad").dir / "model.onnx").unlink()


def not_a_number(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.nan_package(tmp_path, version="bad"), promote=False)


def wrong_signature(registry: Registry, tmp_path: Path) -> None:
    """The digests are right and the file loads, but it is not the model that the manifest describes."""
    inputs = (replace(p.DIGITS_SIGNATURE.inputs[0], datatype=Datatype.FP64),)
    signature = replace(p.DIGITS_SIGNATURE, inputs=inputs)
    model = p.digits_like_model(3)
    register(registry, p.package_model(tmp_path, model, signature, name="digits", version="bad"), promote=False)


def worse_weights(registry: Registry, tmp_path: Path) -> None:
    """Golden cases of other weights."""
    x = np.random.default_rng(1).random((4, 1, 8, 8), dtype=np.float32)
    golden = p.golden_from_onnx(p.digits_like_model(1), {"x": x}, p.DIGITS_SIGNATURE)
    package = p.package_model(
        tmp_path, p.digits_like_model(2), p.DIGITS_SIGNATURE, name="digits", version="bad", golden=golden
    )
    register(registry, package, promote=False)


BAD = [
    (corrupt, "digest"),
    (truncated, "bytes, the manifest says"),
    (missing, "missing"),
    (not_a_number, "not finite"),
    (wrong_signature, "signature: input 'x' is FP64"),
    (worse_weights, "golden cases: output 'logits' differs"),
]


@pytest.mark.parametrize(("spoil", "reason"), BAD)
async def test_a_bad_version_is_refused_with_its_reason_and_the_champion_stays(
    registry: Registry, tmp_path: Path, spoil: Callable[[Registry, Path], None], reason: str
) -> None:
    register(registry, p.digits_like_package(tmp_path))
    async with pool_of(registry) as pool:
        champion = pool.models["digits"].choose(None)[0]
        spoil(registry, tmp_path)
        # by hand, past the registry's own checks
        plan = registry.plan("digits")
        assert plan is not None
        registry.set_plan(replace(plan, champion="bad"), expected_revision=plan.revision)
        await until(lambda: state(pool, "bad")[0] == VersionState.UNAVAILABLE)
        assert reason in state(pool, "bad")[1]
        assert str(tmp_path) not in state(pool, "bad")[1]
        assert pool.models["digits"].choose(None)[0] is champion
        assert pool.models["digits"].behind
        assert pool.ready()
        with pytest.raises(Unavailable, match="UNAVAILABLE"):
            pool.models["digits"].choose("bad")
        (event,) = pool.seen.of("version_unavailable")
        assert event.version == "bad"
        assert reason in str(event.detail["reason"])


async def test_a_fresh_process_serves_the_champion_before_the_bad_one(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path), p.digits_like_package(tmp_path, version="2", seed=5))
    register(registry, p.nan_package(tmp_path))
    async with pool_of(registry) as pool:
        await until(pool.ready)
        assert pool.models["digits"].choose(None)[0].version == "2"
        assert pool.models["digits"].behind
        assert [e.version for e in pool.seen.of("stand_in")] == ["2"]
        register(registry, p.digits_like_package(tmp_path, version="4", seed=9))
        await until(lambda: pool.models["digits"].choose(None)[0].version == "4")
        await until(lambda: state(pool, "2") == ("", ""))


async def test_a_model_without_any_good_version_is_not_ready_and_says_why(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.nan_package(tmp_path), p.echo_package(tmp_path))
    async with pool_of(registry) as pool:
        assert not pool.ready()
        with pytest.raises(Unavailable, match="not finite"):
            pool.models["digits"].choose(None)
        pool.models["echo"].choose(None)


async def test_a_refused_version_is_tried_again_when_the_plan_changes(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path))
    corrupt(registry, tmp_path)
    good = (p.digits_like_package(tmp_path, name="other", version="bad", seed=3).dir / "model.onnx").read_bytes()
    registry.promote("digits", "bad", author="test")
    async with pool_of(registry) as pool:
        assert state(pool, "bad")[0] == VersionState.UNAVAILABLE
        (registry.package("digits", "bad").dir / "model.onnx").write_bytes(good)
        await asyncio.sleep(0.3)
        assert state(pool, "bad")[0] == VersionState.UNAVAILABLE  # nothing has asked for it again
        registry.pin("digits", "1", author="test")
        await until(lambda: pool.models["digits"].choose(None)[0].version == "bad")


async def test_versions_that_the_plan_pins_answer_requests_that_name_them(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path), p.digits_like_package(tmp_path, version="2", seed=7))
    registry.add(p.digits_like_package(tmp_path, version="3", seed=8).dir)
    registry.pin("digits", "1", author="test")
    async with pool_of(registry) as pool:
        served = pool.models["digits"]
        assert served.choose("1")[0].version == "1"
        assert served.choose("1")[1] is Variant.PINNED
        assert served.choose(None)[0].version == "2"
        with pytest.raises(Unavailable, match="not loaded"):
            served.choose("3")
        with pytest.raises(NotFound, match="no version '4'"):
            served.choose("4")


async def test_the_repository_api_loads_and_unloads_beside_the_plan(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path))
    register(registry, p.digits_like_package(tmp_path, version="2", seed=7), p.nan_package(tmp_path), promote=False)
    async with pool_of(registry) as pool:
        await pool.load("digits", "2")
        assert pool.models["digits"].choose("2")[0].version == "2"
        assert pool.models["digits"].choose(None)[0].version == "1"
        await pool.load("digits")  # what the plan names is there already
        with pytest.raises(Unavailable, match="not finite"):
            await pool.load("digits", "nan")
        for model, version in (("digits", "9"), ("nothing", None)):
            with pytest.raises(NotFound):
                await pool.load(model, version)
        with pytest.raises(Conflict, match="names version '1'"):
            await pool.unload("digits", "1")
        with pytest.raises(NotFound, match="not loaded"):
            await pool.unload("digits", "9")
        await pool.unload("digits")
        await until(lambda: state(pool, "2") == ("", ""))
        with pytest.raises(Conflict):
            await pool.unload("digits")


async def test_a_registered_model_without_a_plan_is_listed_and_does_not_make_the_pool_unready(
    registry: Registry, tmp_path: Path
) -> None:
    register(registry, p.digits_like_package(tmp_path), promote=False)
    async with pool_of(registry) as pool:
        assert pool.ready()
        with pytest.raises(Unavailable, match="no version of it is promoted"):
            pool.models["digits"].choose(None)
        await pool.load("digits")
        assert pool.models["digits"].choose("1")[1] is Variant.PINNED
        with pytest.raises(Unavailable):
            pool.models["digits"].choose(None)


async def test_only_the_models_of_the_settings_are_hosted(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path), p.echo_package(tmp_path))
    async with pool_of(registry, changes={"models": ("echo",)}) as pool:
        assert list(pool.models) == ["echo"]


async def test_an_unreadable_plan_stays_as_it_was_and_hinders_no_other_model(
    registry: Registry, tmp_path: Path
) -> None:
    register(registry, p.digits_like_package(tmp_path))
    async with pool_of(registry) as pool:
        champion = pool.models["digits"].choose(None)[0]
        bad = registry.root / "models" / "digits" / "plans" / "00000002.json"
        bad.write_text("{")
        await until(lambda: "registry_unreadable" in pool.seen.kinds())
        assert pool.models["digits"].choose(None)[0] is champion
        register(registry, p.echo_package(tmp_path))
        await until(lambda: state(pool, "1", "echo")[0] == VersionState.READY)
        bad.unlink()
        await until(lambda: "registry_readable" in pool.seen.kinds())
        assert pool.seen.kinds().count("registry_unreadable") == 1


async def test_stop_leaves_no_thread_and_no_version(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.slow_package(tmp_path))
    async with pool_of(registry) as pool:
        loaded = pool.models["slow"].choose(None)[0]
    assert pool.models == {}
    assert not pool.index()
    with pytest.raises(Exception, match="unloaded"):
        loaded.runtime.run([np.zeros((1, 64), np.float32)], (0,))


async def test_admission_that_hangs_ends_with_the_loads_time_limit(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path), p.echo_package(tmp_path))
    gate = {"closed": True}

    def slow_admit(folder: Path, limits: Any) -> Any:
        while "echo" in str(folder) and gate["closed"]:
            time.sleep(0.02)
        return admit(folder, limits)

    async def ends_soon() -> Ready:
        return await load_in_background(lambda: slow_admit(Path("echo"), None), 0.3)

    started = time.monotonic()
    with pytest.raises(LoadTimedOut):
        await ends_soon()
    assert time.monotonic() - started < 5
    pool = TestPool(
        options(registry, runtime=RuntimeOptions(device="cpu", load_timeout_s=30)), registry, admit=slow_admit
    )
    await pool.start()
    try:
        await until(lambda: state(pool, "1", "digits")[0] == VersionState.READY)  # the one that hangs is not in its way
        assert state(pool, "1", "echo")[0] == VersionState.LOADING
        assert not pool.ready()
        gate["closed"] = False
        await until(pool.ready)
    finally:
        gate["closed"] = False
        await pool.stop()


async def test_what_a_load_brings_after_its_time_is_closed() -> None:
    closed = []

    class Late:
        class runtime:
            @staticmethod
            def close() -> None:
                closed.append(True)

    def work() -> Any:
        time.sleep(0.4)
        return Late()

    with pytest.raises(LoadTimedOut):
        await load_in_background(work, 0.1)
    await until(lambda: bool(closed), 5)


async def test_a_batch_that_never_ends_and_a_dead_device_are_reported(registry: Registry, tmp_path: Path) -> None:
    register(registry, p.digits_like_package(tmp_path))
    async with pool_of(registry) as pool:
        loaded = pool.models["digits"].choose(None)[0]
        assert pool.healthy()
        assert pool.stuck(1.0) is None
        flight = Batch()
        flight.begun_ns = time.perf_counter_ns() - 2_000_000_000
        loaded.batcher._flights.append(flight)
        assert pool.stuck(1.0) == "digits/1"
        assert pool.stuck(3.0) is None
        loaded.runtime.healthy = False
        assert not pool.healthy()
        loaded.batcher._flights.clear()
