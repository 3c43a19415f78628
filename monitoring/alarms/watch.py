"""The watch over one model: labels in, changes of its alarms out. Pure, and the same for the same labels.

Two promises are watched side by side, each with an alarm of its own:

- *lifetime*: the error rate is above the tolerance; over the model's whole life such an alarm is false with probability
  at most alpha.
- *run length*: the error rate is above what is expected (half-way from the reference's to the tolerance); such an alarm
  is false at most once in so many labels, on average. It sees a late change sooner.

An alarm is FIRING when its evidence crosses the threshold. From then on an e-detector gathers evidence that the error
rate is below the tolerance: with a tenth of what is needed the alarm is RECOVERING, with all of it RESOLVED. So an
alarm ends on evidence too, neither by itself nor by a rate that happens to dip; after it the evidence begins anew.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from monitoring.alarms.bets import Bets, Floats, Table, better_bets, worse_bets
from monitoring.alarms.draw import draw_chances
from monitoring.alarms.evidence import LifeEvidence, RunEvidence
from monitoring.options import AlarmOptions

_TABLES = 64  # populations whose bets are remembered
_FALL_BACK = 0.1  # of the recovering level: below it a recovering alarm fires again


class Promise(StrEnum):
    """What an alarm promises about being false."""

    LIFETIME = "lifetime"  # with probability at most alpha, ever
    RUN_LENGTH = "run_length"  # at most once in so many labels


class AlarmState(StrEnum):
    """Where an alarm stands. A promise without an open alarm is quiet."""

    QUIET = "quiet"  # no alarm is open
    FIRING = "firing"  # the evidence crossed the threshold
    RECOVERING = "recovering"  # the newest labels speak for a rate below the tolerance, not yet strongly enough
    RESOLVED = "resolved"  # they do strongly enough


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The boundaries of a version. `source` says where the tolerance comes from, for people."""

    tolerance: float
    expected: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """One audited label in its place.

    Attributes:
        wrong: 1 wrong, 0 right, or the share of wrong rows.
        proxy_bin: `monitoring.alarms.bets.proxy_bins` of the record's P(wrong).
        population: Weights by bin of all records that it was drawn from.
        weight: See `monitoring.alarms.bets.Table.factors`.
        probe_ratio: How much likelier than the audit drew a record that is certainly wrong; 0: the draw was uniform.
    """

    wrong: float
    proxy_bin: int
    population: tuple[int, ...]
    weight: float = 1.0
    probe_ratio: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """The state of one promise.

    Attributes:
        stakes: Of the evidence, by bet.
        back: Of the evidence that the rate is below the tolerance again; empty without an open alarm.
        score: CUSUM of the evidence's growth; where it last began tells which labels are behind an alarm.
        since: Position at which the score began.
        alarms: Alarms so far; with an open one, its number.
        level: The evidence after the last label.
        back_level: The same of the evidence for recovery.
    """

    stakes: tuple[float, ...] = ()
    back: tuple[float, ...] = ()
    score: float = 0.0
    since: int = 0
    alarms: int = 0
    state: AlarmState = AlarmState.QUIET
    level: float = 0.0
    back_level: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """The state of one model's watch; stored between turns.

    Attributes:
        version: Whose labels count; empty before the first.
        window_s: Newest window of that version from which a label came.
        labels: Counted over the model's life: the position of the next one.
        errors: Among them.
        waiting, renewals: Of the lifetime evidence (`monitoring.alarms.evidence.LifeEvidence`).
        late: Labels that came after others of a later time had been counted; they count at the end.
        set_aside: Labels of other versions than the one that is watched.
        ready_ns: Of the last label taken.
        problem: Why labels wait, for people; empty when they do not.
    """

    model: str
    version: str = ""
    window_s: int = 0
    limits: Limits | None = None
    labels: int = 0
    errors: float = 0.0
    waiting: float = 1.0
    renewals: int = 0
    late: int = 0
    set_aside: int = 0
    ready_ns: int = 0
    problem: str = ""
    lifetime: Line = Line()
    run_length: Line = Line()

    def line(self, promise: Promise) -> Line:
        """The state of a promise."""
        return self.lifetime if promise is Promise.LIFETIME else self.run_length


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """An alarm changed its state at a label. `evidence` is for the new state: of the alarm, or of the recovery."""

    promise: Promise
    number: int
    state: AlarmState
    evidence: float
    since: int


def threshold(promise: Promise, options: AlarmOptions) -> float:
    """Evidence at which an alarm of this promise fires."""
    return 1.0 / options.lifetime_alpha if promise is Promise.LIFETIME else options.run_length


def boundary(promise: Promise, limits: Limits) -> float:
    """The error rate that the evidence of this promise speaks against."""
    return limits.tolerance if promise is Promise.LIFETIME else limits.expected


class Watcher:
    """Moves watches on, label by label; remembers the bets of the last populations."""

    def __init__(self, options: AlarmOptions) -> None:
        self._options = options
        self._tables: OrderedDict[tuple[float, bool, tuple[int, ...], float], tuple[Bets, Table]] = OrderedDict()

    def begin(self, watch: Watch, version: str, limits: Limits) -> Watch:
        """Watch another version, or with other limits: what was gathered is thrown away, open alarms stay open."""
        bets, _ = self._bets(limits.tolerance, True)
        life = self._life(watch, bets.weights)
        life.stakes = np.zeros_like(bets.weights)
        if watch.limits is not None and watch.lifetime.state is AlarmState.QUIET:
            life.renew()  # with an open alarm this waits until it is resolved
        life_line = replace(_fresh(watch.lifetime, watch.labels), stakes=_plain(life.stakes), level=float(life.value))
        return replace(
            watch,
            version=version,
            limits=limits,
            problem="",
            waiting=life.waiting,
            renewals=life.renewals,
            lifetime=life_line,
            run_length=_fresh(watch.run_length, watch.labels),
        )

    def step(self, watch: Watch, label: Label) -> tuple[Watch, list[Change]]:
        """Count one label.

        Raises:
            ValueError: the watch has no limits yet.
        """
        limits = watch.limits
        if limits is None:
            raise ValueError("a watch needs limits before labels can count")
        bets, table = self._bets(limits.tolerance, True, label)
        factors = table.factors(label.wrong, label.proxy_bin, label.weight)
        life = self._life(watch, bets.weights)
        life.update(factors)
        lines, changes = {}, []
        for promise in Promise:
            line = watch.line(promise)
            if promise is Promise.LIFETIME:
                growth, stakes, level = float(factors @ bets.weights), life.stakes, float(life.value)
            else:
                own, own_table = self._bets(limits.expected, True, label)
                own_factors = own_table.factors(label.wrong, label.proxy_bin, label.weight)
                run = RunEvidence(own.weights, np.asarray(line.stakes, float))
                run.update(own_factors)
                growth, stakes, level = float(own_factors @ own.weights), run.stakes, float(run.value)
            score = line.score + math.log(max(growth, 1e-12))
            since = line.since if score > 0.0 else watch.labels + 1
            line = replace(line, stakes=_plain(stakes), level=level, score=max(0.0, score), since=since)
            line, change = self._judge(promise, line, label, limits, watch.labels)
            if change is not None:
                changes.append(change)
                if change.state is AlarmState.RESOLVED and promise is Promise.LIFETIME:
                    life.renew()
                    line = replace(line, stakes=_plain(life.stakes), level=float(life.value))
            lines[promise] = line
        moved = replace(
            watch,
            labels=life.labels,
            errors=watch.errors + label.wrong,
            waiting=life.waiting,
            renewals=life.renewals,
            lifetime=lines[Promise.LIFETIME],
            run_length=lines[Promise.RUN_LENGTH],
        )
        return moved, changes

    def _judge(
        self, promise: Promise, line: Line, label: Label, limits: Limits, position: int
    ) -> tuple[Line, Change | None]:
        """The state machine of one promise, after its evidence took the label."""
        if line.state is AlarmState.QUIET:
            if line.level < threshold(promise, self._options):
                return line, None
            opened = replace(line, state=AlarmState.FIRING, alarms=line.alarms + 1, back=(), back_level=0.0)
            return opened, Change(
                promise=promise,
                number=opened.alarms,
                state=AlarmState.FIRING,
                evidence=line.level,
                since=min(line.since, position),
            )
        bets, table = self._bets(limits.tolerance, False, label)
        back = RunEvidence(bets.weights, np.asarray(line.back, float))
        back.update(table.factors(label.wrong, label.proxy_bin, label.weight))
        level, needed = float(back.value), self._options.recovery_run_length
        line = replace(line, back=_plain(back.stakes), back_level=level)
        state = line.state
        if level >= needed:
            state = AlarmState.RESOLVED
        elif level >= needed / 10.0:
            state = AlarmState.RECOVERING
        elif level < needed / 10.0 * _FALL_BACK:
            state = AlarmState.FIRING
        if state is line.state:
            return line, None
        change = Change(promise=promise, number=line.alarms, state=state, evidence=level, since=line.since)
        if state is AlarmState.RESOLVED:
            return _fresh(replace(line, state=AlarmState.QUIET), position + 1), change
        return replace(line, state=state), change

    def _life(self, watch: Watch, weights: Floats) -> LifeEvidence:
        stakes = np.asarray(watch.lifetime.stakes, float)
        return LifeEvidence(weights, stakes, labels=watch.labels, waiting=watch.waiting, renewals=watch.renewals)

    def _bets(self, limit: float, worse: bool, label: Label | None = None) -> tuple[Bets, Table]:
        population, ratio = ((), 0.0) if label is None else (label.population, label.probe_ratio)
        key = (limit, worse, population, ratio)
        found = self._tables.get(key)
        if found is None:
            bets = worse_bets(limit) if worse else better_bets(limit)
            found = (bets, bets.table(population or None, draw_chances(1.0, ratio) if population and ratio else None))
            self._tables[key] = found
            while len(self._tables) > _TABLES:
                self._tables.popitem(last=False)
        else:
            self._tables.move_to_end(key)
        return found


def _fresh(line: Line, position: int) -> Line:
    """Without what was gathered; an open alarm stays open."""
    return replace(line, stakes=(), back=(), score=0.0, since=position, level=0.0, back_level=0.0)


def _plain(stakes: Floats) -> tuple[float, ...]:
    return tuple(stakes.tolist())
