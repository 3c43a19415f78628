"""Jobs as real processes: what they may do, how they end, and that of one id there is never more than one (F45)."""

from __future__ import annotations

import pytest

from export.contracts.errors import NotFound
from export.contracts.training import EventKind
from monitoring.loop.contracts import JobKind, JobState
from tests.deploy.jobs.trainers import end, job, jobs_of

VERDICT = "open(request['output'] + '/verdict.json', 'w').write('{}')\n"


def test_a_job_runs_says_something_and_succeeds(tmp_path):
    jobs = jobs_of(tmp_path, "say(event='progress', step=1, of=2)\nprint('plain')\n" + VERDICT)
    assert jobs.look("one").state is JobState.UNKNOWN
    jobs.start(job(tmp_path))
    report = end(jobs)
    assert report.state is JobState.SUCCEEDED, report
    assert [(e.kind, e.step, e.of) for e in report.events] == [(EventKind.PROGRESS, 1, 2)]
    assert jobs.log("one") == "plain\n"
    assert jobs.look("one", report.next).events == []
    assert report.started_at < report.ended_at


def test_a_job_that_fails_says_its_last_words(tmp_path):
    jobs = jobs_of(tmp_path, "sys.exit('no such column')")
    jobs.start(job(tmp_path))
    report = end(jobs)
    assert (report.state, report.reason) == (JobState.FAILED, "it ended with status 1: no such column")


def test_status_0_without_a_package_is_a_failure(tmp_path):
    jobs = jobs_of(tmp_path, "say(event='done', metrics={'accuracy': 1.0})")
    jobs.start(job(tmp_path, kind=JobKind.TRAIN))
    assert end(jobs).reason == "it ended with status 0 and left no package"


def test_an_unknown_trainer_is_refused(tmp_path):
    with pytest.raises(NotFound):
        jobs_of(tmp_path, "").start(job(tmp_path, kind=JobKind.TRAIN, program="other"))
