"""F51: people and roll-outs change one model's plan in any order, with crashes; what is there is what was decided."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from export.contracts.errors import HardcaseError
from export.contracts.traffic import ChallengerMode
from monitoring.rollout.plans import AUTHOR
from monitoring.rollout.policy import RolloutState
from monitoring.rollout.rows import Ask, rollouts, running
from tests.support.rollout_world import MODEL, QUICK, Character, World

BRISK = replace(QUICK, steps=tuple(replace(step, dwell_s=1.0, requests=1, prove=()) for step in QUICK.steps))


class Machine(RuleBasedStateMachine):
    """One model, two versions, one monitor."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(folder=Path(self.folder.name))

    def teardown(self) -> None:
        self.world.store.close()
        self.folder.cleanup()

    @rule()
    def begin(self) -> None:
        champion = self.world.plans.now.champion
        with suppress(HardcaseError):
            self.world.begin(BRISK, candidate="1" if champion == "2" else "2", champion=champion)

    @rule(what=st.sampled_from(list(Ask)))
    def ask(self, what: Ask) -> None:
        with self.world.store.read() as connection:
            found = running(connection, MODEL)
        if found:
            with suppress(HardcaseError):
                self.world.ask(found[0].id, what)

    @rule(change=st.sampled_from(["promote", "withdraw", "canary", "pin", "rollback"]))
    def person(self, change: str) -> None:
        plans = self.world.plans
        now = replace(plans.now, author="eve", reason=change)
        alone = replace(now, challenger=None, mode=ChallengerMode.NONE, canary_percent=0.0)
        other = "1" if now.champion == "2" else "2"
        wanted = {
            "promote": replace(alone, champion=other),
            "withdraw": alone,
            "canary": replace(now, challenger=other, mode=ChallengerMode.CANARY, canary_percent=30.0),
            "pin": replace(now, pinned=("3",)),
        }
        if change == "rollback":
            plans.rollback(MODEL, author="eve", reason="no")
        else:
            plans.write(wanted[change], expected_revision=now.revision)

    @rule(die=st.sampled_from(["", "", "before", "after"]), bad=st.booleans())
    def second(self, die: str, bad: bool) -> None:
        self.world.characters["2"] = Character(errors=0.9 if bad else 0.0)
        before = len(self.world.plans.history)
        self.world.plans.die = die
        with suppress(KeyboardInterrupt):
            self.world.second(40)
        self.world.plans.die = ""
        for plan in self.world.plans.history[before:]:
            assert plan.author == AUTHOR
            assert plan.pinned == self.world.plans.history[before - 1].pinned

    @invariant()
    def one_runs_and_none_leaves_anything_behind(self) -> None:
        with self.world.store.read() as connection:
            known = rollouts(connection, MODEL)
        under_way = [one for one in known if not one.ended]
        assert len(under_way) <= 1
        assert all(one.state.ended == one.ended for one in known)
        history = self.world.plans.history
        assert [plan.revision for plan in history] == list(range(1, len(history) + 1))
        if not under_way and self.world.plans.now.author == AUTHOR:
            assert self.world.plans.now.challenger is None
            newest = max(known, key=lambda one: one.ended_ns or 0)
            if newest.state is RolloutState.PROMOTED:
                assert self.world.plans.now.champion == newest.candidate
            else:
                assert self.world.plans.now.champion == newest.champion


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=8, stateful_step_count=14, deadline=None)
