"""The program of a Ray job: `python -m deploy.jobs.ray_driver OPTIONS -- PROGRAM... REQUEST`.

It lets an actor on some node of the cluster run the trainer, and says what the trainer says. The actor is detached and
has the job's name, so a driver that was killed finds it again instead of starting another. On the node, the trainer
is supervised as on the monitor's machine, in a job's folder below its output: that lies where all nodes see it, and so
do its lock and its end. So one that lost its node is begun again elsewhere, and one that has ended is not.

Why an actor and not Ray's job submission: that needs the dashboard, which our clusters do not run
(`docs/decisions/0190-executors-of-trainings.md`).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import ray

from deploy.jobs.folder import JobFolder, JobSpec
from deploy.jobs.local import SupervisedJobs
from deploy.jobs.programs import Program
from deploy.jobs.supervise import FOLDER, TEMPORARY_FAILURE
from export.contracts import codec
from export.training.lines import to_line
from monitoring.loop.contracts import Job, JobReport, JobState
from serving.ray_environment import ADDRESS_FILE

NAMESPACE = "hardcase-jobs"
LOOK_S = 0.3
SIGN_OF_LIFE_S = 5.0
ANSWER_S = 30.0  # an actor that is silent for so long is taken for lost
WAIT_S = 3600.0  # until the cluster has room; the job's budget ends it sooner
FOLDER_IN_OUTPUT = ".job"


class Runner:
    """Runs one job on the node that it is on.

    Args:
        job: A `Job` but for its paths: id, kind, model and limits, with request and output as texts.
        program: A `Program`, as plain JSON.
    """

    def __init__(self, job: dict[str, Any], program: dict[str, Any]) -> None:
        self._job = Job(**{**job, "request": Path(job["request"]), "output": Path(job["output"]), "program": "t"})
        made = Program(**{**program, "argv": tuple(program["argv"]), "pass_on": tuple(program["pass_on"])})
        self._jobs = SupervisedJobs(self._job.output / FOLDER_IN_OUTPUT, {"t": made, "": made}, with_parent=True)

    def look(self, since: int) -> tuple[str, str, bytes, int]:
        """State, reason, lines from a place on, and the place behind them. Starts it with the first look."""
        self._jobs.start(self._job)
        report: JobReport = self._jobs.look(self._job.id, since)
        return report.state.value, report.reason, b"".join(to_line(event) for event in report.events), report.next

    def log(self) -> str:
        """The end of what it has printed."""
        return self._jobs.log(self._job.id)

    def cancel(self) -> None:
        """End it."""
        self._jobs.cancel(self._job.id)


def address_of(asked: str, environment: dict[str, str]) -> str:
    """Where the cluster is: "auto" is the one that this run of Hardcase started, where there is one."""
    if asked == "auto" and "HARDCASE_RUN_TEMP" in environment:
        told = Path(environment["HARDCASE_RUN_TEMP"], "ray", ADDRESS_FILE)
        if told.is_file():
            return told.read_text().strip()
    return asked


def run(given: argparse.Namespace, spec: JobSpec, told: list[int]) -> int:
    """Stay with the actor until its job has ended; the exit status."""
    folder = JobFolder.at(Path(os.environ[FOLDER]))
    program = {
        "argv": given.program[:-1],
        "pass_on": [*given.pass_on, "PYTHONPATH"],
        "memory_bytes": given.memory,
        "output_bytes": spec.output_bytes,
        "nice": given.nice,
        "grace_s": given.grace,
        "restarts": spec.restarts,
        "folder": given.folder,
    }
    job = {
        "id": spec.id,
        "kind": spec.kind,
        "model": spec.model,
        "request": spec.request,
        "output": spec.output,
        "budget_s": spec.budget_s,
        "silence_s": spec.silence_s,
    }
    remote: Any = ray.remote(Runner)
    actor = remote.options(
        name=folder.dir.name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=given.cpus,
        num_gpus=given.gpus,
        max_restarts=0,
    ).remote(job, program)
    place_file = folder.dir / "read"
    place = int(place_file.read_text()) if place_file.exists() else 0
    asked, heard, patience = actor.look.remote(place), time.monotonic(), WAIT_S
    while True:
        if told:
            return _leave(actor, folder)
        ready, _ = ray.wait([asked], timeout=LOOK_S)
        if not ready:
            if time.monotonic() - heard > patience:
                print("the node does not answer", file=sys.stderr)
                return TEMPORARY_FAILURE
            continue
        state, reason, lines, place = ray.get(asked)
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()
        place_file.write_text(str(place))
        if state != JobState.RUNNING.value:
            print(ray.get(actor.log.remote(), timeout=ANSWER_S), file=sys.stderr, flush=True)
            ray.kill(actor)
            if state != JobState.SUCCEEDED.value:
                print(reason, file=sys.stderr)
            return 0 if state == JobState.SUCCEEDED.value else 1
        if time.monotonic() - heard > SIGN_OF_LIFE_S:
            print("running", file=sys.stderr, flush=True)  # its own silence is counted on the node
            heard = time.monotonic()
        patience = ANSWER_S
        time.sleep(LOOK_S)
        asked = actor.look.remote(place)


def _leave(actor: Any, folder: JobFolder) -> int:
    """Somebody wants this program to end. Only where that is for good does the actor's job end, too."""
    if folder.ends_for_good:
        try:
            ray.get(actor.cancel.remote(), timeout=5.0)
            deadline = time.monotonic() + 30.0
            while time.monotonic() < deadline:
                if ray.get(actor.look.remote(0), timeout=5.0)[0] != JobState.RUNNING.value:
                    break
                time.sleep(0.1)
        except ray.exceptions.RayError as error:
            print(f"the node was not told: {type(error).__name__}", file=sys.stderr)
        ray.kill(actor)
    return 128 + signal.SIGTERM


def main(arguments: list[str]) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="auto")
    parser.add_argument("--cpus", type=float, default=1.0)
    parser.add_argument("--gpus", type=float, default=0.0)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--folder", default="")
    parser.add_argument("--pass-on", action="append", default=[])
    parser.add_argument("program", nargs="+", help="the program, and at last the request")
    given = parser.parse_args(arguments)
    told: list[int] = []

    def tell(number: int, frame: FrameType | None) -> None:
        told.append(number)

    signal.signal(signal.SIGTERM, tell)
    spec = codec.loads(JobSpec, Path(os.environ[FOLDER], "job.json").read_bytes())
    try:
        ray.init(address=address_of(given.address, dict(os.environ)), namespace=NAMESPACE, log_to_driver=False)
        signal.signal(signal.SIGTERM, tell)  # Ray has put its own there
        return run(given, spec, told)
    except (ConnectionError, ray.exceptions.RayError) as error:
        print(f"the cluster was lost: {type(error).__name__}", file=sys.stderr)
        return TEMPORARY_FAILURE
    finally:
        ray.shutdown()


if __name__ == "__main__":
    # By its real name, so that the nodes import the actor's class instead of being sent it.
    from deploy.jobs.ray_driver import main as run_main

    raise SystemExit(run_main(sys.argv[1:]))
