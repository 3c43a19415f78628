"""Trainings on a Ray cluster: on a node, found again after a kill of the driver, begun again after one of the actor."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.jobs.folder import JobFolder
from deploy.jobs.local import SupervisedJobs
from deploy.jobs.programs import Program
from export.contracts.training import EventKind
from monitoring.loop.contracts import JobState
from serving.ray_environment import ADDRESS_FILE
from tests.deploy.jobs.trainers import HEAD, begun, end, job, until
from tests.support.ray_cluster import RayServing

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

TRAINER = """
import fcntl, psutil
alone = open(request['output'] + '/alone', 'a')
try: fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: open(request['output'] + '/twice', 'a').write('!')
up = [p.name() for p in psutil.Process().parents()]
open(request['output'] + '/parents', 'w').write(' '.join(up))
for i in range(STEPS):
    say(event='progress', step=i + 1, of=STEPS); print('step', i); time.sleep(0.1)
open(request['output'] + '/verdict.json', 'w').write('{}')
"""


def ray_jobs(root: Path, cluster: RayServing, steps: int) -> SupervisedJobs:
    code = HEAD + TRAINER.replace("STEPS", str(steps))
    options = ("--address", (cluster.folder / "ray" / ADDRESS_FILE).read_text(), "--cpus", "0.1")
    program = Program(
        argv=(sys.executable, "-m", "deploy.jobs.ray_driver", *options, "--", sys.executable, "-c", code),
        pass_on=("PYTHONPATH",),
        environment=(("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN_PATH", str(cluster.folder / "token"))),
        restarts=3,
        grace_s=5.0,
    )
    return SupervisedJobs(root / "jobs", {"": program})


def test_a_training_runs_on_a_node_and_survives_its_driver_and_its_actor(cluster: RayServing, tmp_path: Path) -> None:
    jobs = ray_jobs(tmp_path, cluster, steps=40)
    jobs.start(job(tmp_path, budget_s=240.0, silence_s=120.0))
    until(jobs, "one", lambda r: len(r.events) > 2, within_s=90)

    # The driver and its supervisor: the actor goes on, and is found again.
    folder = JobFolder(tmp_path / "jobs", "one")
    supervisor = psutil.Process(folder.attempts()[0].supervisor)
    for process in [*supervisor.children(recursive=True), supervisor]:
        process.send_signal(signal.SIGKILL)
    until(jobs, "one", lambda _: len(folder.attempts()) == 2, within_s=60)
    assert begun(tmp_path) == 1

    report = until(jobs, "one", lambda r: r.state is not JobState.RUNNING, within_s=120)
    assert report.state is JobState.SUCCEEDED, (report, jobs.log("one"))
    assert begun(tmp_path) == 1
    assert "ray::" in (tmp_path / "output" / "one" / "parents").read_text()
    steps = [e.step for e in report.events if e.kind is EventKind.PROGRESS]
    assert set(steps) == set(range(1, 41))
    assert "step 39" in jobs.log("one", 50)


def test_a_training_whose_actor_is_killed_is_begun_again_alone_and_one_that_is_ended_leaves_nothing(
    cluster: RayServing, tmp_path: Path
) -> None:
    jobs = ray_jobs(tmp_path, cluster, steps=20)
    jobs.start(job(tmp_path, "lost", budget_s=240.0, silence_s=120.0))
    until(jobs, "lost", lambda r: len(r.events) > 2, within_s=90)
    inner = JobFolder(tmp_path / "output" / "lost" / ".job", "lost")
    os.kill(psutil.Process(inner.attempts()[0].supervisor).ppid(), signal.SIGKILL)  # the actor's process
    report = until(jobs, "lost", lambda r: r.state is not JobState.RUNNING, within_s=150)
    assert report.state is JobState.SUCCEEDED, (report, jobs.log("lost"))
    assert begun(tmp_path, "lost") == 2
    assert not (tmp_path / "output" / "lost" / "twice").exists()

    jobs = ray_jobs(tmp_path, cluster, steps=2000)
    jobs.start(job(tmp_path, "ended", budget_s=240.0, silence_s=120.0))
    until(jobs, "ended", lambda r: len(r.events) > 2, within_s=90)
    jobs.cancel("ended")
    assert end(jobs, "ended").state is JobState.CANCELLED
    mine = str(tmp_path / "ended.json")
    deadline = time.monotonic() + 20
    while [p for p in psutil.process_iter(["cmdline"]) if mine in (p.info["cmdline"] or [])]:
        assert time.monotonic() < deadline, "the trainer runs on"
        time.sleep(0.1)
