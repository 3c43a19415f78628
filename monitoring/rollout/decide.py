"""What a roll-out does next, and why: a pure function of policy, standing and clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitoring.rollout.policy import RolloutPolicy, RolloutState, Step, StepKind
from monitoring.rollout.readings import Reading, readings
from monitoring.rollout.standing import Standing
from monitoring.rollout.words import METRIC_WORDS, percent, seconds

_SLACK = 5  # requests: a share of few is a matter of luck


class Move(StrEnum):
    """What is to be done."""

    HOLD = "hold"
    ADVANCE = "advance"  # write the next step's plan
    ROLL_BACK = "roll_back"  # withdraw the candidate, because of evidence
    ABORT = "abort"  # withdraw it, because the time is over
    FINISH = "finish"  # it is the champion for good


@dataclass(frozen=True, kw_only=True, slots=True)
class Now:
    """What decides besides the evidence.

    Attributes:
        time_ns: Wall clock.
        evidence_ns: Everything that happened before is counted.
        paused: No step forward.
        trouble: Why serving cannot or will not use the candidate: its text; "" without.
    """

    time_ns: int
    evidence_ns: int
    paused: bool = False
    trouble: str = ""

    @property
    def age_s(self) -> float:
        """How old the evidence is."""
        return max(0.0, (self.time_ns - self.evidence_ns) / 1e9)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What is to be done, and why."""

    move: Move
    reason: str
    readings: tuple[Reading, ...] = ()


def decide(policy: RolloutPolicy, standing: Standing, now: Now) -> Decision:
    """What to do now. What speaks against the candidate comes first, also while paused."""
    if standing.step < 0:
        reason = "paused before its first step" if now.paused else "it begins"
        return Decision(move=Move.HOLD if now.paused else Move.ADVANCE, reason=reason)
    found = readings(standing, policy)
    step = policy.steps[standing.step]
    against = _against(policy, standing, found, now, step)
    if against:
        return Decision(move=Move.ROLL_BACK, reason=against, readings=found)
    if now.paused:
        return Decision(move=Move.HOLD, reason="paused", readings=found)
    missing = _missing(policy, standing, found, now, step)
    if missing:
        if standing.served_ns >= step.max_s * 1e9:
            reason = f"given up after {seconds(step.max_s)} in this step: {missing}"
            return Decision(move=Move.ABORT, reason=reason, readings=found)
        return Decision(move=Move.HOLD, reason=missing, readings=found)
    proved = [METRIC_WORDS[r.metric] for r in found if r.metric in step.prove]
    reason = f"{standing.requests} requests in {seconds(standing.served_ns / 1e9)}, nothing against it" + (
        f"; not worse in {', '.join(proved)}" if proved else ""
    )
    last = standing.step == len(policy.steps) - 1
    return Decision(move=Move.FINISH if last else Move.ADVANCE, reason=reason, readings=found)


def _against(policy: RolloutPolicy, standing: Standing, found: tuple[Reading, ...], now: Now, step: Step) -> str:
    """Why the candidate must go; "" when it need not."""
    if now.trouble:
        return now.trouble
    for reading in found:
        if reading.against:
            return f"{METRIC_WORDS[reading.metric]}: {describe(reading)}"
    if step.kind is not StepKind.CANARY:
        return ""
    # more than the share explains: a few clients may make most of the traffic
    allowed = max(policy.exposure, step.percent / 100 if step.percent / 100 > policy.exposure else 0.0)
    most = allowed * standing.answered
    if standing.exposed > most + 4 * most**0.5 + _SLACK:
        return (
            f"it answered {standing.exposed} of {standing.answered} requests, more than the {percent(allowed)} that "
            "this step may cost: the traffic comes from few clients"
        )
    return ""


def _missing(policy: RolloutPolicy, standing: Standing, found: tuple[Reading, ...], now: Now, step: Step) -> str:
    """What the step still waits for; "" when it is complete."""
    if now.age_s > policy.fresh_s:
        return f"the evidence is {seconds(now.age_s)} old: the monitor is behind"
    if standing.requests < step.requests:
        return f"not enough traffic: {standing.requests} of {step.requests} requests"
    if standing.served_ns < step.dwell_s * 1e9:
        return f"{seconds(standing.served_ns / 1e9)} of {seconds(step.dwell_s)}"
    for reading in found:
        if reading.metric in step.prove and not reading.proved:
            return f"not yet proved, {METRIC_WORDS[reading.metric]}: {describe(reading)}"
    return ""


def describe(reading: Reading) -> str:
    """A reading in words."""
    if reading.rate is None:
        return "no requests yet"
    besides = "" if reading.reference is None else f" against {percent(reading.reference)}"
    return f"{percent(reading.rate)}{besides} in {reading.n} requests"


def state_of(move: Move, promoted: bool) -> RolloutState:
    """How a roll-out stands after a move."""
    if move is Move.ROLL_BACK:
        return RolloutState.ROLLED_BACK
    if move is Move.ABORT:
        return RolloutState.ABORTED
    return RolloutState.PROMOTED if promoted and move is Move.FINISH else RolloutState.RUNNING
