"""`Jobs` for programs of this machine. Ray jobs and webhooks are such programs too: small ones that wait for others."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from deploy.jobs.folder import Exit, JobFolder, JobSpec, request_facts
from deploy.jobs.programs import GATE, Program
from export.contracts.errors import NotFound
from export.contracts.training import PACKAGE_FOLDER
from monitoring.loop.contracts import Job, JobKind, JobReport, JobState

GATE_EXPECTS = "verdict.json"
CODE = Path(__file__).resolve().parents[2]  # where `deploy` lies
STARTS = 5  # supervisors that end without having begun anything; then the job has failed


class SupervisedJobs:
    """Runs each job below a supervisor of its own (`deploy.jobs.supervise`) that outlives this process.

    Args:
        root: Folder of all jobs.
        programs: By name; `GATE` for jobs without one.
        with_parent: Supervisors end when this process ends, instead of outliving it.
        python: Interpreter of the supervisors.
    """

    def __init__(
        self, root: Path, programs: Mapping[str, Program], *, with_parent: bool = False, python: str = sys.executable
    ) -> None:
        self._with_parent = ("--with-parent",) if with_parent else ()
        self._root = root
        self._programs = programs
        self._python = python
        self._supervisors: dict[str, int] = {}  # job to process id
        self._started: dict[str, int] = {}
        self._lock = threading.Lock()

    def start(self, job: Job) -> None:
        """Start it, unless a job of this id was started before.

        Raises:
            NotFound: the settings name no such program.
        """
        folder = JobFolder(self._root, job.id)
        if folder.spec() is None:
            folder.declare(self._spec(job))
        self._see_to(job.id, folder)

    def look(self, job_id: str, since: int = 0) -> JobReport:
        """How it stands. A job whose supervisor vanished is begun again here, where it may be."""
        folder = JobFolder(self._root, job_id)
        if folder.spec() is None:
            return JobReport(state=JobState.UNKNOWN)
        ended = self._see_to(job_id, folder)
        events, behind = folder.events(since)
        attempts = folder.attempts()
        return JobReport(
            state=ended.state if ended else JobState.RUNNING,
            reason=ended.reason if ended else "",
            events=events,
            next=behind,
            started_at=attempts[0].started_at if attempts else None,
            ended_at=ended.ended_at if ended else None,
            where=f"process {attempts[-1].supervisor}" if attempts else "",
        )

    def cancel(self, job_id: str) -> None:
        """End it: its supervisor sees to it within a tick, and the grace."""
        folder = JobFolder(self._root, job_id)
        if folder.spec() is not None and folder.exit() is None:
            folder.ask_to_end()
            self._see_to(job_id, folder)

    def log(self, job_id: str, lines: int = 200) -> str:
        """The end of what it has printed."""
        return JobFolder(self._root, job_id).log_end(lines)

    def _see_to(self, job_id: str, folder: JobFolder) -> Exit | None:
        """Its end, or a supervisor for it."""
        with self._lock:
            self._reap()
            ended = folder.exit()
            if (
                ended is not None or folder.supervised or job_id in self._supervisors
            ):  # the last: on its way to the lock
                return ended
            ended = folder.exit()  # between the two looks it may have ended
            return ended or self._supervise(job_id, folder)

    def _supervise(self, job_id: str, folder: JobFolder) -> Exit | None:
        key = f"{job_id}/{len(folder.attempts())}"
        self._started[key] = self._started.get(key, 0) + 1
        if self._started[key] > STARTS:
            folder.finish(JobState.FAILED, "its supervisor cannot be started")
            return folder.exit()
        said = str(folder.dir / "supervisor.log")
        # A session of its own: neither a terminal's Ctrl-C nor our end reaches it.
        self._supervisors[job_id] = os.posix_spawn(
            self._python,
            [self._python, "-m", "deploy.jobs.supervise", *self._with_parent, str(folder.dir)],
            {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(CODE), os.environ.get("PYTHONPATH"))))},
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        return None

    def _reap(self) -> None:
        """Forget the supervisors of ours that ended."""
        for job_id, pid in list(self._supervisors.items()):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                ended = pid
            if ended:
                del self._supervisors[job_id]

    def _spec(self, job: Job) -> JobSpec:
        program = self._programs.get(job.program if job.kind is JobKind.TRAIN else GATE)
        if program is None:
            raise NotFound(f"the settings name no trainer '{job.program}'")
        facts = request_facts(job.request)
        train = job.kind is JobKind.TRAIN
        return JobSpec(
            id=job.id,
            kind=job.kind,
            model=job.model,
            argv=program.argv,
            request=str(job.request.absolute()),
            output=str(job.output.absolute()),
            budget_s=min(job.budget_s, program.budget_s or job.budget_s),
            silence_s=min(job.silence_s, program.silence_s or job.silence_s),
            folder=program.folder or str(job.output.absolute()),
            environment=program.environment_from(os.environ),
            expects=PACKAGE_FOLDER if train else GATE_EXPECTS,
            name=facts.get("model", job.model),
            version=facts.get("version", ""),
            snapshot_digest=facts.get("snapshot_digest", ""),
            memory_bytes=program.memory_bytes,
            output_bytes=program.output_bytes,
            nice=program.nice,
            grace_s=program.grace_s,
            restarts=program.restarts,
            secret_file=program.secret_file,
        )
