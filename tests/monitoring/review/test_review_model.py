"""The ledger against a plain model of what reviewers may do: several people, clocks, retries, undo, bulk.

The model keeps a case as a few Python values and every act as a function that can be taken back; it knows nothing of
editions, SQL or diffs. What both must agree on after every step: who has a case, what holds about it, which labels are
truth.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from export.contracts.errors import Conflict
from monitoring import schema as t
from monitoring.review.asked import Decision, Selection
from monitoring.review.contracts import Verdict
from monitoring.review.deciding import Bulk
from monitoring.review.ledger import Ledger
from monitoring.review.lines import read_lines
from monitoring.store import Store
from tests.support.review_cases import Clock, fill

PEOPLE = st.sampled_from(["ann", "bob", "cid"])
NUMBER = st.integers(0, 3)
SAYS = st.sampled_from(
    [(Verdict.CORRECT, None), (Verdict.LABEL, "a"), (Verdict.LABEL, "b"), (Verdict.UNCLEAR, None),
     (Verdict.DISMISS, None), (Verdict.WRONG, None)]
)  # fmt: skip
WAITS = ("open", "second_opinion")


@dataclass
class Plain:
    """A case as a person would keep it on paper."""

    predicted: str
    opinions: int = 1
    said: list[tuple[str, str, str | None]] = field(default_factory=list)  # who, verdict, label: the newest of each
    holder: str = ""
    until: int = 0
    settled: tuple[str, str | None, str] | None = None  # verdict, label, who
    state: str = "open"
    touched: int = 0  # decisions and undos so far

    def meaning(self, verdict: str, label: str | None) -> tuple[str, str | None]:
        if verdict == "correct":
            return "label", self.predicted
        return ("label", label) if verdict == "label" else (verdict, None)

    def decide(self, who: str, verdict: str, label: str | None) -> None:
        self.said = [x for x in self.said if x[0] != who] + [(who, verdict, label)]
        self.holder, self.until = "", 0
        self.touched += 1
        self.work_out()

    def work_out(self) -> None:
        """What everybody's words come to."""
        self.settled, self.state = None, "second_opinion"
        unclear = [x for x in self.said if x[1] == "unclear"]
        votes = [x for x in self.said if x[1] != "unclear"]
        newest = self.said[-1]
        if len(unclear) >= 2 and newest[1] == "unclear":
            self.settle(newest)
        elif self.opinions == 1:
            if newest[1] != "unclear":
                self.settle(newest)
        else:
            groups: dict[Any, list[Any]] = {}
            for x in votes:
                groups.setdefault(self.meaning(x[1], x[2]), []).append(x)
            sizes = sorted((len(g) for g in groups.values()), reverse=True)
            first = sizes[0] if sizes else 0
            alone = len(sizes) == 1 or (len(sizes) > 1 and sizes[1] < first)
            if alone and (first >= self.opinions or (len(votes) > self.opinions and first > len(votes) / 2)):
                self.settle(next(g for g in groups.values() if len(g) == first)[-1])

    def settle(self, x: tuple[str, str, str | None]) -> None:
        self.settled = (x[1], self.predicted if x[1] == "correct" else x[2], x[0])
        self.state = "dismissed" if x[1] in ("dismiss", "unclear") else "labelled"

    def may(self, who: str, now: int) -> bool:
        if self.holder and self.until > now and self.state in WAITS and self.holder != who:
            return False
        return not (self.state == "second_opinion" and any(x[0] == who for x in self.said))

    def paper(self) -> tuple[Any, ...]:
        return (list(self.said), self.settled, self.state)


@dataclass
class Done:
    """An act: the cases before and after, and how often each had been touched when it was done."""

    number: int
    who: str
    before: dict[int, tuple[Any, ...]]
    after: dict[int, tuple[Any, ...]]
    living: dict[int, int]
    undone: bool = False


class Reviewers(RuleBasedStateMachine):
    """Both at once."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(f"sqlite:///{Path(self.folder.name) / 'm.db'}")
        self.clock = Clock()
        self.ledger = Ledger(self.store, clock=self.clock)
        self.ids = fill(self.store, 4)
        with self.store.read() as connection:
            lines = read_lines(connection, self.ids)
        self.model = [Plain(predicted=str(lines[x].predicted_label)) for x in self.ids]
        for i, opinions in ((2, 2), (3, 3)):
            self.ledger.ask_opinions("op", f"ask {i}", Selection(cases=(self.ids[i],)), opinions)
            self.model[i].opinions, self.model[i].touched = opinions, 1
        self.acts: list[Done] = []
        self.keys = 0
        self.order = 0  # of decisions that live
        self.newest = dict.fromkeys(range(4), 0)
        self.last: tuple[str, str, list[Decision], Any] | None = None

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def key(self) -> str:
        self.keys += 1
        return f"k{self.keys}"

    def done(self, number: int, who: str, papers: dict[int, tuple[Any, ...]]) -> None:
        self.order += 1
        self.acts.append(
            Done(number, who, papers, {i: self.model[i].paper() for i in papers}, dict.fromkeys(papers, self.order))
        )
        self.newest.update(dict.fromkeys(papers, self.order))

    @rule(seconds=st.sampled_from([1, 30, 700]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(who=PEOPLE, count=st.integers(1, 4))
    def lease(self, who: str, count: int) -> None:
        now = self.clock()
        free = [i for i, x in enumerate(self.model) if x.state in WAITS and x.may(who, now)]
        got = self.ledger.lease(who, count)
        assert got.cases == tuple(self.ids[i] for i in free[:count])
        for i in free[:count]:
            self.model[i].holder, self.model[i].until = who, now + 600 * 10**9

    @rule(who=PEOPLE, number=NUMBER)
    def release(self, who: str, number: int) -> None:
        case = self.model[number]
        had = self.ledger.release(who, [self.ids[number]])
        assert had == int(case.holder == who)
        if had:
            case.holder, case.until = "", 0

    @rule(who=PEOPLE, numbers=st.sets(NUMBER, min_size=1, max_size=2), says=SAYS, stale=st.booleans())
    def decide(self, who: str, numbers: set[int], says: tuple[Verdict, str | None], stale: bool) -> None:
        verdict, label = says
        old = 1 if stale else 0
        editions = self.editions()
        asked = [
            Decision(case=self.ids[i], verdict=verdict, label=label, edition=editions[i] - old) for i in sorted(numbers)
        ]
        may = {i: self.model[i].may(who, self.clock()) and not stale for i in sorted(numbers)}
        key = self.key()
        answer = self.ledger.decide(who, key, asked)
        assert [r.ok for r in answer.results] == list(may.values())
        assert all(bool(r.conflict) != r.ok and r.standing is not None for r in answer.results)
        papers = {i: self.model[i].paper() for i, ok in may.items() if ok}
        for i in papers:
            self.model[i].decide(who, verdict.value, label)
        self.last = (who, key, asked, answer)
        self.done(answer.act, who, papers)

    @precondition(lambda self: getattr(self, "last", None) is not None)
    @rule()
    def ask_again(self) -> None:
        assert self.last is not None
        who, key, asked, answer = self.last
        assert self.ledger.decide(who, key, asked) == answer
        try:
            self.ledger.decide(who, key, [Decision(case="f" * 16, verdict=Verdict.DISMISS)])
        except Conflict:
            return
        raise AssertionError("one key named two things")

    @rule(who=PEOPLE, says=SAYS, again=st.booleans())
    def bulk(self, who: str, says: tuple[Verdict, str | None], again: bool) -> None:
        verdict, label = says
        now = self.clock()
        chosen = [i for i, x in enumerate(self.model) if x.may(who, now) and (again or not x.settled)]
        asked = Bulk(selection=Selection(cases=tuple(self.ids)), verdict=verdict, label=label, again=again)
        assert self.ledger.preview(who, asked).count == len(chosen)
        answer = self.ledger.bulk(who, self.key(), asked)
        assert (answer.changed, sum(answer.skipped.values())) == (len(chosen), 4 - len(chosen))
        papers = {i: self.model[i].paper() for i in chosen}
        for i in chosen:
            self.model[i].decide(who, verdict.value, label)
        self.done(answer.act, who, papers)

    @precondition(lambda self: any(not act.undone for act in getattr(self, "acts", ())))
    @rule(data=st.data(), who=PEOPLE)
    def undo(self, data: st.DataObject, who: str) -> None:
        act = data.draw(st.sampled_from([x for x in self.acts if not x.undone]))
        still = [i for i in act.before if self.newest[i] <= act.living[i] and self.model[i].paper() == act.after[i]]
        answer = self.ledger.undo(who, self.key(), act.number)
        assert answer.changed == len(still)
        act.undone = True
        for i in still:
            case = self.model[i]
            waited = case.state in WAITS
            case.said, case.settled, case.state = list(act.before[i][0]), act.before[i][1], act.before[i][2]
            case.touched += 1
            if case.state in WAITS and not waited:
                case.holder, case.until = who, self.clock() + 600 * 10**9
            living = [x.living[i] for x in self.acts if not x.undone and i in x.living]
            self.newest[i] = max(living, default=0)

    def editions(self) -> list[int]:
        with self.store.read() as connection:
            lines = read_lines(connection, self.ids)
        return [lines[x].standing.edition for x in self.ids]

    @invariant()
    def both_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        f = t.feedback.c
        with self.store.read() as connection:
            lines = read_lines(connection, self.ids)
            truths = connection.execute(sa.select(f.record_id, f.label, f.author).where(f.withdrawn.is_(False))).all()
        for i, case in enumerate(self.model):
            s = lines[self.ids[i]].standing
            assert s.state.value == case.state
            assert s.edition == case.touched
            held = case.holder if case.until > self.clock() and case.state in WAITS else ""
            assert (s.lease_by if s.lease_until_ns > self.clock() and s.state.value in WAITS else "") == held
            settled = (s.verdict, json.loads(s.label) if s.label else None, s.decided_by) if s.verdict else None
            assert settled == case.settled
        wanted = {
            (
                f"r{i}",
                json.dumps({"wrong": True} if x.settled[0] == "wrong" else x.settled[1]),
                f"review:{x.settled[2]}",
            )
            for i, x in enumerate(self.model)
            if x.settled and x.state == "labelled"
        }
        assert {tuple(row) for row in truths} == wanted


TestReviewers = Reviewers.TestCase
TestReviewers.settings = settings(
    max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
