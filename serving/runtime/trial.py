"""A trial load in a child process, so that weights which hang, crash or eat the memory take nobody else with them.

`try_load` is the parent's side. The child (`python -m serving.runtime.trial`) reads one JSON object from stdin, loads
the package, runs the warm-up and the golden cases, and writes one JSON object to stdout.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.contracts import codec
from export.contracts.errors import HardcaseError
from export.package import read_package
from serving.options import RuntimeOptions
from serving.runtime.base import LoadFailed
from serving.runtime.loader import load_runtime
from serving.runtime.proof import prove

_log = logging.getLogger("hardcase.runtime.trial")
CHILD = ("-m", "serving.runtime.trial")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_REFUSED = 3  # exit status: the child has written why


class LoadInterrupted(LoadFailed):
    """The trial ended without a verdict: it crashed or was killed. Worth another attempt."""

    code = "load_interrupted"


class LoadTimedOut(LoadFailed):
    """The trial did not end in time."""

    code = "load_timed_out"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialOptions:
    """What the child is told."""

    directory: str
    max_rows: int
    runtime: RuntimeOptions


def try_load(
    directory: Path, max_rows: int, options: RuntimeOptions, timeout_s: float, child: Sequence[str] = CHILD
) -> None:
    """Load and prove a package in a child process.

    Args:
        directory: An admitted package.
        max_rows: Rows of the largest batch.
        options: Which runtime and device.
        timeout_s: The child is killed after this.
        child: Arguments of the Python interpreter that carries the trial out.

    Raises:
        LoadFailed: the package does not do what it promises; the message is public.
        LoadTimedOut: no verdict in time.
        LoadInterrupted: the child ended without a verdict.
    """
    told = TrialOptions(directory=str(directory), max_rows=max_rows, runtime=options)
    # The child finds our packages where this process found them, installed or not; nothing else of the folder matters.
    root = str(Path(__file__).resolve().parents[2])
    search = [root, *(part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    try:
        done = subprocess.run(
            [sys.executable, *child],
            input=codec.dumps(told),
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            start_new_session=True,  # a Ctrl-C in the terminal is the parent's business
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LoadTimedOut(f"the trial load did not finish within {timeout_s:.0f} s") from None
    if done.returncode == 0:
        return
    if done.returncode == _REFUSED:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            raise LoadFailed(str(json.loads(done.stdout)["reason"]))
    _log.error("the trial load ended with %s: %s", done.returncode, done.stderr[-2000:].decode(errors="replace"))
    raise LoadInterrupted(f"the trial load {_how_it_ended(done.returncode)}")


def _how_it_ended(returncode: int) -> str:
    """The exit in words."""
    if returncode >= 0:
        return f"ended with exit status {returncode} and no verdict"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-returncode).name
        hint = ": out of memory, most likely" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"
    return f"was ended by signal {-returncode}"


def main() -> int:
    """The child's side."""
    # Prints of a framework go to stderr; the verdict goes to what was stdout.
    verdict = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _be_the_first_victim()
    told = codec.loads(TrialOptions, sys.stdin.read())
    try:
        package = read_package(Path(told.directory))
        runtime = load_runtime(package.dir, package.manifest, told.runtime, told.max_rows)
        prove(runtime, package, told.max_rows, timed=False, precision=told.runtime.precision)
    except HardcaseError as error:
        json.dump({"reason": error.message}, verdict)
        verdict.close()
        return _REFUSED
    except MemoryError:
        json.dump({"reason": "the weights do not fit into the memory"}, verdict)
        verdict.close()
        return _REFUSED
    return 0


def _be_the_first_victim() -> None:
    """When memory runs out, the kernel ends the trial, never a server. It dies with its parent and leaves no core."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main())
