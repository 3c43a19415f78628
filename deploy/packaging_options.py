"""Options of `hardcase import` that say what a model's outputs mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.errors import UsageError
from export.contracts import codec
from export.contracts.manifest import Task, TaskKind
from export.contracts.signature import OutputRole


def read_task(path: Path) -> Task:
    """The task that a file holds.

    Raises:
        UsageError: it holds none.
    """
    try:
        return codec.loads(Task, path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"--task: {error}") from None


def role_of(text: str) -> tuple[str, OutputRole]:
    """Take "OUTPUT=ROLE" apart.

    Raises:
        UsageError: it is not of that form.
    """
    output, equals, role = text.partition("=")
    try:
        return output, OutputRole(role)
    except ValueError:
        allowed = ", ".join(OutputRole)
        problem = f"no role '{role}'" if equals else "expected OUTPUT=ROLE"
        raise UsageError(f"--role {text}: {problem}", f"roles are {allowed}") from None


def task_of(given: Task | None, roles: Mapping[str, OutputRole]) -> Task:
    """The task that is given, or that the roles stand for."""
    if given is not None:
        return given
    named = set(roles.values())
    if named & {OutputRole.LOGITS, OutputRole.PROBABILITIES}:
        return Task(kind=TaskKind.CLASSIFICATION)
    if OutputRole.BOXES in named:
        return Task(kind=TaskKind.DETECTION)
    if named & {OutputRole.VALUE, OutputRole.VALUE_MEMBERS, OutputRole.VALUE_QUANTILES}:
        return Task(kind=TaskKind.REGRESSION)
    return Task(kind=TaskKind.OTHER)
