"""Programs that jobs run, as the settings name them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

GATE = ""
"""Name of the gate's own program: none that a trainer can have."""

# Without these hardly any program starts. Nothing in them is a secret.
ALWAYS = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HARDCASE_RUN_ID")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program and its limits. See `deploy.settings_retrain.TrainerSettings` for the fields.

    Attributes:
        argv: Its command line; the request's path is appended.
        pass_on: Names of environment variables that it gets from the monitor's.
        environment: Variables that it gets besides.
        budget_s: 0 leaves it to the job.
        silence_s: 0 leaves it to the job.
        secret_file: See `deploy.jobs.folder.JobSpec`.
    """

    argv: tuple[str, ...]
    folder: str = ""
    pass_on: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    budget_s: float = 0.0
    silence_s: float = 0.0
    memory_bytes: int = 0
    output_bytes: int = 0
    nice: int = 0
    grace_s: float = 10.0
    restarts: int = 3
    secret_file: str = ""

    def environment_from(self, own: Mapping[str, str]) -> dict[str, str]:
        """Its whole environment: of our own variables only the named ones."""
        wanted = {name: own[name] for name in (*ALWAYS, *self.pass_on) if name in own}
        return {"PYTHONUNBUFFERED": "1", **wanted, **dict(self.environment)}


# By these a gate that is held on a Ray cluster (`gate.ray`) finds its credential; the last is a path.
_FOR_GATES = ("PYTHONPATH", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")


def gate_program() -> Program:
    """The gate's own: `python -m deploy.gate_job REQUEST`. Begun again as often as it is broken off."""
    return Program(argv=(sys.executable, "-m", "deploy.gate_job"), pass_on=_FOR_GATES, nice=5, restarts=100)
