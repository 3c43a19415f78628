"""The champion before stays in memory for a while: a roll-back loads nothing, and room is made in need."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from export.registry import Registry
from serving.runtime.memory import MemoryRefused
from serving.served import ServedModel, VersionEntry, VersionState
from serving.standby import KEPT, Standby
from serving.traffic_plans import Looks
from tests.serving.test_pool import pool_of, register, state, until
from tests.support import packages as p


async def test_a_roll_back_finds_the_version_before_in_memory_and_a_third_takes_its_place(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    one, two, three = (p.digits_like_package(tmp_path, version=v, seed=int(v)) for v in "123")
    register(registry, one)
    async with pool_of(registry, changes={"keep_previous_s": 600.0}) as pool:
        first = pool.models["digits"].choose(None)[0]
        register(registry, two)
        await until(lambda: state(pool, "1") == (VersionState.UNLOADING, KEPT))
        registry.rollback("digits", author="test")
        await until(lambda: state(pool, "1") == (VersionState.READY, ""))
        assert pool.models["digits"].choose(None)[0] is first  # never reloaded
        assert len(pool.seen.of("version_ready")) == 2
        await until(lambda: state(pool, "2") == (VersionState.UNLOADING, KEPT))
        register(registry, three)
        await until(lambda: state(pool, "2") == ("", ""))  # before the third answers, or soon after
        await until(lambda: state(pool, "1") == (VersionState.UNLOADING, KEPT))


async def test_what_is_kept_goes_when_its_time_is_over() -> None:
    served, entry = ServedModel("m"), VersionEntry("1", 1)
    served.entries["1"] = entry
    standby = Standby(0.05)
    standby.replaced(served, _version("1"))
    keeping = asyncio.create_task(standby.keep(served, entry))
    await asyncio.sleep(0)
    assert entry.reason == KEPT
    await asyncio.wait_for(keeping, 10)
    assert entry.reason == ""
    await asyncio.wait_for(standby.keep(served, VersionEntry("0", 1)), 10)  # was not the one before: not kept


async def test_a_load_that_finds_no_room_takes_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.standby._AGAIN_S", 0.01)
    served, entry = ServedModel("m"), VersionEntry("1", 1)
    served.entries["1"] = entry
    standby = Standby(600.0)
    standby.replaced(served, _version("1"))
    keeping = asyncio.create_task(standby.keep(served, entry))
    await asyncio.sleep(0)

    async def load() -> Any:
        if not keeping.done():
            raise MemoryRefused("no room")
        return "loaded"

    assert await standby.make_room(load) == "loaded"

    async def never() -> Any:
        raise MemoryRefused("no room")

    with pytest.raises(MemoryRefused):  # nothing is kept any more: at once
        await asyncio.wait_for(standby.make_room(never), 1)


def test_looks_that_take_long_are_taken_less_often(tmp_path: Path) -> None:
    quick = Looks(Registry(tmp_path / "registry"), lambda model: True, 0.1)
    quick.look(None)
    assert 0.1 <= quick.wait_s < 5

    class Slow(Registry):
        def generation(self) -> str:
            for _ in range(200_000):
                pass
            return "x"

    slow = Looks(Slow(tmp_path / "registry"), lambda model: True, 0.0001)
    assert slow.look("x") is None
    assert slow.wait_s > 0.02


def _version(name: str) -> Any:
    class Version:
        version = name

    return Version()
