"""Loads in order, one revision after the other: what is outdated is never flipped to, what is bad never answers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from export.admission import admit
from export.admission_limits import AdmissionLimits
from export.contracts.errors import AdmissionRefused
from export.contracts.traffic import ChallengerMode, Variant
from export.registry import Registry
from serving.options import RuntimeOptions
from serving.served import VersionState
from tests.serving.test_pool import pool_of, register, state, until
from tests.support import packages as p


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


class Gate:
    """An admission check that waits until it is let through, and notes who came."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.doors: dict[str, threading.Event] = {}

    def __call__(self, folder: Path, limits: AdmissionLimits) -> Any:
        version = folder.name
        self.came.append(version)
        door = self.doors.get(version)
        if door is not None:
            assert door.wait(30)
        return admit(folder, limits)


async def test_a_version_is_admitted_tried_loaded_and_proved_before_it_answers(
    registry: Registry, tmp_path: Path
) -> None:
    gate = Gate()
    gate.doors["2"] = threading.Event()
    register(registry, p.digits_like_package(tmp_path))
    async with pool_of(registry, admit=gate) as pool:
        register(registry, p.digits_like_package(tmp_path, version="2", seed=7))
        await until(lambda: "2" in gate.came)
        assert state(pool, "2")[0] == VersionState.LOADING
        assert pool.models["digits"].choose(None)[0].version == "1"
        gate.doors["2"].set()
        await until(lambda: pool.models["digits"].choose(None)[0].version == "2")
        kinds = [(e.kind, e.version) for e in pool.seen.events if e.version == "2"]
        assert kinds == [("plan_seen", "2"), ("version_ready", "2"), ("plan_applied", "2")]
        (ready,) = [e for e in pool.seen.of("version_ready") if e.version == "2"]
        steps = [k for k in ready.detail if k.endswith("_s")]
        assert steps == ["admit_s", "trial_s", "load_s", "prove_s"]
        assert ready.detail["golden_rows"] == 4


async def test_a_newer_revision_during_a_load_supersedes_it_and_the_outdated_one_never_answers(
    registry: Registry, tmp_path: Path
) -> None:
    gate = Gate()
    gate.doors["2"] = threading.Event()
    register(registry, p.digits_like_package(tmp_path))
    async with pool_of(registry, admit=gate) as pool:
        register(registry, p.digits_like_package(tmp_path, version="2", seed=7))
        await until(lambda: "2" in gate.came)
        register(registry, p.digits_like_package(tmp_path, version="3", seed=9))
        await until(lambda: pool.models["digits"].choose(None)[0].version == "3")
        gate.doors["2"].set()
        await until(lambda: state(pool, "2") == ("", "") and state(pool, "1") == ("", ""))
        answered = [e.version for e in pool.seen.of("plan_applied")]
        assert answered == ["1", "3"], "no flip to the outdated one, whenever its load ends"
        assert not [e for e in pool.seen.of("version_ready") if e.version == "2"], "the load stopped between two steps"


async def test_a_rollback_during_a_load_leaves_the_champion_alone(registry: Registry, tmp_path: Path) -> None:
    gate = Gate()
    gate.doors["2"] = threading.Event()
    register(registry, p.digits_like_package(tmp_path))
    async with pool_of(registry, admit=gate) as pool:
        register(registry, p.digits_like_package(tmp_path, version="2", seed=7))
        await until(lambda: "2" in gate.came)
        registry.rollback("digits", author="test")
        await until(lambda: pool.models["digits"].plan.revision == 3)  # type: ignore[union-attr]
        gate.doors["2"].set()
        await until(lambda: state(pool, "2") == ("", ""))
        assert [e.version for e in pool.seen.of("plan_applied")] == ["1"]


async def test_a_challenger_goes_on_duty_when_it_is_ready_and_off_when_it_is_withdrawn(
    registry: Registry, tmp_path: Path
) -> None:
    gate = Gate()
    gate.doors["2"] = threading.Event()
    register(registry, p.digits_like_package(tmp_path))
    registry.add(p.digits_like_package(tmp_path, version="2", seed=7).dir)
    async with pool_of(registry, admit=gate) as pool:
        served = pool.models["digits"]
        registry.challenge("digits", "2", ChallengerMode.CANARY, 100.0, author="test")
        await until(lambda: "2" in gate.came)
        assert served.canary is None, "it is not READY: the champion answers everybody"
        assert served.evidence is not None
        gate.doors["2"].set()
        await until(lambda: served.canary is not None)
        assert served.choose(None)[1] is Variant.CHAMPION
        registry.challenge("digits", "2", ChallengerMode.SHADOW, author="test")
        await until(lambda: served.shadow is not None)
        assert served.canary is None
        registry.promote("digits", "2", author="test")
        await until(lambda: served.choose(None)[0].version == "2")
        assert (served.canary, served.shadow, served.evidence) == (None, None, None)
        duty = [(e.version, e.detail["mode"]) for e in pool.seen.of("challenger_on_duty")]
        assert duty == [("2", "canary"), ("2", "shadow")]
        await until(lambda: state(pool, "1") == ("", "") and bool(pool.seen.of("version_unloaded")))
        assert [e.version for e in pool.seen.of("version_unloaded")] == ["1"]


async def test_a_challenger_that_is_refused_leaves_everybody_with_the_champion(
    registry: Registry, tmp_path: Path
) -> None:
    register(registry, p.digits_like_package(tmp_path))
    registry.add(p.nan_package(tmp_path).dir)
    async with pool_of(registry) as pool:
        registry.challenge("digits", "nan", ChallengerMode.CANARY, 50.0, author="test")
        await until(lambda: state(pool, "nan")[0] == VersionState.UNAVAILABLE)
        assert "not finite" in state(pool, "nan")[1], "golden cases stop it before any request sees it"
        assert pool.models["digits"].canary is None
        assert pool.models["digits"].choose(None)[0].version == "1"


def hang(folder: Path, limits: AdmissionLimits) -> Any:
    if folder.name != "1":
        time.sleep(30)
    return admit(folder, limits)


def run_out_of_memory(folder: Path, limits: AdmissionLimits) -> Any:
    if folder.name != "1":
        raise AdmissionRefused("memory: the check passed its limit")
    return admit(folder, limits)


def vanish(registry: Registry) -> None:
    (registry.package("digits", "2").dir / "model.onnx").unlink()


@pytest.mark.fault
@pytest.mark.parametrize(
    ("check", "before", "reason"),
    [
        (hang, None, "did not finish within"),
        (run_out_of_memory, None, "memory"),
        (admit, vanish, "model.onnx"),
    ],
)
async def test_what_cannot_be_loaded_is_unavailable_with_its_reason_in_time(
    registry: Registry,
    tmp_path: Path,
    check: Callable[..., Any],
    before: Callable[[Registry], None] | None,
    reason: str,
) -> None:
    register(registry, p.digits_like_package(tmp_path))
    runtime = RuntimeOptions(device="cpu", load_timeout_s=6.0)
    async with pool_of(registry, admit=check, changes={"runtime": runtime}) as pool:
        registry.add(p.digits_like_package(tmp_path, version="2", seed=7).dir)
        if before is not None:
            before(registry)
        begun = time.monotonic()
        plan = registry.plan("digits")
        assert plan is not None
        registry.set_plan(replace(plan, champion="2", author="by hand"), expected_revision=plan.revision)
        await until(lambda: state(pool, "2")[0] == VersionState.UNAVAILABLE, 60)
        assert time.monotonic() - begun < 60
        assert reason in state(pool, "2")[1]
        assert str(tmp_path) not in state(pool, "2")[1]
        assert pool.models["digits"].choose(None)[0].version == "1"
        await asyncio.sleep(0.3)
        assert len(pool.seen.of("version_unavailable")) == 1, "the same revision is not tried again and again"


@pytest.mark.slow
async def test_a_version_of_200_mb_loaded_and_unloaded_ten_times_leaves_no_memory_behind(
    registry: Registry, tmp_path: Path
) -> None:
    register(registry, p.digits_like_package(tmp_path, name="slow", version="1"), promote=False)
    big = p.slow_package(tmp_path, name="big", version="1", width=2048, layers=13)
    register(registry, big, promote=False)
    small = p.slow_package(tmp_path, name="big", version="small", width=64, layers=1)
    register(registry, small)
    process = psutil.Process()
    weights = sum(f.stat().st_size for f in big.dir.iterdir())
    assert weights > 200_000_000
    async with pool_of(registry) as pool:
        seen: list[int] = []
        for _ in range(10):
            await pool.load("big", "1")
            loaded = process.memory_info().rss
            await pool.unload("big", "1")
            await until(lambda: state(pool, "1", "big") == ("", ""), 30)
            count = len(seen) + 1
            await until(lambda n=count: len(pool.seen.of("version_unloaded")) == n, 30)  # type: ignore[misc]
            seen.append(process.memory_info().rss)
            assert loaded - seen[-1] > weights // 2, "it was there, and went"
        assert max(seen[5:]) - seen[2] < 48 << 20, [s >> 20 for s in seen]
        freed = [e.detail["memory_freed_bytes"] for e in pool.seen.of("version_unloaded")]
        assert all(isinstance(f, int) and f > weights // 2 for f in freed), freed
