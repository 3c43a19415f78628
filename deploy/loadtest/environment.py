"""Facts about the machine of the generator, so that a figure is never without its place. No host, user or path."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path


def environment_facts() -> dict[str, str]:
    """Processor, cores, memory, kernel, versions, load."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages * size / 2**30:.1f} GiB",
        "system": f"{platform.system()} {re.split('[-+]', platform.release())[0]} {platform.machine()}",
        "python": platform.python_version(),
        "hardcase": _version("hardcase"),
        "load average at the start": " ".join(f"{x:.2f}" for x in os.getloadavg()),
    }


def now() -> str:
    """This moment, RFC 3339 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
