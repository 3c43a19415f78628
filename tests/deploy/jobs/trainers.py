"""Trainers for the tests of jobs: each a few lines of Python that behave as their name says."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.jobs.local import SupervisedJobs
from deploy.jobs.programs import Program
from monitoring.loop.contracts import Job, JobKind, JobReport, JobState

HEAD = """
import json, os, signal, subprocess, sys, time
request = json.load(open(sys.argv[1]))
with open(request["output"] + "/begun", "a") as file: file.write("!")
def say(**event): print(json.dumps(event), flush=True)
"""


def jobs_of(root: Path, code: str, **limits: object) -> SupervisedJobs:
    """Jobs whose only trainer, "t", is this code."""
    given = {"argv": (sys.executable, "-c", HEAD + code), "grace_s": 0.3, "restarts": 0, **limits}
    program = Program(**given)
    return SupervisedJobs(root / "jobs", {"t": program, "": program})


def job(root: Path, job_id: str = "one", kind: JobKind = JobKind.GATE, **more: object) -> Job:
    """A job with a request file. Of kind GATE, where only a file `verdict.json` is expected."""
    output = root / "output" / job_id
    output.mkdir(parents=True, exist_ok=True)
    request = root / f"{job_id}.json"
    if not request.exists():  # whole or not at all: processes that are killed call this, too
        half = root / f".{job_id}.{os.getpid()}"
        half.write_text(json.dumps({"id": job_id, "output": str(output), "model": "m", "version": "2"}))
        half.replace(request)
    given = {"budget_s": 30.0, "silence_s": 20.0, "program": "t", **more}
    return Job(id=job_id, kind=kind, model="m", request=request, output=output, **given)


def until(
    jobs: SupervisedJobs, job_id: str, holds: Callable[[JobReport], bool], *, within_s: float = 20.0
) -> JobReport:
    """Look until it holds."""
    deadline = time.monotonic() + within_s
    while True:
        report = jobs.look(job_id)
        if holds(report):
            return report
        assert time.monotonic() < deadline, (report, jobs.log(job_id))
        time.sleep(0.02)


def end(jobs: SupervisedJobs, job_id: str = "one") -> JobReport:
    """Look until it is over."""
    return until(jobs, job_id, lambda report: report.state not in (JobState.RUNNING, JobState.UNKNOWN))


def begun(root: Path, job_id: str = "one") -> int:
    """How often the trainer of a job has begun."""
    file = root / "output" / job_id / "begun"
    return len(file.read_text()) if file.exists() else 0
