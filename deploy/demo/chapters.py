"""The story itself: chapters in order, while traffic goes on. What a chapter waits for, the system does by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo.crowd import Traffic
from deploy.demo.pictures import Scene
from deploy.demo.reviewer import Reviewer
from deploy.demo.told import Happened, Labels
from deploy.demo.watch import SeenTurn, Watch
from deploy.errors import CommandError
from deploy.run_state import write_atomically
from export.contracts.traffic import ChallengerMode
from monitoring.loop.contracts import Stage

TICK_S = 0.25
FAULTS = {"": "in order", "shuffled": "labels of other pictures", "dead_pixel": "divides by zero at a dead pixel"}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long everything may take.

    Attributes:
        healthy_s: Of the first chapter.
        after_s: Traffic that a new champion is looked at for.
        healthy_labels: Typed while all is well.
        labels: Typed about one scene at most, however many chapters it lasts.
        label_s: The stand-in types a label in so many seconds: 150 a minute.
        types_on: Also while the loop is at work, for the gate.
        turn_s: A turn of the loop that takes longer breaks the story off.
        requests: The story goes on until so many were sent.
        rate: Requests a second.
        chapters: How many of the chapters are told.
    """

    healthy_s: float = 25.0
    after_s: float = 20.0
    healthy_labels: int = 10
    labels: int = 180
    label_s: float = 0.4
    types_on: bool = False
    turn_s: float = 420.0
    requests: int = 102_000
    rate: float = 280.0
    chapters: int = 5


QUICK = Pace(
    healthy_s=6.0,
    after_s=5.0,
    # Half of the audit items are the gate's. Those of before the shift wait in the queue, and say nothing about it: so
    # many more are typed, and sooner, than in the long form, where there is time for items to come.
    healthy_labels=30,
    labels=150,
    label_s=0.15,
    types_on=True,
    turn_s=900.0,  # it is a test, too, and of what happens: not of how fast the machine is that day
    requests=3_000,
    rate=120.0,
    chapters=2,
)


@dataclass(kw_only=True)
class Director:
    """Runs the chapters.

    Attributes:
        faults: File that the demo's trainer reads.
        say: Prints a line.
    """

    traffic: Traffic
    reviewer: Reviewer
    watch: Watch
    faults: Path
    pace: Pace
    say: Callable[[str], None]
    labels: list[Labels] = field(default_factory=list)
    turns: list[tuple[SeenTurn, str]] = field(default_factory=list)  # with the trainer's fault
    scenes: list[tuple[float, Scene]] = field(default_factory=list)
    typed_s: list[float] = field(default_factory=list)  # when each label was typed
    _debt_s: float = 0.0
    _typed_before: int = 0  # the chapter
    _scene_before: int = 0

    def run(self) -> None:
        """Tell everything."""
        chapters = (self.healthy, self.askew, self.poisoned, self.brittle, self.repaired)
        for chapter in chapters[: self.pace.chapters]:
            self.say(f"— {(chapter.__doc__ or '').splitlines()[0]}")
            self._typed_before = len(self.reviewer.labelled)
            chapter()
            self._count(chapter.__name__)
        self.enough()

    def healthy(self) -> None:
        """All is well."""
        self.scene(Scene.UPRIGHT)
        self.pass_time(self.pace.healthy_s, labels=self.pace.healthy_labels)

    def askew(self) -> None:
        """Somebody knocks the camera askew: digits are turned by about 50 degrees."""
        self.scene(Scene.TURNED)
        self.watch.note(Happened.WORLD, "the camera is knocked askew: digits are turned by about 50 degrees", "bad")
        self.turn("", Stage.PROMOTED)

    def poisoned(self) -> None:
        """Black on white; and the trainer has a bug: labels belong to other pictures."""
        self.fault("shuffled")
        if self.pace.chapters > 3:
            self.scene(Scene.INVERTED)
            self.watch.note(Happened.WORLD, "the light changes: everything is black on white", "bad")
        self.turn("shuffled", Stage.REJECTED)

    def brittle(self) -> None:
        """The labels are right again, but the new network cannot stand a dead pixel; then a pixel dies."""
        self.fault("dead_pixel")
        self.turn("dead_pixel", Stage.ROLLED_BACK)

    def repaired(self) -> None:
        """The trainer is in order again; the pixel stays dead."""
        self.fault("")
        self.turn("", Stage.PROMOTED)

    def scene(self, scene: Scene) -> None:
        """Show something else from now on."""
        self.scenes.append((self.watch.now_s, scene))
        self._scene_before = len(self.reviewer.labelled)
        self.traffic.change(scene=scene.value, rate=self.pace.rate)

    def fault(self, fault: str) -> None:
        """Make the trainer a bad one, or a good one again."""
        write_atomically(self.faults, json.dumps({"fault": fault}))
        self.watch.note(Happened.WORLD, f"the trainer: {FAULTS[fault]}")

    def pass_time(self, seconds: float, labels: int = 0) -> None:
        """Let traffic go on, and the reviewer work."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.tick(labels)

    def turn(self, fault: str, wanted: Stage) -> None:
        """Wait for the next turn of the loop and its end; the reviewer works until it begins.

        Raises:
            CommandError: it did not begin, or did not end, in time.
        """
        deadline = time.monotonic() + self.pace.turn_s
        mine: SeenTurn | None = None
        while mine is None or not mine.stage.ended:
            if time.monotonic() > deadline:
                stands = "did not begin" if mine is None else f"stands at '{mine.stage}'"
                raise CommandError(
                    f"the turn that should have ended as '{wanted}' {stands} after {self.pace.turn_s:.0f} s",
                    "`hardcase retrain --dry-run` says what the trigger waits for",
                )
            self.tick(self.pace.labels if mine is None or self.pace.types_on else 0)
            if mine is None:
                mine = self._next_turn()
                if mine is not None:
                    self.turns.append((mine, fault))
            elif fault == "dead_pixel" and not self.traffic.order.dead_pixel and self._is_canary(mine):
                self.traffic.change(dead_pixel=True)
                self.watch.note(Happened.WORLD, "a pixel of the camera dies", "bad")
            elif mine.champion_s is not None and self.traffic.order.pool == "a":
                self.traffic.change(pool="b")
                self.watch.note(Happened.WORLD, "from now on the clients show digits that nobody has labelled")
        self.pass_time(self.pace.after_s if mine.stage is Stage.PROMOTED else 0.0)

    def enough(self) -> None:
        """Go on until there were as many requests as promised."""
        while self.traffic.totals().sent < self.pace.requests:
            self.tick(0)

    def tick(self, labels: int) -> None:
        """A quarter of a second: look, and let the reviewer type if its time has come.

        Args:
            labels: It types on until it has typed so many in this scene.
        """
        began = time.monotonic()
        self.watch.look()
        typed = len(self.reviewer.labelled) - self._scene_before
        if typed < labels and self._debt_s <= 0.0:
            done = self.reviewer.review(labels - typed)
            self.typed_s += [self.watch.now_s] * done
            self._debt_s += self.pace.label_s * max(1, done)
        time.sleep(max(0.0, TICK_S - (time.monotonic() - began)))
        self._debt_s = max(0.0, self._debt_s - (time.monotonic() - began))

    def _next_turn(self) -> SeenTurn | None:
        told = {turn.id for turn, _ in self.turns}
        fresh = [t for t in self.watch.turns.values() if t.first_s >= 0 and t.id not in told]
        return min(fresh, key=lambda t: t.first_s, default=None)

    def _is_canary(self, turn: SeenTurn) -> bool:
        plan = self.watch.plan
        return (
            plan is not None
            and bool(turn.version)
            and plan.challenger == turn.version
            and plan.mode is ChallengerMode.CANARY
        )

    def _count(self, chapter: str) -> None:
        done = self.reviewer.labelled[self._typed_before :]
        if done:
            self.watch.note(Happened.LABELS, f"{len(done)} labels were typed in this chapter")
        self.labels.append(
            Labels(
                chapter=chapter,
                typed=len(done),
                audits=sum(one.audit for one in done),
                mistaken=sum(one.mistaken for one in done),
            )
        )
