"""Facts about the machine that a result was measured on, so that a number is never without its place."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

Facts = dict[str, object]

OUR_PACKAGES = ("ray", "onnxruntime-gpu", "uvicorn", "uvloop", "httptools", "msgspec", "orjson", "numpy", "pyarrow")


def machine_facts(root: Path, packages: Sequence[str] = OUR_PACKAGES) -> Facts:
    """Processor, memory, kernel, versions, time and git commit. No host name, user or path.

    Args:
        root: The repository; its commit is part of the facts.
        packages: Distributions whose installed version is noted; one that is absent is null.
    """
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {re.split('[-+]', platform.release())[0]}",
        "architecture": platform.machine(),
        "virtual": _flag("hypervisor"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "wrk": _wrk_version(),
        "load_average_at_start": [round(x, 2) for x in os.getloadavg()],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": _git(root, "rev-parse", "--short=12", "HEAD"),
        "git_dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
    }


def cpu_model(cpuinfo: str | None = None) -> str:
    r"""The processor's name as the kernel tells it, or the architecture where it tells none.

    Example:
        >>> cpu_model("processor : 0\nmodel name\t: Some CPU  @ 2.0GHz\n")
        'Some CPU @ 2.0GHz'
    """
    text = cpuinfo if cpuinfo is not None else Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.machine()


def packages_of(python: Path, names: Sequence[str]) -> dict[str, str | None]:
    """Versions of distributions in another environment, asked from its own interpreter."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "def v(n):\n"
        "    try: return m.version(n)\n"
        "    except m.PackageNotFoundError: return None\n"
        "print(json.dumps({n: v(n) for n in sys.argv[1:]}))"
    )
    done = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


def _flag(name: str) -> bool:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return bool(found) and name in found[1].split() if found else False


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _wrk_version() -> str | None:
    try:
        done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        return None
    found = re.search(r"wrk\s+(?:debian/)?(\S+)", done.stdout + done.stderr)
    return found[1] if found else None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
