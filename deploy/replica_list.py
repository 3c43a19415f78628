"""The list of running replicas in the state folder: serving writes it, the monitor and the commands read it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from deploy.paths import StatePaths
from deploy.run_state import write_atomically


def write_targets(paths: StatePaths, targets: Sequence[tuple[str, int]]) -> None:
    """Publish the replicas' own addresses, also for the monitor's `/sd/prometheus`."""
    write_atomically(paths.replicas_file, json.dumps([f"{host}:{port}" for host, port in targets]))


def read_targets(paths: StatePaths) -> list[str]:
    """`host:port` of every replica; empty while nothing serves."""
    try:
        found = json.loads(paths.replicas_file.read_text())
    except (OSError, ValueError):
        return []
    return [str(target) for target in found]
