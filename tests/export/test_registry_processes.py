"""Many processes and threads write one registry: every revision has one author, nothing is torn, losers are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from export import plan_log
from export.contracts.errors import Conflict, RegistryError
from export.contracts.traffic import TrafficPlan
from export.registry import Registry
from tests.support import packages as p

WRITER = """
import json, sys
from export.contracts.errors import Conflict
from export.contracts.traffic import TrafficPlan
from export.registry import Registry
root, author, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
registry, won, lost = Registry(root), [], 0
while len(won) < rounds:
    seen = registry.plan("digits")
    revision = seen.revision if seen else 0
    version = "2" if seen and seen.champion == "1" else "1"
    try:
        plan = TrafficPlan(model="digits", revision=0, champion=version, author=author)
        won.append(registry.set_plan(plan, expected_revision=revision).revision)
    except Conflict:
        lost += 1
print(json.dumps({"won": won, "lost": lost}))
"""
ADDER = """
import sys
from export.registry import Registry
registry = Registry(sys.argv[1])
for folder in sys.argv[2:]:
    registry.add(folder)
"""
ENDLESS = WRITER.replace("while len(won) < rounds:", "print('on', flush=True)\nwhile True:")


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def two_versions(root: Path) -> Registry:
    registry = Registry(root / "registry")
    for version in "12":
        registry.add(p.digits_like_package(root / "made", version=version, seed=int(version)).dir)
    return registry


def test_four_processes_race_for_revisions_and_each_revision_has_one_winner(tmp_path: Path) -> None:
    registry, rounds = two_versions(tmp_path), 25
    writers = [start(WRITER, str(registry.root), f"w{i}", str(rounds)) for i in range(4)]
    results = [json.loads(w.communicate(timeout=120)[0]) for w in writers]
    won = sorted(revision for r in results for revision in r["won"])
    assert won == list(range(1, 4 * rounds + 1))
    history = registry.history("digits")
    assert [h.revision for h in history] == won
    for i, result in enumerate(results):
        assert [h.revision for h in history if h.author == f"w{i}"] == sorted(result["won"])


def test_without_the_lock_linking_alone_still_lets_one_writer_win(tmp_path: Path) -> None:
    """The positive control of the second guard: two writers who both believe that revision 1 is free."""
    plan_log.append(tmp_path, TrafficPlan(model="m", revision=1, champion="a"))
    with pytest.raises(Conflict, match="revision 1"):
        plan_log.append(tmp_path, TrafficPlan(model="m", revision=1, champion="b"))
    assert plan_log.read(tmp_path, 1).champion == "a"
    assert [x.name for x in tmp_path.iterdir()] == ["00000001.json"]


def test_processes_that_add_the_same_and_different_versions_do_not_disturb_each_other(tmp_path: Path) -> None:
    folders = [str(p.digits_like_package(tmp_path / "made", version=str(v), seed=v).dir) for v in range(6)]
    adders = [start(ADDER, str(tmp_path / "registry"), *folders[i:], *folders[:i]) for i in range(3)]
    assert [a.wait(timeout=120) for a in adders] == [0, 0, 0]
    for adder in adders:
        adder.communicate()
    registry = Registry(tmp_path / "registry")
    assert len(registry.versions("digits")) == 6
    for version in registry.versions("digits"):
        registry.package("digits", version).verify()
    leftovers = [x.name for x in (registry.root / "models" / "digits" / "versions").iterdir() if x.name[0] == "."]
    assert leftovers == []


def test_a_writer_killed_at_any_time_leaves_whole_plans_and_a_free_lock(tmp_path: Path) -> None:
    registry = two_versions(tmp_path)
    for round_ in range(4):
        writer = start(ENDLESS, str(registry.root), "victim", "0")
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05 + 0.03 * round_)
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.wait(timeout=30) == -signal.SIGKILL
        writer.stdout.close()
        history = registry.history("digits")
        assert history, "the victim wrote nothing: the test would prove nothing"
        assert [h.revision for h in history] == list(range(1, len(history) + 1))
        other = "1" if history[-1].champion == "2" else "2"
        plan = registry.promote("digits", other, author="survivor")
        assert plan.revision == len(history) + 1


class RegistryMachine(RuleBasedStateMachine):
    """The registry against a model that is a list of champions and a few sets."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        self.made = {v: p.digits_like_package(root / "made", version=v, seed=int(v), golden_rows=0) for v in "123"}
        self.registry = Registry(root / "registry")
        self.versions: set[str] = set()
        self.stack: list[str] = []
        self.revision = 0
        self.pins: set[str] = set()

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(version=st.sampled_from("123"))
    def add(self, version: str) -> None:
        self.registry.add(self.made[version].dir)
        self.versions.add(version)

    @rule(version=st.sampled_from("123"))
    def promote(self, version: str) -> None:
        try:
            self.registry.promote("digits", version, author="m")
        except RegistryError:
            assert version not in self.versions
            return
        assert version in self.versions
        if not self.stack or self.stack[-1] != version:
            self.stack.append(version)
            self.revision += 1

    @rule()
    def rollback(self) -> None:
        kept = [v for v in self.stack[:-1] if v in self.versions]
        try:
            plan = self.registry.rollback("digits", author="m")
        except RegistryError:
            assert not kept
            return
        assert plan.champion == kept[-1]
        while self.stack[-1] != kept[-1] or len(self.stack) > self._last_index(kept[-1]):
            self.stack.pop()
        self.revision += 1

    def _last_index(self, version: str) -> int:
        below = self.stack[:-1]
        return max((i + 1 for i, v in enumerate(below) if v == version), default=len(self.stack))

    @precondition(lambda self: self.versions)
    @rule(version=st.sampled_from("123"))
    def pin(self, version: str) -> None:
        if version in self.versions and version not in self.pins:
            self.registry.pin("digits", version, author="m")
            self.pins.add(version)
            self.revision += 1

    @rule(version=st.sampled_from("123"))
    def remove(self, version: str) -> None:
        used = version in self.pins or (self.stack and self.stack[-1] == version)
        try:
            self.registry.remove_version("digits", version)
        except RegistryError:
            assert used or version not in self.versions
            return
        assert version in self.versions
        assert not used
        self.versions.discard(version)

    @invariant()
    def agrees(self) -> None:
        plan = self.registry.plan("digits")
        assert (plan.revision if plan else 0) == self.revision
        assert (plan.champion if plan else None) == (self.stack[-1] if self.stack else None)
        assert set(self.registry.versions("digits")) == self.versions
        assert len(self.registry.history("digits")) == self.revision
        assert set(plan.versions if plan else ()) <= self.versions


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
