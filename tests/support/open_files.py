"""Finds what a test opened and let go of without closing, in the test that did it and not in a stranger's.

A socket that nobody holds any more but that is part of a cycle stays open until the garbage collector comes by, and
Python then warns in whatever test runs at that moment. A collection after every test would cost minutes; here it is
made only where a test ends with more descriptors open than it began with.
"""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

OPEN = Path("/proc/self/fd")


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number: a path, or the kind and the inode of a socket or pipe."""
    found = {}
    for name in os.listdir(OPEN):
        try:
            found[int(name)] = os.readlink(OPEN / name)
        except OSError:  # the descriptor of this very listing, or one that a thread has closed
            continue
    return found


def unclosed() -> list[str]:
    """Collect garbage; what the collector had to close, in its words."""
    said: list[str] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda about: said.append(f"{about.exc_value or about.err_msg}")
    try:
        gc.collect()
    finally:
        sys.unraisablehook = before
    return said


class OpenFiles:
    """A plugin: fails the test that leaves something open that nobody can close any more."""

    def __init__(self) -> None:
        """Nothing is known before the first test."""
        self.of_module: dict[int, str] | None = None
        self.maker: dict[int, tuple[str, str]] = {}  # number -> what it is, and the test that had it first

    def _seen(self, test: str) -> dict[int, str]:
        now = open_descriptors()
        for number, what in now.items():
            if self.maker.get(number, ("", ""))[0] != what:
                self.maker[number] = (what, test)
        return now

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Imports make hardly any garbage and a great many objects: look through them when all are there."""
        gc.disable()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        """Modules and test items stay to the end: no collection needs to look at them again.

        The others are made less often than by default, where they took a tenth of all time and more.
        """
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        gc.enable()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """What was open before the test, and before its module."""
        self.before = self._seen(item.nodeid)
        if self.of_module is None:
            self.of_module = self.before
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
        """What is open after the test, and at the end of its module after all of its tests."""
        yield
        now = self._seen(item.nodeid)
        grown = now.items() - self.before.items()
        if nextitem is None or nextitem.path != item.path:
            grown |= now.items() - (self.of_module or {}).items()
            self.of_module = None
        if grown and (said := unclosed()):
            makers = sorted({self.maker[number][1] for number, _ in grown})
            pytest.fail("left open: " + "; ".join(said) + "\nopened in: " + ", ".join(makers), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Beside a warning of something unclosed: the test that opened it, which may be another one."""
        report = yield
        if report.failed and "ResourceWarning" in (text := report.longreprtext):
            makers = {self.maker[int(n)] for n in re.findall(r"\bfd=(\d+)", text) if int(n) in self.maker}
            report.sections += [("opened by", f"{what} in {test}") for what, test in sorted(makers)]
        return report
