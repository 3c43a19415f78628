"""Admission: is a package safe to load? Decided in a child process with limits, before any runtime sees a byte of it.

The child (`export.admission_child`) has bounded memory, CPU and wall time, cannot write a file or gain privileges, and
has no network where the kernel permits taking it away; the report says which guards held.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from export.admission_limits import AdmissionLimits
from export.contracts import codec
from export.contracts.errors import AdmissionRefused

_NETWORK_GUARD = "no_network"


@dataclass(frozen=True, kw_only=True, slots=True)
class AdmissionReport:
    """An accepted package.

    Attributes:
        digest: Of the manifest that was checked; a loader compares it with what it is about to load.
        seconds: Wall time of the check.
        guards: Which confinements held: memory, cpu, no_writes, no_new_privileges, no_network.
        facts: Counts: files, bytes, nodes, tensors, entries.
    """

    digest: str
    seconds: float
    guards: tuple[str, ...]
    facts: dict[str, int]

    @property
    def network_cut(self) -> bool:
        """Whether the checking process had no network."""
        return _NETWORK_GUARD in self.guards


def admit(package_dir: Path | str, limits: AdmissionLimits | None = None) -> AdmissionReport:
    """Check a package in a child process.

    Raises:
        AdmissionRefused: the rule that the package breaks, or the limit that checking it passed.
    """
    limits = limits or AdmissionLimits()
    command = [
        sys.executable,
        "-I",
        "-m",
        "export.admission_child",
        str(Path(package_dir).absolute()),
        codec.dumps(limits).decode(),
    ]
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limits.wall_s, check=False, env={}, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise AdmissionRefused(f"checking the package took longer than {limits.wall_s:g} s") from None
    seconds = time.monotonic() - started
    try:
        finding = json.loads(done.stdout)
    except ValueError:
        raise AdmissionRefused(_explain_end(done.returncode, done.stderr)) from None
    if "refused" in finding:
        raise AdmissionRefused(str(finding["refused"]))
    facts = dict(finding["facts"])
    return AdmissionReport(
        digest=str(facts.pop("digest")), seconds=seconds, guards=tuple(finding["guards"]), facts=facts
    )


def _explain_end(returncode: int, stderr: bytes) -> str:
    if returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "checking the package was ended at its CPU or memory limit"
    if b"MemoryError" in stderr or b"bad_alloc" in stderr or returncode == -signal.SIGABRT:
        return "checking the package needs more memory than the limit"
    if returncode < 0:
        return f"checking the package was ended by signal {-returncode}"
    return "the check could not be carried out"
