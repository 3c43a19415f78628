"""One job's supervisor: `python -m deploy.jobs.supervise [--with-parent] FOLDER`.

Whoever starts it, and however often: the lock lets one of them work, the list of attempts says whether the program may
start (again), and what an earlier attempt left running is ended first. So of jobs with one id at most one ever runs,
whichever process is killed, and when.

- The program gets SIGKILL from the kernel the moment its supervisor dies.
- It is ended at its limits: time, silence, memory, bytes on disk; SIGTERM first, SIGKILL after the grace, all of it.
- SIGTERM to the supervisor interrupts: no end is written down, and the next supervisor begins the program again.
"""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from deploy import processes
from deploy.jobs.book import Book
from deploy.jobs.check import found_wrong
from deploy.jobs.family import MARK, Family
from deploy.jobs.folder import Attempt, JobFolder, JobSpec, now_text
from export.training.lines import LineSplitter
from monitoring.loop.contracts import JobState

TICK_S = 0.1
WEIGH_S = 1.0  # between two looks at memory and disk
READ = 64 << 10
TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h: our own drivers say so where the other side broke off
FOLDER = "HARDCASE_JOB_FOLDER"  # tells our own drivers where the job's files are
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How an attempt ended; `state` None: it was interrupted, and may be begun again."""

    state: JobState | None
    reason: str = ""


class Supervision:
    """The life of one attempt.

    Args:
        spec: What is to be done.
        folder: Of the job.
        mark: Of this attempt.
        interrupted: Whether this process was told to end.
    """

    def __init__(self, spec: JobSpec, folder: JobFolder, mark: str, interrupted: Callable[[], bool]) -> None:
        self._spec = spec
        self._folder = folder
        self._mark = mark
        self._interrupted = interrupted
        self._family = Family(mark)
        self._book = Book(folder)
        self._selector = selectors.DefaultSelector()
        self._heard_s = time.monotonic()

    def run(self) -> Verdict:
        """Start the program and stay with it until nothing of it is left."""
        try:
            child = self._start()
        except OSError as error:
            self._book.close()
            return Verdict(state=JobState.FAILED, reason=f"the program cannot be started: {error.strerror}")
        try:
            verdict = self._watch(child)
            self._family.kill()  # what outlived the program
            self._drain()
            return verdict or self._judge(child.wait())
        finally:
            self._book.close()
            self._selector.close()

    def _start(self) -> subprocess.Popen[bytes]:
        spec, parent = self._spec, os.getpid()
        libc = ctypes.CDLL(None)

        def limit() -> None:  # in the child
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            os.nice(spec.nice)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if spec.memory_bytes:
                resource.setrlimit(resource.RLIMIT_DATA, (spec.memory_bytes, spec.memory_bytes))
            if spec.output_bytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (spec.output_bytes, spec.output_bytes))

        child = subprocess.Popen(
            [*spec.argv, spec.request],
            cwd=spec.folder or None,
            env={**spec.environment, MARK: self._mark, FOLDER: str(self._folder.dir)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509  # this process has one thread
        )
        for stream, may_speak in ((child.stdout, True), (child.stderr, False)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ, (LineSplitter(), may_speak))
        return child

    def _watch(self, child: subprocess.Popen[bytes]) -> Verdict | None:
        """Until the program has ended by itself (None), or was ended."""
        spec = self._spec
        started = self._heard_s = time.monotonic()
        weighed = started
        while child.poll() is None:
            self._read(TICK_S)
            now = time.monotonic()
            why = ""
            if self._interrupted():
                return self._end(None, "interrupted")
            if self._folder.to_end:
                return self._end(JobState.CANCELLED, "cancelled")
            if now - started > spec.budget_s:
                why = f"it was not done after {spec.budget_s:g} s"
            elif now - self._heard_s > spec.silence_s:
                why = f"it has said nothing for {spec.silence_s:g} s"
            elif now - weighed > WEIGH_S:
                why, weighed = self._weigh(), now
            if why:
                return self._end(JobState.FAILED, why)
        return None

    def _weigh(self) -> str:
        spec = self._spec
        if spec.memory_bytes and self._family.memory_bytes() > spec.memory_bytes:
            return f"it took more than {spec.memory_bytes} bytes of memory"
        if spec.output_bytes and _size(Path(spec.output), spec.output_bytes) > spec.output_bytes:
            return f"it wrote more than {spec.output_bytes} bytes"
        return ""

    def _end(self, state: JobState | None, reason: str) -> Verdict:
        if state is not None:
            self._folder.end_for_good()
        if not self._family.end(self._spec.grace_s) and state is JobState.FAILED:
            reason += "; it did not end when asked, and was killed"
        return Verdict(state=state, reason=reason)

    def _read(self, timeout_s: float) -> bool:
        """Take what the program has printed. False when nothing came."""
        if not self._selector.get_map():
            time.sleep(timeout_s)
            return False
        ready = self._selector.select(timeout_s)
        for key, _ in ready:
            splitter, may_speak = key.data
            try:
                piece = os.read(key.fd, READ)
            except BlockingIOError:
                continue
            now = time.monotonic()
            if piece:
                self._heard_s = now
            else:
                self._selector.unregister(key.fileobj)
            for line in splitter.feed(piece) if piece else splitter.rest():
                self._book.take(line, now, may_speak=may_speak)
        return bool(ready)

    def _drain(self) -> None:
        """What is in the pipes yet; nobody writes to them any more."""
        while self._selector.get_map() and self._read(0):
            pass

    def _judge(self, status: int) -> Verdict:
        if status == TEMPORARY_FAILURE:
            return Verdict(state=None, reason="the other side broke off")
        if status < 0:
            return Verdict(state=JobState.FAILED, reason=f"it was ended by {_signal_name(-status)}{self._last_words()}")
        if status:
            return Verdict(state=JobState.FAILED, reason=f"it ended with status {status}{self._last_words()}")
        wrong = found_wrong(self._spec, self._book)
        return Verdict(state=JobState.FAILED, reason=wrong) if wrong else Verdict(state=JobState.SUCCEEDED)

    def _last_words(self) -> str:
        lines = [line for line in self._folder.log_end(5).split("\n") if line.strip()]
        return f": {lines[-1].strip()[:300]}" if lines else ""


def supervise(folder: JobFolder, *, with_parent: bool = False) -> None:
    """Do the job, unless somebody does, or it is done, or may not be begun again.

    Args:
        folder: Of the job.
        with_parent: The end of this process's parent interrupts it.
    """
    parent = os.getppid() if with_parent else None
    lock = folder.lock()
    if lock is None:
        return
    try:
        spec = folder.spec()
        if spec is None or folder.exit() is not None:
            return
        _attempt(spec, folder, parent)
    finally:
        os.close(lock)


def _attempt(spec: JobSpec, folder: JobFolder, parent: int | None) -> None:
    told: list[int] = []

    def interrupted() -> bool:
        return bool(told) or (parent is not None and os.getppid() != parent)

    def tell(number: int, frame: FrameType | None) -> None:
        told.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, tell)
    processes.adopt_orphans()
    before = folder.attempts()
    for attempt in before:
        Family(attempt.mark).kill_strangers()
    if folder.to_end:
        folder.finish(JobState.CANCELLED, "cancelled")
        return
    if len(before) > spec.restarts:
        folder.finish(JobState.FAILED, _lost(len(before)))
        return
    mark = f"{folder.dir.name}.{len(before) + 1}.{secrets.token_hex(8)}"
    folder.begin(Attempt(number=len(before) + 1, supervisor=os.getpid(), mark=mark, started_at=now_text()))
    verdict = Supervision(spec, folder, mark, interrupted).run()
    if verdict.state is not None:
        folder.finish(verdict.state, verdict.reason)
    elif len(before) >= spec.restarts:
        folder.finish(JobState.FAILED, _lost(len(before) + 1))


def _lost(attempts: int) -> str:
    times = "once" if attempts == 1 else f"{attempts} times"
    return f"it was broken off from outside {times}, and is not begun again"


def _size(folder: Path, enough: int) -> int:
    """Bytes of all files below a folder; stops counting above `enough`."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:
                continue
        if total > enough:
            break
    return total


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    supervise(JobFolder.at(Path(sys.argv[-1]).absolute()), with_parent="--with-parent" in sys.argv)
