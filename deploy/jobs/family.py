"""All processes of one attempt: found by descent, by session and by the mark in their environment, and ended together.

A program may fork, start sessions of its own and let children outlive it. As long as the supervisor lives, all of them
are its descendants (it adopts orphans). After the supervisor's death the mark finds what is left.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable

import psutil

from deploy import processes

MARK = "HARDCASE_JOB"


class Family:
    """The processes of an attempt.

    Args:
        mark: Value of `HARDCASE_JOB` in their environment.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def descendants(self) -> list[psutil.Process]:
        """Every living descendant of this process."""
        try:
            found = psutil.Process().children(recursive=True)
        except psutil.Error:
            return []
        return [process for process in found if _lives(process)]

    def memory_bytes(self) -> int:
        """Resident bytes of all descendants, shared pages counted once for each."""
        total = 0
        for process in self.descendants():
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total

    def end(self, grace_s: float) -> bool:
        """SIGTERM to all descendants, SIGKILL to those that stay. True when none had to be killed."""
        _signal(self.descendants(), signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            processes.reap()
            if not self.descendants():
                return True
            time.sleep(0.02)
        return not self.kill()

    def kill(self) -> bool:
        """SIGKILL until no descendant is left. True when there was one."""
        return _kill_all(self.descendants)

    def kill_strangers(self) -> bool:
        """SIGKILL to what an attempt left whose supervisor was killed. True when there was something."""
        return _kill_all(self._marked)

    def _marked(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(MARK) == self._mark and _lives(process):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def _kill_all(look: Callable[[], list[psutil.Process]]) -> bool:
    some = False
    while True:
        found = look()
        if not found:
            return some
        some = True
        _signal(found, signal.SIGKILL)
        time.sleep(0.01)
        processes.reap()


def _signal(family: Iterable[psutil.Process], number: int) -> None:
    for process in family:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
