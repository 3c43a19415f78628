"""`hardcase deploy`: registry, promotion, and the wait until every replica answers with the version or says why not."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.addresses import addresses
from deploy.cli.context import Invocation
from deploy.convergence import Standing, TrafficStatus, find_replicas, wait
from deploy.errors import CommandError, Refused, UsageError
from export.contracts.traffic import TrafficPlan
from export.registry import Registry
from monitoring.rollout.plans import tries_challenger


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What `hardcase deploy` did. `serving` is "ready", or "not running" when only the plan was changed."""

    model: str
    version: str
    revision: int
    serving: str
    replicas: int
    seconds: float
    text: str


def deploy_version(invocation: Invocation, what: str, *, author: str, reason: str, wait_s: float) -> Deployed:
    """Make a version the champion and wait for serving.

    Raises:
        Refused: a replica will not load it; the text has its reason.
        CommandError: nothing was decided in time.
    """
    started = time.monotonic()
    model, version = _find(invocation, what)
    registry = invocation.registry
    plan = registry.promote(model, registry.resolve(model, version), author=author, reason=reason)
    replicas = await_champion(invocation, plan, wait_s)
    seconds, champion = time.monotonic() - started, plan.champion or version
    where = addresses(invocation.settings)["inference"]
    done = f"{model} {champion} is the champion; nothing serves at {where} now"
    if replicas:
        done = f"{model} {champion} answers on {replicas} replica{'s' * (replicas > 1)} after {seconds:.1f} s"
    return Deployed(
        model=model,
        version=champion,
        revision=plan.revision,
        serving="ready" if replicas else "not running",
        replicas=replicas,
        seconds=seconds,
        text=done,
    )


def await_champion(invocation: Invocation, plan: TrafficPlan, wait_s: float) -> int:
    """Wait until every replica answers with a plan's champion.

    Returns:
        How many replicas do; 0 when nothing serves.

    Raises:
        Refused: a replica will not load it; the text has its reason.
        CommandError: nothing was decided in time.
    """
    if not find_replicas(invocation, (), None):
        return 0
    status = wait(lambda: plan, lambda: find_replicas(invocation, (), None), wait_s, _decided)
    hosting = [r for r in status.replicas if r.standing is not Standing.ELSEWHERE]
    refused = _refused(status)
    if refused is not None:
        raise Refused(
            f"serving refuses {plan.model} {plan.champion}: {refused}; the last champion goes on answering",
            f"`hardcase rollback {plan.model}` puts the plan back",
        )
    late = [r for r in hosting if r.answering != plan.champion or r.revision < plan.revision]
    if late or not hosting:
        told = "; ".join(f"{r.address} is {r.standing}" for r in late[:3]) or "no replica hosts the model"
        raise CommandError(
            f"{plan.model} {plan.champion} does not answer everywhere after {wait_s:g} s: {told}",
            f"`hardcase traffic status {plan.model} --wait` goes on waiting",
        )
    return len(hosting)


def take_back(registry: Registry, model: str, *, author: str, reason: str) -> TrafficPlan:
    """Undo the last thing that was done: a roll-out that is under way, or else the last promotion.

    A roll-out sees that its version was withdrawn, and ends.

    Raises:
        RegistryError: there is no earlier champion that is still in the registry.
    """
    plan = registry.plan(model)
    if plan is not None and tries_challenger(plan):
        return registry.withdraw(model, author=author, reason=reason)  # the champion was never touched
    return registry.rollback(model, author=author, reason=reason)


def _decided(status: TrafficStatus) -> bool:
    hosting = [r for r in status.replicas if r.standing is not Standing.ELSEWHERE]
    plan = status.plan
    answered = all(r.answering == plan.champion and r.revision >= plan.revision for r in hosting)
    return _refused(status) is not None or (bool(hosting) and answered)


def _refused(status: TrafficStatus) -> str | None:
    """Why a replica will not load the champion, None while none refuses it."""
    for replica in status.replicas:
        if replica.revision >= status.plan.revision:
            for version in replica.versions:
                if version.version == status.plan.champion and version.state == "UNAVAILABLE":
                    return version.reason
    return None


def _find(invocation: Invocation, what: str) -> tuple[str, str]:
    if os.sep in what or Path(what).is_dir():
        from deploy.packaging import admit_and_add

        added = admit_and_add(invocation.registry, Path(what))
        return added.manifest.name, added.manifest.version
    model, at, version = what.partition("@")
    if at:
        return model, version
    versions = invocation.registry.versions(model)
    if not versions:
        raise UsageError(f"'{what}' is neither a package folder nor a model in the registry")
    return model, versions[-1]
