"""The gate as a job: `python -m deploy.gate_job REQUEST`. Progress as JSON lines, as trainers do.

Exit status 0: the gate was held, whatever its verdict; it lies in the output folder. 1: it could not be held.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from deploy.gate.errors import GateError
from deploy.gate.job import run_gate
from export.contracts.training import EventKind
from monitoring.gate.job import GateResult, read_request

EVERY_S = 0.5  # between two words about progress


class Speaker:
    """Writes events to standard output; of progress no more than two a second."""

    def __init__(self) -> None:
        self._spoke = 0.0

    def progress(self, step: int, of: int, text: str) -> None:
        """Tell how far it is."""
        now = time.monotonic()
        if now - self._spoke >= EVERY_S or step == of:
            self._spoke = now
            self.say(EventKind.PROGRESS, step=step, of=of, text=text)

    def say(self, kind: EventKind, **fields: object) -> None:
        """Write one event."""
        sys.stdout.write(json.dumps({"event": kind.value} | fields) + "\n")
        sys.stdout.flush()

    def result(self, result: GateResult) -> None:
        """Tell the verdict."""
        self.say(EventKind.NOTE, text=result.words)
        metrics = {f"{name}_{side}": pair[i] for name, pair in result.costs.items() for i, side in enumerate(_SIDES)}
        metrics |= {"negative_flips": len(result.negative_flips), "positive_flips": len(result.positive_flips)}
        self.say(EventKind.DONE, metrics={name: float(value) for name, value in metrics.items()})


_SIDES = ("champion", "candidate")


def main(argv: list[str]) -> int:
    """Hold the gate that the request file asks for."""
    speaker = Speaker()
    try:
        request = read_request(Path(argv[-1]))
    except (OSError, ValueError, IndexError) as error:
        speaker.say(EventKind.NOTE, text=f"the request cannot be read: {type(error).__name__}")
        return 1
    try:
        result = run_gate(request, speaker.progress)
    except GateError as error:
        speaker.say(EventKind.NOTE, text=error.message)
        print(error.message, file=sys.stderr)
        return 1
    speaker.result(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
