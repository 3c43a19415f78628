"""Machines that share a registry through a bucket: one history, whole packages, and life without the bucket."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from export.bucket_registry import BucketRegistry
from export.contracts.errors import Conflict, RegistryError
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.registry import Registry
from export.storage.objects import MemoryStore, StorageUnavailable
from tests.support import packages as p
from tests.support.bucket import Harm, Proxy, store


def machines(tmp_path: Path, made: object, count: int = 2) -> list[BucketRegistry]:
    return [BucketRegistry(tmp_path / f"m{i}", made) for i in range(count)]  # type: ignore[arg-type]


def package(tmp_path: Path, version: str = "1", seed: int = 0):  # type: ignore[no-untyped-def]
    return p.digits_like_package(tmp_path / f"made-{secrets.token_hex(4)}", version=version, seed=seed)


def test_a_version_and_its_plan_come_to_the_other_machine(tmp_path: Path):
    here, there = machines(tmp_path, MemoryStore())
    first, second = here.add(package(tmp_path).dir), here.add(package(tmp_path, "2", 1).dir)
    here.promote("digits", "1", author="ann")
    here.challenge("digits", "2", ChallengerMode.SHADOW, author="ann")
    here.set_alias("digits", "best", "2")
    pulled = there.pull()
    assert (pulled.changed, pulled.versions, pulled.plans, pulled.problems) == (True, 2, 2, ())
    assert there.history("digits") == here.history("digits")
    assert there.package("digits", "2").digest == second.digest
    assert there.aliases("digits") == {"best": "2"}
    there.package("digits", "1").verify()
    assert first.digest == there.package("digits", "1").digest
    # it is a plain registry for whoever reads the folder
    assert Registry(there.root).plan("digits") == here.plan("digits")
    assert there.pull(unless_same=True) == there.pull(unless_same=True)
    assert not there.pull().changed


def test_looking_costs_one_request_while_nothing_changes(tmp_path: Path):
    class Counting(MemoryStore):
        calls: list[str] = []  # noqa: RUF012

        def __getattribute__(self, name: str):  # type: ignore[no-untyped-def]
            if name in ("get", "get_if_changed", "list", "exists"):
                Counting.calls.append(name)
            return super().__getattribute__(name)

    made = Counting()
    here, there = machines(tmp_path, made)
    here.add(package(tmp_path).dir)
    there.pull(unless_same=True)
    Counting.calls.clear()
    for _ in range(5):
        assert not there.pull(unless_same=True).changed
    assert Counting.calls.count("list") == 0
    assert Counting.calls.count("get_if_changed") == 5
    here.promote("digits", "1", author="ann")
    assert there.pull(unless_same=True).plans == 1


def test_two_machines_that_decide_at_once_do_not_overwrite_each_other(tmp_path: Path):
    here, there = machines(tmp_path, MemoryStore())
    here.add(package(tmp_path).dir)
    here.promote("digits", "1", author="ann")
    there.pull()
    plan = there.plan("digits")
    assert plan is not None
    here.pin("digits", "1", author="ann")
    with pytest.raises(Conflict):  # what `there` saw is no longer in force
        there.set_plan(TrafficPlan(model="digits", revision=0, champion="1", author="bob"), expected_revision=1)
    there.unpin("digits", "1", author="bob")  # decided on what the bucket holds, not on the old copy
    here.pull()
    assert here.history("digits") == there.history("digits")
    assert [x.author for x in here.history("digits")] == ["ann", "ann", "bob"]


def test_in_a_crowd_every_change_is_kept_once(tmp_path: Path, server: str):
    made = store(server, secrets.token_hex(4))
    crowd = machines(tmp_path, made, 3)
    crowd[0].add(package(tmp_path).dir)
    crowd[0].promote("digits", "1", author="start")

    def act(number: int) -> int:
        done = 0
        for turn in range(2):
            registry = crowd[number]
            while True:
                try:
                    registry.pull()
                    plan = registry.plan("digits")
                    assert plan is not None
                    pinned = ("1",) if not plan.pinned else ()
                    registry.set_plan(
                        TrafficPlan(model="digits", revision=0, champion="1", pinned=pinned, author=f"{number}.{turn}"),
                        expected_revision=plan.revision,
                    )
                    done += 1
                    break
                except Conflict:
                    continue
        return done

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(act, range(3))) == 6
    for registry in crowd:
        registry.pull()
    histories = {registry.history("digits") for registry in crowd}
    assert len(histories) == 1
    authors = [plan.author for plan in histories.pop()]
    assert sorted(authors[1:]) == sorted(f"{n}.{t}" for n in range(3) for t in range(2))


def test_the_same_version_with_another_content_is_refused_everywhere(tmp_path: Path):
    here, there = machines(tmp_path, MemoryStore())
    here.add(package(tmp_path).dir)
    with pytest.raises(RegistryError, match="another content"):
        there.add(package(tmp_path, "1", seed=7).dir)
    assert there.versions("digits") == ()
    here.add(package(tmp_path).dir)  # again: nothing


def test_a_removed_version_goes_everywhere_and_its_name_is_used_up(tmp_path: Path):
    here, there = machines(tmp_path, MemoryStore())
    here.add(package(tmp_path).dir)
    there.pull()
    here.remove_version("digits", "1")
    there.pull()
    assert there.versions("digits") == ()
    with pytest.raises(RegistryError, match="removed"):
        there.add(package(tmp_path).dir)


def test_a_damaged_file_is_not_taken_over_and_the_plan_waits_for_it(tmp_path: Path):
    made = MemoryStore()
    here, there = machines(tmp_path, made)
    here.add(package(tmp_path).dir)
    here.promote("digits", "1", author="ann")
    there.pull()
    second = here.add(package(tmp_path, "2", 1).dir)
    here.promote("digits", "2", author="ann")
    key = f"blobs/sha256/{second.manifest.files[-1].sha256}"
    good = made.objects[key]
    made.objects[key] = good[:-1] + bytes([good[-1] ^ 1])
    pulled = there.pull()
    assert pulled.problems
    assert there.versions("digits") == ("1",)
    plan = there.plan("digits")
    assert plan is not None
    assert plan.champion == "1"
    made.objects[key] = good
    assert there.pull(unless_same=True).problems == ()
    assert there.plan("digits") == here.plan("digits")


def test_a_folder_moves_into_an_empty_bucket_and_not_into_anothers(tmp_path: Path):
    made = MemoryStore()
    plain = Registry(tmp_path / "m0")
    plain.add(package(tmp_path).dir)
    plain.promote("digits", "1", author="ann")
    plain.set_alias("digits", "best", "1")
    here, there = machines(tmp_path, made)
    assert here.adopt() == 1
    assert here.adopt() == 0
    there.pull()
    assert there.history("digits") == plain.history("digits")
    assert there.aliases("digits") == {"best": "1"}
    other = Registry(tmp_path / "other")
    other.add(package(tmp_path).dir)
    other.promote("digits", "1", author="eve")
    with pytest.raises(Conflict):
        BucketRegistry(other.root, made).adopt()


def test_without_the_bucket_nothing_changes_and_everything_is_read(tmp_path: Path, proxy: Proxy):
    made = store(f"http://127.0.0.1:{proxy.port}", secrets.token_hex(4), attempts=2)
    (here,) = machines(tmp_path, made, 1)
    here.add(package(tmp_path).dir)
    here.promote("digits", "1", author="ann")
    proxy.harm(*[Harm.ERROR] * 20)
    before = here.generation()
    for act in (
        here.pull,
        lambda: here.pin("digits", "1", author="x"),
        lambda: here.add(package(tmp_path).dir),
    ):
        with pytest.raises(StorageUnavailable):
            act()
    assert here.generation() == before
    proxy.planned.clear()
    # a promotion whose acknowledgement is lost is neither lost nor done twice
    proxy.harm(Harm.LOSE_ACK, method="PUT")
    here.pin("digits", "1", author="x")
    assert proxy.done[Harm.LOSE_ACK] == 1
    assert [x.author for x in here.history("digits")] == ["ann", "x"]
    here.pull()
