"""Watchers of a load test that do something to the server at a known moment."""

from __future__ import annotations

import os

from deploy.loadtest.results import WindowResult
from deploy.loadtest.session import Quiet


class Ending(Quiet):
    """Sends a signal to the server when the first window has been measured."""

    def __init__(self, pid: int, number: int) -> None:
        self._pid = pid
        self._number = number

    def window(self, number: int, window: WindowResult) -> None:
        """See `deploy.loadtest.session.Watcher`."""
        if number == 1:
            os.kill(self._pid, self._number)
