"""A monitor's database with roll-outs in it, and traffic that is written straight into `records`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.errors import Conflict, RegistryError
from export.contracts.traffic import ChallengerMode, TrafficPlan
from monitoring import schema as t
from monitoring.flags import FLAG_BITS
from monitoring.rollout import rows
from monitoring.rollout.duty import Driver, drive
from monitoring.rollout.policy import LIMITS, EventKind, Metric, RolloutPolicy, Step, StepKind
from monitoring.rollout.rows import Rollout
from monitoring.rollout.standing import APART, Block, Counts, Standing
from monitoring.store import Store

MODEL = "digits"
START_NS = 1_772_000_000_000_000_000
QUICK = RolloutPolicy(
    steps=(
        Step(
            kind=StepKind.SHADOW,
            percent=100,
            dwell_s=3,
            requests=200,
            prove=(Metric.ERRORS, Metric.INVALID, Metric.FLAGGED, Metric.DISAGREEMENT),
        ),
        Step(kind=StepKind.CANARY, percent=0.5, dwell_s=3, requests=10),
        Step(
            kind=StepKind.CANARY,
            percent=1.0,
            dwell_s=3,
            requests=30,
            prove=(Metric.ERRORS, Metric.INVALID, Metric.LATENCY),
        ),
        Step(kind=StepKind.CHAMPION, percent=5.0, dwell_s=10, requests=100),
    ),
    limits=LIMITS,
    disagreement=0.05,
)


class MemoryPlans:
    """`monitoring.loop.contracts.Plans` in memory; `fail_after` makes the writer die once, before or after it wrote."""

    def __init__(self, champion: str | None = "1", versions: Sequence[str] = ("1", "2", "3")) -> None:
        self.history = [TrafficPlan(model=MODEL, revision=1, champion=champion, author="ann")]
        self.versions = set(versions)
        self.die = ""  # "before" or "after" the next write

    @property
    def now(self) -> TrafficPlan:
        return self.history[-1]

    def read(self, model: str) -> TrafficPlan | None:
        return self.now

    def write(self, plan: TrafficPlan, *, expected_revision: int) -> TrafficPlan:
        die, self.die = self.die, ""
        if die == "before":
            raise KeyboardInterrupt
        if expected_revision != self.now.revision:
            raise Conflict("another revision")
        if not set(plan.versions) <= self.versions:
            raise RegistryError("no such version")
        if plan.challenger is not None and plan.challenger == plan.champion:
            raise RegistryError("champion and challenger at once")
        self.history.append(replace(plan, revision=expected_revision + 1, changed_at="now"))
        if die == "after":
            raise KeyboardInterrupt
        return self.now

    def rollback(self, model: str, *, author: str, reason: str) -> TrafficPlan:
        earlier = [p.champion for p in self.history if p.champion != self.now.champion]
        plan = replace(self.now, champion=earlier[-1] if earlier else self.now.champion, challenger=None,
                       mode=ChallengerMode.NONE, canary_percent=0.0, author=author, reason=reason)  # fmt: skip
        return self.write(plan, expected_revision=self.now.revision)


@dataclass(frozen=True, kw_only=True)
class Character:
    """How a version behaves: shares of its requests."""

    errors: float = 0.0
    invalid: float = 0.0
    slow: float = 0.0
    flagged: float = 0.02
    wrong: float = 0.03


@dataclass(kw_only=True)
class World:
    """A store, plans, a clock, and traffic of two versions that follow the plan."""

    folder: Path
    plans: MemoryPlans = field(default_factory=MemoryPlans)
    characters: dict[str, Character] = field(default_factory=lambda: {"1": Character(), "2": Character()})
    disagreement: float = 0.02
    seed: int = 0
    now_ns: int = START_NS

    def __post_init__(self) -> None:
        self.store = Store(f"sqlite:///{self.folder / 'monitor.db'}")
        self.rng = np.random.default_rng(self.seed)
        self._number = itertools.count()
        self.ids: dict[str, int] = {}
        with self.store.write() as connection:
            for version in ("1", "2"):
                row = {"model": MODEL, "version": version, "digest": "d", "first_ns": 0, "last_ns": 0}
                query = t.versions.insert().values(**row).returning(t.versions.c.id)
                self.ids[version] = connection.execute(query).scalar_one()

    def begin(self, policy: RolloutPolicy = QUICK, **given: Any) -> str:
        values: dict[str, Any] = {"model": MODEL, "candidate": "2", "champion": "1", "author": "ann"} | given
        with self.store.write() as connection:
            return rows.begin(connection, policy=policy, now_ns=self.now_ns, **values)

    def look(self, identity: str) -> Rollout:
        with self.store.read() as connection:
            return rows.look(connection, identity)

    def events(self, identity: str) -> tuple[rows.RolloutEvent, ...]:
        with self.store.read() as connection:
            return rows.events(connection, identity)

    def ask(self, identity: str, what: rows.Ask, actor: str = "ben") -> None:
        with self.store.write() as connection:
            rows.ask(connection, identity, what, actor=actor, now_ns=self.now_ns)

    def turn(self) -> None:
        """A turn of the duty, and those that it wants at once."""
        driver = Driver(store=self.store, plans=self.plans, frontier_ns=lambda: self.now_ns, wall=self.wall)
        while drive(driver):
            pass

    def wall(self) -> float:
        return self.now_ns / 1e9

    def second(self, requests: int = 200) -> None:
        """A second of traffic that follows the plan, then a turn."""
        self.now_ns += 1_000_000_000
        plan, made = self.plans.now, []
        for _ in range(requests):
            canary = plan.mode is ChallengerMode.CANARY and self.rng.random() * 100 < plan.canary_percent
            version = plan.challenger if canary else plan.champion
            if version is None:
                continue
            key = next(self._number)
            answer, wrong = int(self.rng.integers(10)), False
            made.append(self._record(version, "canary" if canary else "champion", key, answer))
            if made[-1]["outcome"] == "failed" and canary:  # the champion rescues it
                made.append(self._record(plan.champion or "", "champion", key, answer))
            if plan.mode is ChallengerMode.SHADOW and plan.challenger and not canary:
                wrong = self.rng.random() < self.disagreement
                made.append(self._record(plan.challenger, "shadow", key, (answer + wrong) % 10))
        if made:
            with self.store.write() as connection:
                connection.execute(t.records.insert(), made)
        self.turn()

    def run(self, identity: str, seconds: int, requests: int = 200) -> Rollout:
        """Seconds of traffic until the roll-out has ended."""
        for _ in range(seconds):
            self.second(requests)
            if self.look(identity).ended:
                break
        return self.look(identity)

    def event(self, kind: str, version: str, **detail: Any) -> None:
        with self.store.write() as connection:
            row = {"source": "s", "sequence": next(self._number), "time_ns": self.now_ns, "kind": kind}
            connection.execute(t.events.insert().values(**row, model=MODEL, version=version, detail=detail))

    def requests_of(self, version: str, variant: str = "canary") -> int:
        r = t.records.c
        query = sa.select(sa.func.count()).where(r.version_id == self.ids[version], r.variant == variant)
        with self.store.read() as connection:
            return int(connection.scalar(query) or 0)

    def _record(self, version: str, variant: str, key: int, answer: int) -> dict[str, Any]:
        who, rng = self.characters[version], self.rng
        failed = rng.random() < who.errors
        flags = FLAG_BITS["low_confidence"] if rng.random() < who.flagged else 0  # type: ignore[index]
        flags |= FLAG_BITS["rule_not_finite"] if rng.random() < who.invalid else 0  # type: ignore[index]
        return {
            "id_hash": key,
            "time_ns": self.now_ns,
            "record_id": f"r{key}",
            "version_id": self.ids[version],
            "variant": variant,
            "outcome": "failed" if failed else "ok",
            "rows": 1,
            "worst_row": 0,
            "predicted": None if failed else answer,
            "flags": 0 if failed else flags,
            "probability": 1.0,
            "source": "s",
            "segment": 0,
            "offset": 0,
            "sequence": 0,
            "total_us": 40_000 if rng.random() < who.slow else int(rng.lognormal(7, 0.4)),
        }


def rollout_with_evidence(store: Store, model: str, candidate: str, champion: str) -> str:
    """A roll-out in the middle of its first canary step, for pages; nobody drives it."""
    counts = Counts(bad=4, n=60, champion_bad=150, champion_n=9000)
    with store.write() as connection:
        identity = rows.begin(
            connection, model=model, candidate=candidate, champion=champion, policy=QUICK, author="ann", now_ns=START_NS
        )
        standing = Standing().enter(1, StepKind.CANARY, 2, START_NS)
        for _ in range(2):
            block = Block(cursor=0, answered=9060, exposed=60, counts=dict.fromkeys(APART, counts), budget_us=3200.0)
            standing = standing.look(block, QUICK, START_NS + 2_000_000_000, counts_time=True)
        rows.note(connection, identity, EventKind.STEP, 1, rows.ITSELF, "canary 0.5 %", now_ns=START_NS, revision=2)
        one = replace(rows.look(connection, identity), standing=standing, reason="not enough traffic: 8 of 10 requests")
        rows.save(connection, one)
    return identity
