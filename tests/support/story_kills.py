"""The first turn of the story while everything is killed: `python -m tests.support.story_kills --kills 50`.

Serving, monitor, the supervisor and every job get SIGKILL at random moments, all at once, and `hardcase up` is started
again; traffic and the stand-in reviewer go on as if nothing was. In the end the state must be the one that an
undisturbed run has: one turn, promoted; its version the champion; one training job for the one trigger, one gate, one
roll-out; no label counted twice. Requests of the moments in which nothing served fail, and are counted.

Each kill costs a start of the system, about ten seconds on two quiet cores: fifty take about twenty minutes. After
`--minutes` (25) nothing more is killed and the story ends; the result says how often it was.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import machine_facts
from deploy.demo.background import Order
from deploy.demo.crowd import Traffic
from deploy.demo.digits import load_digits
from deploy.demo.overlay import overlay
from deploy.demo.pictures import Scene
from deploy.demo.reviewer import Reviewer
from deploy.errors import CommandError
from deploy.monitor_client import MonitorClient
from deploy.processes import RUN_ID
from export.registry import Registry
from monitoring.loop.contracts import Stage
from tests.support.hardcase_process import Place, Running

ROOT = Path(__file__).resolve().parents[2]
LABELS = 170
HEALTHY_S = 8.0
MINUTES = 25.0
START_S = 400.0
LIMIT_S = 1800.0  # from the last kill to the end


@dataclass(kw_only=True)
class Ending:
    """The state in the end, and what happened on the way."""

    champion: str
    stages: list[str]
    jobs: dict[str, int]  # {kind of job: how many there ever were}
    trained: int  # times that the trainer left a whole package
    decisions: int  # that began a training
    double_labels: int
    kills: int
    killed_in: dict[str, int]  # {stage of the turn: kills in it}
    killed: int  # processes
    sent: int
    failed: int
    seconds: float
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def same(self) -> dict[str, Any]:
        """What must be the same, however often everything was killed."""
        return {
            "champion": self.champion,
            "stages": self.stages,
            "jobs": self.jobs,
            "decisions": self.decisions,
            "double_labels": self.double_labels,
        }


EXPECTED = {
    "champion": "2",
    "stages": [Stage.PROMOTED.value],
    "jobs": {"train": 1, "gate": 1},
    "decisions": 1,
    "double_labels": 0,
}


def run(folder: Path, kills: int, seed: int = 0, minutes: float = MINUTES) -> Ending:
    """The first turn of the story, killed so often.

    Args:
        folder: Empty; state, logs and settings go there.
        kills: How often.
        seed: Of the moments.
        minutes: No kill after so many.
    """
    rng, started = random.Random(seed), time.monotonic()
    sections = overlay(folder / "trainer.json", quick=True)
    sections["retrain"]["trainers"][0]["restarts"] = 100  # each kill breaks a training off
    place = Place.make(folder, serving={"standalone": True}, **sections)
    system = place.start(timeout=START_S)
    name = f"k{seed}"
    traffic = Traffic(
        f"127.0.0.1:{place.serving_port}", None, run=name, seed=seed, order=Order(rate=100.0), log=folder / "crowd.log"
    )
    client = MonitorClient(place.console)
    reviewer = Reviewer(client, name, load_digits().live.labels, error_rate=0.02, seed=seed)
    killed_in: Counter[str] = Counter()
    done, processes = 0, 0
    next_kill = time.monotonic() + rng.uniform(1.0, 6.0)
    try:
        while True:
            elapsed = time.monotonic() - started
            over = done >= kills or elapsed > 60.0 * minutes
            if elapsed > 60.0 * minutes + LIMIT_S:
                raise AssertionError(f"not at its end after {elapsed:.0f} s: {_turns(client)}")
            if elapsed > HEALTHY_S and traffic.order.scene == Scene.UPRIGHT.value:
                traffic.change(scene=Scene.TURNED.value)
            if not over and time.monotonic() > next_kill:
                turns = _turns(client)
                killed_in[turns[-1]["stage"] if turns else "before the trigger"] += 1
                processes += kill_everything(system)
                done += 1
                system = place.start(timeout=START_S)
                # Mostly soon, so that starting is hit; sometimes late, so that the turn gets on.
                soonest, latest = (0.2, 6.0) if rng.random() < 0.7 else (6.0, 40.0)
                next_kill = time.monotonic() + rng.uniform(soonest, latest)
            _review(reviewer)
            turns = _turns(client)
            if over and turns and Stage(turns[-1]["stage"]).ended:
                break
            time.sleep(0.3)
        totals = traffic.close()
        return _ending(place, client, reviewer, done, killed_in, processes, totals.sent, totals.failed, started)
    finally:
        client.close()
        traffic.kill()
        system.ensure_stopped()


def kill_everything(system: Running) -> int:
    """SIGKILL for all processes of a run at once; returns how many there were."""
    victims = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_ID) == system.run.run_id:
                victims.append(process)
        except (psutil.Error, OSError):
            continue
    for process in [*victims, psutil.Process(system.process.pid)]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    system.process.wait()
    psutil.wait_procs(victims, timeout=10)
    return len(victims)


def _review(reviewer: Reviewer) -> None:
    if len(reviewer.labelled) >= LABELS:
        return
    try:
        reviewer.review(2)
    except CommandError:
        return  # nobody is there, or what was leased is gone; the next time


def _turns(client: MonitorClient) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = client.get("/api/loop/trainings", model="digits")["trainings"]
    except CommandError:
        return []
    return sorted(found, key=lambda turn: turn["number"])


def _ending(
    place: Place,
    client: MonitorClient,
    reviewer: Reviewer,
    kills: int,
    killed_in: Counter[str],
    processes: int,
    sent: int,
    failed: int,
    started: float,
) -> Ending:
    turns = _turns(client)
    plan = Registry(place.paths.registry).plan("digits")
    jobs = Counter(json.loads(path.read_text())["kind"] for path in place.paths.jobs.glob("*/job.json"))
    decisions = client.get("/api/loop/decisions", model="digits")["decisions"]
    twice = Counter(one.case for one in reviewer.labelled)
    return Ending(
        champion=str(plan.champion if plan else None),
        stages=[turn["stage"] for turn in turns],
        jobs=dict(jobs),
        trained=len(list(place.paths.loop.glob("**/package/manifest.json"))),
        decisions=sum(d["decision"] == "retrain" for d in decisions),
        double_labels=sum(count > 1 for count in twice.values()),
        kills=kills,
        killed_in=dict(killed_in),
        killed=processes,
        sent=sent,
        failed=failed,
        seconds=round(time.monotonic() - started, 1),
    )


def main() -> int:
    """Kill, compare with what must be, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--output", type=Path, help="such as benchmarks/results/story_kills.json")
    given = parser.parse_args()
    facts = machine_facts(ROOT)
    with tempfile.TemporaryDirectory(prefix="hck-") as folder:
        ending = run(Path(folder), given.kills, given.seed, given.minutes)
    text = json.dumps({"machine": facts, "seed": given.seed, **asdict(ending)}, indent=1)
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n")
    return 0 if ending.same == EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
