"""Another project's server as a process: loopback, a folder of its own, an environment of its own under .venvs/."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(kw_only=True)
class ForeignServer(ABC):
    """A server; it can be stopped and started again on the same data and port."""

    START_S: ClassVar[float]  # within which it answers for the first time, on a busy machine
    QUIET: ClassVar[dict[str, str]]  # environment variables by which it tells nobody of us

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    @abstractmethod
    def ask(self) -> object:
        """A first call, which succeeds when it has started.

        Raises:
            OSError: it does not answer yet, or refuses.
        """

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended; with the end of its log.
            TimeoutError: it did not answer in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self.QUIET}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, env=environment, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + self.START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "server.log").read_text(errors="replace")[-2000:])
            try:
                self.ask()
                return
            except OSError:  # refused, reset, or a status of failure while it starts
                time.sleep(0.3)
        raise TimeoutError(f"{type(self).__name__} did not start")

    def stop(self) -> None:
        """End it with its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.process = None
