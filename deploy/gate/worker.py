"""The process of one version: `python -m deploy.gate.worker`. Commands as JSON lines in, answers as JSON lines out.

A version runs alone in its process: its memory is its own, and when it crashes the gate lives and says so. What the
libraries print goes to standard error; standard output belongs to the protocol.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from deploy.gate.answering import Answering, load
from deploy.gate.inputs import LabelledSet, open_set
from export.contracts.errors import HardcaseError
from export.runners import first_line

MIB = 1 << 20


def peak_mib() -> float:
    """The most memory that this program has held, in MiB.

    `getrusage` would do everywhere, but on Linux its figure begins with what the parent held when it started us.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass  # no Linux
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else MIB)


class Worker:
    """Holds a version and the set that it is asked about."""

    def __init__(self) -> None:
        self._loaded: Answering | None = None
        self._folder = ""
        self._set: LabelledSet | None = None

    def do(self, command: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Answers to a command; the last one ends it.

        Raises:
            HardcaseError: the version cannot do it; the text is public.
        """
        what = command["do"]
        if what == "load":
            before = peak_mib()
            self._loaded = load(Path(command["package"]), Path(command["rules"]), command["batch_rows"])
            yield {"done": True, "before_mib": before}
        elif what == "evaluate":
            yield from self._evaluate(command["set"], command["chunk"])
        elif what == "time":
            rows = self._opened(command["set"])
            yield {"done": True, "ms": self._version.time(rows.inputs, command["rows"])}
        elif what == "peak":
            yield {"done": True, "peak_mib": peak_mib()}
        else:
            raise ValueError(f"no such command: {what}")

    @property
    def _version(self) -> Answering:
        if self._loaded is None:
            raise ValueError("nothing is loaded")
        return self._loaded

    def _opened(self, folder: str) -> LabelledSet:
        if self._set is None or folder != self._folder:
            self._set, self._folder = open_set(Path(folder)), folder
        return self._set

    def _evaluate(self, folder: str, chunk: int) -> Iterator[dict[str, Any]]:
        rows = self._opened(folder)
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            judged = self._version.evaluate(part.inputs, part.truths)
            yield {
                "from": start,
                "goodness": judged.goodness,
                "finite": judged.finite,
                "confidence": judged.confidence,
                "answers": judged.answers,
                "facts": judged.facts,
            }
        yield {"done": True}


def serve(commands: TextIO, answers: TextIO) -> None:
    """Do commands until there are no more."""
    worker = Worker()
    for line in commands:
        try:
            for answer in worker.do(json.loads(line)):
                answers.write(json.dumps(answer) + "\n")
                answers.flush()
        except HardcaseError as error:
            _tell(answers, error.message)
        except Exception as error:  # whatever a model does: the gate says what, and goes on
            _tell(answers, f"{type(error).__name__}: {first_line(error)}")


def _tell(answers: TextIO, text: str) -> None:
    answers.write(json.dumps({"error": text}) + "\n")
    answers.flush()


def main() -> None:
    """Serve standard input; nothing but the protocol reaches standard output."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(sys.stdin, out)


if __name__ == "__main__":
    main()
