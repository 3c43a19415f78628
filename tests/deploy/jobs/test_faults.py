"""F45: a trainer that hangs, does not listen, lies, floods, grows, forks, is begun twice, or is killed with its keeper.

Every trainer says in a file of its own that it began: so each test proves that the fault happened.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from deploy.jobs.family import MARK
from deploy.jobs.folder import JobFolder
from deploy.jobs.local import SupervisedJobs
from monitoring.loop.contracts import JobKind, JobState
from tests.deploy.jobs.trainers import begun, end, job, jobs_of, until

VERDICT = "open(request['output'] + '/verdict.json', 'w').write('{}')\n"


def _gone(mark_of: Path) -> bool:
    """Whether nothing of a job's attempts is left on this machine."""
    marks = {attempt.mark for attempt in JobFolder.at(mark_of).attempts()}
    assert marks
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) in marks and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except (psutil.Error, OSError):
            continue
    return True


DEAF = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)  # the grandchild is nobody's, in a session of its own
while True:
    print('busy', flush=True); time.sleep(0.05)
"""
GREEDY = """
held = []
while True:
    held.append(bytearray(os.urandom(1 << 20) * 32)); print(len(held), flush=True)
"""
MANY = """
for _ in range(4):
    subprocess.Popen([sys.executable, '-c', 'import time; x = bytearray(b"1" * (80 << 20)); time.sleep(60)'])
while True:
    print('here', flush=True); time.sleep(0.1)
"""
HOARDER = """
for i in range(10_000):
    open(f"{request['output']}/{i}", "wb").write(b"1" * 100_000)
    print(i, flush=True); time.sleep(0.01)
"""
OUTLIVED = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n" + VERDICT
# name: (trainer, its limits, the job's, words of how it ends; "" is success)
ENDS: dict[str, tuple[str, dict[str, object], dict[str, float], str]] = {
    "silent": ("time.sleep(60)", {}, {"silence_s": 2.5}, "it has said nothing for 2.5 s"),
    "deaf": (DEAF, {}, {"budget_s": 3}, "it was not done after 3 s; it did not end when asked, and was killed"),
    "outlived": (OUTLIVED, {}, {}, ""),
    "greedy": (GREEDY, {"memory_bytes": 300 << 20}, {}, "MemoryError|bytes of memory|SIGKILL"),
    "many": (MANY, {"memory_bytes": 250 << 20}, {}, f"it took more than {250 << 20} bytes of memory"),
    "hoarder": (HOARDER, {"output_bytes": 2_000_000}, {}, "it wrote more than 2000000 bytes"),
}


def test_a_trainer_ends_at_its_limits_and_takes_all_of_its_own_with_it(tmp_path):
    """All at once, each in a folder of its own."""
    running = {}
    for name, (code, limits, of_job, _) in ENDS.items():
        root = tmp_path / name
        root.mkdir()
        running[name] = jobs_of(root, code, **limits)
        running[name].start(job(root, **of_job))
    for name, (_, _, _, words) in ENDS.items():
        report = end(running[name])
        assert re.search(words, report.reason), (name, report)
        assert report.state is (JobState.FAILED if words else JobState.SUCCEEDED), (name, report)
        assert begun(tmp_path / name) == 1, "the fault happened"
        assert _gone(tmp_path / name / "jobs" / "one"), name


def test_a_program_that_is_not_there_fails(tmp_path):
    jobs = jobs_of(tmp_path, "", argv=("/nowhere/trainer",))
    jobs.start(job(tmp_path))
    assert end(jobs).reason == "the program cannot be started: No such file or directory"


def test_a_flood_of_output_is_bounded_and_its_end_is_kept(tmp_path):
    code = (
        """
piece = b'x' * 1_000_000
for i in range(100): os.write(1, piece)  # one line of 100 MB
os.write(1, b'\\n')
for i in range(40): os.write(2, b'\\x00\\xff' * 50_000 + b'\\n')
for i in range(6000): say(event='progress', step=i)
say(event='done', metrics={'a': 1})
print('the end')
"""
        + VERDICT
    )
    jobs = jobs_of(tmp_path, code)
    jobs.start(job(tmp_path))
    report = end(jobs)
    assert report.state is JobState.SUCCEEDED
    folder = tmp_path / "jobs" / "one"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 12 << 20
    assert "the end" in jobs.log("one", 60)
    said = (folder / "events.jsonl").read_text().splitlines()
    assert 5000 <= len(said) < 5200
    assert json.loads(said[-2])["event"] == "done"
    assert "were left out" in said[-1]


def test_a_job_can_be_ended_and_stays_ended(tmp_path):
    jobs = jobs_of(tmp_path, "while True:\n    print('on', flush=True); time.sleep(0.05)")
    jobs.start(job(tmp_path))
    until(jobs, "one", lambda _: "on" in jobs.log("one"))
    jobs.cancel("one")
    assert end(jobs).state is JobState.CANCELLED
    jobs.cancel("one")
    jobs.start(job(tmp_path))
    assert end(jobs).state is JobState.CANCELLED
    assert begun(tmp_path) == 1


def test_a_secret_of_the_monitor_does_not_reach_a_trainer_unless_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN_A", "a")
    monkeypatch.setenv("TOKEN_B", "b")
    jobs = jobs_of(tmp_path, "print(sorted(n for n in os.environ if 'TOKEN' in n))\n" + VERDICT, pass_on=("TOKEN_B",))
    jobs.start(job(tmp_path))
    end(jobs)
    assert jobs.log("one") == "['TOKEN_B']\n"


def test_two_monitors_that_start_one_job_at_once_start_it_once(tmp_path):
    code = "time.sleep(0.5)\n" + VERDICT
    many = [jobs_of(tmp_path, code) for _ in range(4)]
    wanted = job(tmp_path)
    gate = threading.Barrier(4)

    def go(jobs: SupervisedJobs) -> None:
        gate.wait()
        jobs.start(wanted)
        end(jobs)

    threads = [threading.Thread(target=go, args=(jobs,)) for jobs in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert many[0].look("one").state is JobState.SUCCEEDED
    assert begun(tmp_path) == 1


@pytest.mark.slow  # the short form of the kills below has it in it
def test_a_job_goes_on_when_the_process_that_started_it_is_killed(tmp_path):
    jobs = jobs_of(tmp_path, "time.sleep(1)\n" + VERDICT)
    monitor = _monitor(tmp_path, "time.sleep(1)\n" + VERDICT)
    until(jobs, "one", lambda _: begun(tmp_path) == 1)
    monitor.kill()
    monitor.wait()
    assert end(jobs).state is JobState.SUCCEEDED
    assert begun(tmp_path) == 1


def test_a_job_whose_supervisor_is_killed_is_not_begun_again_where_it_may_not(tmp_path):
    jobs = jobs_of(tmp_path, "subprocess.Popen(['sleep', '60'])\nprint('on', flush=True)\ntime.sleep(60)")
    jobs.start(job(tmp_path))
    until(jobs, "one", lambda _: "on" in jobs.log("one"))
    folder = JobFolder(tmp_path / "jobs", "one")
    os.kill(folder.attempts()[0].supervisor, signal.SIGKILL)
    report = end(jobs)
    assert report.reason == "it was broken off from outside once, and is not begun again"
    assert begun(tmp_path) == 1
    assert _gone(folder.dir)


def _monitor(root: Path, code: str) -> subprocess.Popen[bytes]:
    """A process that starts the job and then looks after it, as the monitor does."""
    text = f"""
import time
from pathlib import Path
from tests.deploy.jobs.trainers import job, jobs_of
jobs = jobs_of(Path({str(root)!r}), {code!r}, restarts=1000)
while True:
    jobs.start(job(Path({str(root)!r})))
    jobs.look("one")
    time.sleep(0.01)
"""
    return subprocess.Popen([sys.executable, "-c", text])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_of_jobs_with_one_id_never_two_run_whatever_is_killed_and_when(tmp_path, seed, request):
    """Monitor, supervisor and trainer are killed at random moments; the trainer itself tells when it is not alone."""
    long = bool(list(request.node.iter_markers("slow")))
    moments, steps = (15, 100) if long else (2, 12)
    rng = random.Random(seed)
    code = (
        """
import fcntl
alone = open(request['output'] + '/alone', 'a')
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open(request['output'] + '/twice', 'a').write('!')
subprocess.Popen(['sleep', '60'])
for i in range(STEPS):
    say(event='progress', step=i); time.sleep(0.02)
with open(request['output'] + '/finished', 'a') as f: f.write('!')
"""
        + VERDICT
    ).replace("STEPS", str(steps))
    folder = JobFolder(tmp_path / "jobs", "one")
    monitor = _monitor(tmp_path, code)
    killed = 0
    try:
        for _ in range(moments):
            seen, deadline = len(folder.attempts()), time.monotonic() + 20
            while len(folder.attempts()) == seen and folder.exit() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 1.0))
            attempts = folder.attempts()
            if not attempts or folder.exit() is not None:
                break
            victim = rng.choice(["supervisor", "supervisor", "both"])
            if victim == "both":
                monitor.kill()
                monitor.wait()
            try:
                os.kill(attempts[-1].supervisor, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
            if victim == "both":
                monitor = _monitor(tmp_path, code)
        jobs = jobs_of(tmp_path, code, restarts=1000)
        until(jobs, "one", lambda r: r.state is JobState.SUCCEEDED, within_s=120)
    finally:
        monitor.kill()
        monitor.wait()
    output = tmp_path / "output" / "one"
    assert not (output / "twice").exists(), "two ran at once"
    assert begun(tmp_path) <= len(folder.attempts())
    assert len((output / "finished").read_text()) >= 1
    assert _gone(folder.dir)
    if long:
        assert killed >= 3  # the positive control: attempts were broken off
        assert len(folder.attempts()) >= killed


@pytest.mark.slow
def test_a_flock_tells_when_two_trainers_run_at_once(tmp_path):
    """The negative control of the test above: with two job ids the same trainer finds that it is not alone."""
    code = (
        """
import fcntl
alone = open(os.path.dirname(request['output']) + '/alone', 'a')
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open(os.path.dirname(request['output']) + '/twice', 'a').write('!')
time.sleep(1)
"""
        + VERDICT
    )
    jobs = jobs_of(tmp_path, code)
    jobs.start(job(tmp_path, "a"))
    jobs.start(job(tmp_path, "b"))
    end(jobs, "a"), end(jobs, "b")
    assert (tmp_path / "output" / "twice").exists()


def test_the_end_is_written_once(tmp_path):
    jobs = jobs_of(tmp_path, "sys.exit(3)")
    jobs.start(job(tmp_path, kind=JobKind.TRAIN))
    end(jobs)
    assert not JobFolder(tmp_path / "jobs", "one").finish(JobState.SUCCEEDED)
    assert jobs.look("one").state is JobState.FAILED
