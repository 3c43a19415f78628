"""What holds for the whole run: no process of a test outlives it, and a test closes what it opens.

A process that a failed test leaves behind keeps the run's output open, and whoever reads that waits for ever.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator

import hypothesis
import psutil
import pytest

from tests.support.open_files import OpenFiles

MARK = "TEST_RUN_OF"  # in the environment of whatever a test starts
_ours = os.environ.setdefault(MARK, f"{os.getpid()}-{secrets.token_hex(6)}")


def _left_over() -> list[psutil.Process]:
    """Processes of this run that live, without those that run it."""
    me = psutil.Process()
    runners = {me.pid, *(p.pid for p in me.parents())}
    children = {p.pid for p in me.children(recursive=True)}
    found = []
    for process in psutil.process_iter():
        try:
            started_by_us = process.pid in children or process.environ().get(MARK) == _ours
            if started_by_us and process.pid not in runners and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def pytest_configure(config: pytest.Config) -> None:
    """Whatever a test opens and drops is found in that test; no property has to hold within milliseconds."""
    # A busy machine is no counterexample; what was found in one checkout is not tried first in another.
    hypothesis.settings.register_profile("hardcase", deadline=None, database=None)
    hypothesis.settings.load_profile("hardcase")
    config.pluginmanager.register(OpenFiles(), "open-files")


@pytest.fixture(scope="session", autouse=True)
def _tables_at_once() -> Iterator[None]:
    """Empty stores are made from what the migrations wrote once (tests/support/store_template.py)."""
    if "monitoring.database" not in sys.modules:  # nothing that was collected has to do with stores
        yield
        return
    from tests.support import store_template

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitoring.database.migrate", store_template.migrate)
        yield


@pytest.fixture
def real_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the migrations: a new store runs them."""
    from tests.support import store_template

    monkeypatch.setattr("monitoring.database.migrate", store_template.MIGRATE)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End what tests left behind, and name it."""
    if hasattr(config, "workerinput"):
        return
    _, living = psutil.wait_procs(_left_over(), timeout=3)
    for process in living:
        try:
            print(f"a test left process {process.pid} behind: {' '.join(process.cmdline())[:150]}", flush=True)
            process.kill()
        except psutil.Error:
            continue
