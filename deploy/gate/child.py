"""The gate's side of a version's process: commands with a time limit, and a sentence for every way to die."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Protocol

from monitoring.gate.judge import Judged


class VersionFailed(Exception):
    """A version could not be loaded or did not answer; the text is fit for people."""


class VersionAtWork(AbstractContextManager["VersionAtWork"], Protocol):
    """A version that answers, wherever it runs. Its methods raise `VersionFailed` when it does not."""

    def load(self) -> None:
        """Load the package."""
        ...

    def evaluate(self, folder: str, chunk: int) -> Iterator[Judged]:
        """Answer and judge a set, `chunk` inputs at a time."""
        ...

    def time(self, folder: str, rows: list[int]) -> list[float]:
        """Milliseconds of requests of one row."""
        ...

    def memory_mib(self) -> float:
        """What loading and answering have taken, in MiB."""
        ...


class VersionProcess(VersionAtWork):
    """A version in a process of its own.

    Args:
        package: Folder of the package.
        rules: Package folder of the version whose rules hold.
        batch_rows: Inputs at once.
        silence_s: It is given up when it says nothing for so long.
    """

    def __init__(self, package: Path, rules: Path, batch_rows: int, silence_s: float) -> None:
        self._asked = {"do": "load", "package": str(package), "rules": str(rules), "batch_rows": batch_rows}
        self._silence_s = silence_s
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._before_mib = 0.0
        self._said: IO[bytes] | None = None

    def __enter__(self) -> VersionProcess:
        return self

    def __exit__(self, *unused: object) -> None:
        self.end()

    def load(self) -> None:
        """Start the process and load the package.

        Raises:
            VersionFailed: it cannot be loaded.
        """
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.gate.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        (answer,) = self._ask(self._asked)
        self._before_mib = answer["before_mib"]

    def evaluate(self, folder: str, chunk: int) -> Iterator[Judged]:
        """Answer and judge a set, `chunk` inputs at a time.

        Raises:
            VersionFailed: it did not answer.
        """
        for answer in self._ask({"do": "evaluate", "set": folder, "chunk": chunk}):
            if "goodness" in answer:
                yield Judged(**{k: v for k, v in answer.items() if k != "from"})

    def time(self, folder: str, rows: list[int]) -> list[float]:
        """Milliseconds of requests of one row.

        Raises:
            VersionFailed: it did not answer.
        """
        (answer,) = self._ask({"do": "time", "set": folder, "rows": rows})
        return [float(x) for x in answer["ms"]]

    def memory_mib(self) -> float:
        """What loading and answering have taken beyond the bare process, in MiB."""
        (answer,) = self._ask({"do": "peak"})
        return max(0.0, float(answer["peak_mib"]) - self._before_mib)

    def end(self) -> None:
        """End the process. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._said is not None:
            self._said.close()
            self._said = None

    def _ask(self, command: dict[str, Any]) -> Iterator[dict[str, Any]]:
        process = self._process
        if process is None or process.stdin is None:
            raise VersionFailed("its process has ended")
        try:
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        except OSError:
            raise VersionFailed(self._how_it_died(process)) from None
        while True:
            try:
                line = self._lines.get(timeout=self._silence_s)
            except queue.Empty:
                self.end()
                raise VersionFailed(f"it said nothing for {self._silence_s:g} s and was given up") from None
            if line is None:
                raise VersionFailed(self._how_it_died(process))
            answer = json.loads(line)
            if "error" in answer:
                raise VersionFailed(str(answer["error"]))
            yield answer
            if answer.get("done"):
                return

    def _read(self, pipe: IO[str] | None) -> None:
        try:
            for line in pipe or ():
                self._lines.put(line)
        except ValueError:
            pass  # the pipe was closed by `end`
        self._lines.put(None)

    def _how_it_died(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        if code < 0:
            try:
                return f"its process was ended by {signal.Signals(-code).name}"
            except ValueError:
                return f"its process was ended by signal {-code}"
        return f"its process ended with status {code}"
