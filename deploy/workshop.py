"""What the loop works with outside of the monitor, on this installation: jobs, the registry's packages and plans."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.bring_in import bring_in
from deploy.jobs.inbox import FileInbox
from deploy.jobs.local import SupervisedJobs
from deploy.jobs.programs import GATE, Program, gate_program
from deploy.packaging import admit_and_add
from deploy.paths import StatePaths
from deploy.settings import Settings
from deploy.settings_retrain import TrainerSettings
from export.contracts.errors import HardcaseError
from export.contracts.manifest import Manifest
from export.contracts.traffic import TrafficPlan
from export.registry import Registry
from monitoring.loop.contracts import Workshop

_ENDING = re.compile(r"(.*?)([0-9]+)$")


def make_workshop(settings: Settings, paths: StatePaths, registry: Registry) -> Workshop:
    """Everything that the loop acts through.

    Args:
        settings: Of the installation.
        paths: Of its state.
        registry: Its models.
    """
    trainers = settings.retrain.trainers
    return Workshop(
        jobs=SupervisedJobs(paths.jobs, programs(trainers, settings, paths)),
        candidates=RegistryCandidates(registry),
        plans=RegistryPlans(registry),
        folder=paths.loop,
        datasets=paths.datasets,
        inbox=FileInbox(paths.jobs),
        trainers={model: trainer.name for trainer in trainers for model in trainer.models},
        bring_in=bring_in,
    )


def programs(trainers: Sequence[TrainerSettings], settings: Settings, paths: StatePaths) -> Mapping[str, Program]:
    """What jobs run, by name; the gate's own with them."""
    made = {trainer.name: _program(trainer, settings, paths) for trainer in trainers}
    return {**made, GATE: gate_program()}


def _program(trainer: TrainerSettings, settings: Settings, paths: StatePaths) -> Program:
    pass_on: tuple[str, ...] = ("PYTHONPATH", *trainer.environment)
    environment: dict[str, str] = {}
    argv = tuple(sys.executable if part == "python" and i == 0 else part for i, part in enumerate(trainer.program))
    if trainer.executor == "ray":
        pass_on = (*pass_on, "HARDCASE_RUN_TEMP", "RAY_ADDRESS")
        argv = _ray_argv(trainer, settings, argv)
        environment = ray_access(settings, paths)
    elif trainer.executor == "webhook":
        argv = _webhook_argv(trainer, paths)
    return Program(
        argv=argv,
        folder=trainer.working_folder,
        pass_on=pass_on,
        environment=tuple(environment.items()),
        budget_s=trainer.budget_s,
        silence_s=trainer.silence_s,
        # Of the program itself; what waits for one elsewhere has no use for them.
        memory_bytes=trainer.memory_bytes if trainer.executor == "local" else 0,
        output_bytes=trainer.output_bytes,
        nice=trainer.nice,
        grace_s=trainer.grace_s,
        restarts=trainer.restarts,
        secret_file=trainer.secret_file if trainer.executor == "webhook" else "",
    )


def _ray_argv(trainer: TrainerSettings, settings: Settings, program: tuple[str, ...]) -> tuple[str, ...]:
    options = {
        "--address": trainer.address or settings.ray.address or "auto",
        "--cpus": f"{trainer.cpus:g}",
        "--gpus": f"{trainer.gpus:g}",
        "--memory": str(trainer.memory_bytes),
        "--grace": f"{trainer.grace_s:g}",
        "--nice": str(trainer.nice),
        "--folder": trainer.working_folder,
    }
    named = [part for name in trainer.environment for part in ("--pass-on", name)]
    given = [part for pair in options.items() for part in pair]
    return (sys.executable, "-m", "deploy.jobs.ray_driver", *given, *named, "--", *program)


def _webhook_argv(trainer: TrainerSettings, paths: StatePaths) -> tuple[str, ...]:
    options = {
        "--url": trainer.url,
        "--secret-file": trainer.secret_file,
        "--callback": trainer.callback_url,
        "--registry": str(paths.registry),
    }
    given = [part for pair in options.items() if pair[1] for part in pair]
    return (sys.executable, "-m", "deploy.jobs.webhook_driver", *given)


def ray_access(settings: Settings, paths: StatePaths) -> dict[str, str]:
    """Variables by which a process of this machine is let into the cluster."""
    own = settings.ray
    if not own.token_auth or (own.address is not None and own.auth_token_file is None):
        return {"RAY_USAGE_STATS_ENABLED": "0"}
    token = Path(own.auth_token_file).expanduser().absolute() if own.auth_token_file else paths.ray_token
    return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


class RegistryCandidates:
    """`Candidates` over a registry folder.

    Args:
        registry: The registry.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def admit(self, folder: Path) -> Manifest:
        """Check the package in a child process with limits and add it. Idempotent.

        Raises:
            AdmissionRefused: it is not safe to load.
            RegistryError: the version exists with another content.
        """
        return admit_and_add(self._registry, folder).manifest

    def folder(self, model: str, version: str) -> Path | None:
        """Where a registered package lies."""
        try:
            return self._registry.package(model, version).dir
        except HardcaseError:
            return None

    def next_version(self, model: str, taken: Sequence[str] = ()) -> str:
        """The number after the highest of all versions that end in one; "1" where none does.

        Example: "3" follows "1", "2"; "2.1.8" follows "2.1.7"; "v10" follows "v9".
        """
        try:
            known = [*self._registry.versions(model), *taken]
        except HardcaseError:
            known = list(taken)
        return following(known)


def following(known: Sequence[str]) -> str:
    """The version after the last of `known` that ends in a number, and that is none of them.

    Example:
        >>> following(["1", "2"]), following(["v9", "v10"]), following([]), following(["final"])
        ('3', 'v11', '1', '1')
    """
    numbered = [match for version in known if (match := _ENDING.fullmatch(version))]
    if not numbered:
        return "1"
    head = numbered[-1][1]
    highest = max(int(match[2]) for match in numbered if match[1] == head)
    return f"{head}{highest + 1}"


class RegistryPlans:
    """`Plans` over a registry folder.

    Args:
        registry: The registry.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def read(self, model: str) -> TrafficPlan | None:
        """The plan in force; None for a model without one."""
        try:
            return self._registry.plan(model)
        except HardcaseError:
            return None

    def write(self, plan: TrafficPlan, *, expected_revision: int) -> TrafficPlan:
        """Write the next revision.

        Raises:
            Conflict: the plan has another revision by now.
            RegistryError: it cannot be followed.
        """
        return self._registry.set_plan(plan, expected_revision=expected_revision)

    def rollback(self, model: str, *, author: str, reason: str) -> TrafficPlan:
        """Return to the champion before the present one, and withdraw any challenger.

        Raises:
            RegistryError: there is none.
        """
        return self._registry.rollback(model, author=author, reason=reason)
