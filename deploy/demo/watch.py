"""What the story sees of the system: alarms, turns of the loop, the traffic plan. Changes become events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deploy.demo.told import Event, Happened
from deploy.demo.traffic import MODEL
from deploy.monitor_client import MonitorClient
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.registry import Registry
from monitoring.loop.contracts import Stage

_KINDS = {
    Stage.ASKED: Happened.TRIGGER,
    Stage.REQUESTED: Happened.TRIGGER,
    Stage.TRAINING: Happened.TRAINING,
    Stage.TRAINED: Happened.TRAINING,
    Stage.FAILED: Happened.TRAINING,
    Stage.CANCELLED: Happened.TRAINING,
    Stage.GATING: Happened.GATE,
    Stage.GATED: Happened.GATE,
    Stage.REJECTED: Happened.GATE,
    Stage.ROLLING_OUT: Happened.ROLLOUT,
    Stage.PROMOTED: Happened.ROLLOUT,
    Stage.ROLLED_BACK: Happened.ROLLOUT,
}
_GOOD, _BAD = (Stage.GATED, Stage.PROMOTED), (Stage.REJECTED, Stage.ROLLED_BACK, Stage.FAILED)


@dataclass(kw_only=True)
class SeenTurn:
    """A turn as the story saw it."""

    id: str
    stage: Stage
    first_s: float
    last_s: float
    plain: dict[str, Any]
    ended_s: float | None = None
    champion_s: float | None = None  # when it first answered for everybody

    @property
    def version(self) -> str:
        """Of its candidate; "" before there is one."""
        return str(self.plain.get("version") or "")


@dataclass(kw_only=True)
class Watch:
    """Looks, remembers, tells.

    Attributes:
        started: Of the story, on the monotonic clock.
        tell: Is given every event.
    """

    client: MonitorClient
    registry: Registry
    started: float
    tell: Callable[[Event], None]
    plan: TrafficPlan | None = None
    turns: dict[str, SeenTurn] = field(default_factory=dict)
    alarms: dict[str, str] = field(default_factory=dict)
    champions: list[tuple[float, str]] = field(default_factory=list)

    @property
    def now_s(self) -> float:
        """Since the beginning of the story."""
        return time.monotonic() - self.started

    def note(self, kind: Happened, text: str, tone: str = "") -> None:
        """Tell an event of now."""
        self.tell(Event(at_s=round(self.now_s, 2), kind=kind, text=text, tone=tone))

    def look(self) -> None:
        """See what is new."""
        self._look_at_plan()
        self._look_at_alarms()
        self._look_at_turns()

    def begin(self) -> None:
        """Take everything that is there for old: no events of it."""
        plan = self.registry.plan(MODEL)
        self.plan = plan
        if plan is not None and plan.champion:
            self.champions.append((0.0, plan.champion))
        for alarm in self.client.get("/api/alarms", model=MODEL)["alarms"]:
            self.alarms[alarm["id"]] = alarm["state"]
        for turn in self._turns():
            self.turns[turn["id"]] = SeenTurn(
                id=turn["id"], stage=Stage(turn["stage"]), first_s=-1.0, last_s=-1.0, plain=turn, ended_s=-1.0
            )

    @property
    def newest(self) -> SeenTurn | None:
        """The turn that began last."""
        return max(self.turns.values(), key=lambda t: t.first_s, default=None)

    def _look_at_plan(self) -> None:
        plan = self.registry.plan(MODEL)
        if plan is None or (self.plan is not None and plan.revision == self.plan.revision):
            return
        before, self.plan = self.plan, plan
        if before is None or plan.champion != before.champion:
            self.champions.append((self.now_s, str(plan.champion)))
            for turn in self.turns.values():
                if turn.version == plan.champion and turn.champion_s is None:
                    turn.champion_s = self.now_s
        self.note(Happened.PLAN, _plan_words(plan))

    def _look_at_alarms(self) -> None:
        for alarm in self.client.get("/api/alarms", model=MODEL)["alarms"]:
            if self.alarms.get(alarm["id"]) == alarm["state"]:
                continue
            self.alarms[alarm["id"]] = alarm["state"]
            text = (
                f"alarm ({alarm['promise']}) on version {alarm['version']}: {alarm['state']}; "
                f"{alarm['errors']:.0f} of {alarm['labels']} audited answers wrong"
            )
            self.note(Happened.ALARM, text, "bad" if alarm["resolved_at"] is None else "good")

    def _look_at_turns(self) -> None:
        for plain in self._turns():
            stage = Stage(plain["stage"])
            seen = self.turns.get(plain["id"])
            if seen is None:
                seen = SeenTurn(id=plain["id"], stage=stage, first_s=self.now_s, last_s=self.now_s, plain=plain)
                self.turns[seen.id] = seen
                self.note(Happened.TRIGGER, f"turn {plain['number']}: {plain['reason']}")
            elif stage is not seen.stage:
                seen.stage, seen.last_s = stage, self.now_s
                tone = "good" if stage in _GOOD else "bad" if stage in _BAD else ""
                self.note(_KINDS[stage], f"turn {plain['number']}: {_turn_words(stage, plain)}", tone)
            seen.plain = plain
            if stage.ended and seen.ended_s is None:
                seen.ended_s = self.now_s

    def _turns(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get("/api/loop/trainings", model=MODEL)["trainings"]
        return sorted(found, key=lambda t: t["number"])


def _plan_words(plan: TrafficPlan) -> str:
    words = f"plan {plan.revision}: {plan.champion} answers"
    if plan.mode is ChallengerMode.SHADOW:
        words += f", {plan.challenger} runs in its shadow"
    elif plan.mode is ChallengerMode.CANARY:
        words += f", {plan.challenger} is canary for {plan.canary_percent:g} %"
    return f"{words} ({plan.reason})" if plan.reason else words


def _turn_words(stage: Stage, plain: dict[str, Any]) -> str:
    version = plain.get("version") or "the candidate"
    why = plain.get("problem") or plain.get("gate_words") or ""
    match stage:
        case Stage.TRAINING:
            return f"training of version {version} begins with {plain.get('rows') or 0:,} rows"
        case Stage.GATING:
            return f"the gate compares version {version} with the champion"
        case Stage.GATED | Stage.REJECTED:
            return f"the gate says {'yes' if stage is Stage.GATED else 'no'} to version {version}: {why}"
        case Stage.PROMOTED:
            return f"version {version} is the champion"
        case Stage.ROLLED_BACK:
            return f"version {version} is withdrawn: {why}"
        case _:
            return f"{stage.value.replace('_', ' ')}" + (f": {why}" if why else "")
