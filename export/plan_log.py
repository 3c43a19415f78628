"""A model's traffic plans: an append-only folder of numbered files, the highest of which is in force.

A revision is written whole under a temporary name, synced and then linked to its number. Linking fails when the number
is taken, so of two writers who read the same revision exactly one succeeds, and a reader never sees half a plan.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from export.contracts import codec
from export.contracts.errors import Conflict, RegistryError
from export.contracts.traffic import TRAFFIC_SCHEMA_VERSION, TrafficPlan
from export.package_files import sync_folder

_DIGITS = 8


def append(folder: Path, plan: TrafficPlan) -> None:
    """Write `plan` as its revision.

    Raises:
        Conflict: somebody else wrote that revision first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".plan.", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(codec.dumps(plan))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        try:
            os.link(temporary, _path(folder, plan.revision))
        except FileExistsError:
            raise Conflict(
                f"revision {plan.revision} of the plan of '{plan.model}' was written by somebody else: "
                "read it and decide again"
            ) from None
    finally:
        Path(temporary).unlink()
    sync_folder(folder)


def revisions(folder: Path) -> list[int]:
    """Numbers of all revisions, ascending; empty without a folder."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(s) for s in stems if len(s) == _DIGITS and s.isascii() and s.isdigit())


def read(folder: Path, revision: int) -> TrafficPlan:
    """Read one revision.

    Raises:
        RegistryError: not readable, or written by a later release.
    """
    try:
        plan = codec.loads(TrafficPlan, _path(folder, revision).read_bytes())
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else str(error)
        raise RegistryError(f"plan revision {revision} is not readable: {detail}") from None
    if plan.schema_version != TRAFFIC_SCHEMA_VERSION or plan.revision != revision:
        raise RegistryError(f"plan revision {revision} was written by another release, or is not where it belongs")
    return plan


def previous_champions(history: tuple[TrafficPlan, ...]) -> list[str]:
    """Champions that a roll-back can return to, the most recent last.

    Promotions push, roll-backs pop: after promoting 1, 2, 3 two roll-backs lead to 2 and then to 1.

    Example:
        >>> plans = [TrafficPlan(model="m", revision=i + 1, champion=v) for i, v in enumerate("123")]
        >>> plans.append(TrafficPlan(model="m", revision=4, champion="2", rolled_back=3))
        >>> previous_champions(tuple(plans))
        ['1']
    """
    stack: list[str] = []
    for plan in history:
        if plan.champion is None:
            continue
        if plan.rolled_back is not None:
            while stack and stack[-1] != plan.champion:
                stack.pop()
        if not stack or stack[-1] != plan.champion:
            stack.append(plan.champion)
    return stack[:-1]


def _path(folder: Path, revision: int) -> Path:
    return folder / f"{revision:0{_DIGITS}d}.json"
