"""`hardcase deploy`: registry, promotion, and the wait until replicas answer with the version or say why not."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from deploy import probes
from deploy.cli.context import Invocation
from deploy.errors import CommandError, Refused, UsageError
from deploy.local import addresses
from deploy.packaging import admit_and_add
from export.contracts.traffic import TrafficPlan

TOKEN_VARIABLE = "HARDCASE_TOKEN"


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What `hardcase deploy` did. `serving` is "ready", or "not running" when only the plan was changed."""

    model: str
    version: str
    revision: int
    serving: str
    seconds: float
    text: str


def deploy_version(invocation: Invocation, what: str, *, author: str, reason: str, wait_s: float) -> Deployed:
    """Make a version the champion and wait for serving.

    Raises:
        Refused: replicas will not load it; the text has their reason.
        CommandError: nothing was decided in time.
    """
    started = time.monotonic()
    model, version = _find(invocation, what)
    registry = invocation.registry
    plan = registry.promote(model, registry.resolve(model, version), author=author, reason=reason)
    champion = plan.champion or version
    base = addresses(invocation.settings)["inference"]
    serving = "not running"
    if probes.answers(f"{base}/v2/health/live"):
        _wait(base, plan, started + wait_s)
        serving = "ready"
    seconds = time.monotonic() - started
    done = f"{model} {champion} answers after {seconds:.1f} s" if serving == "ready" else (
        f"{model} {champion} is the champion; nothing serves at {base} now"
    )  # fmt: skip
    return Deployed(model=model, version=champion, revision=plan.revision, serving=serving, seconds=seconds, text=done)


def _find(invocation: Invocation, what: str) -> tuple[str, str]:
    if os.sep in what or Path(what).is_dir():
        added = admit_and_add(invocation.registry, Path(what))
        return added.manifest.name, added.manifest.version
    model, at, version = what.partition("@")
    if at:
        return model, version
    versions = invocation.registry.versions(model)
    if not versions:
        raise UsageError(f"'{what}' is neither a package folder nor a model in the registry")
    return model, versions[-1]


def _wait(base: str, plan: TrafficPlan, deadline: float) -> None:
    token = os.environ.get(TOKEN_VARIABLE)
    path = f"{base}/v2/models/{plan.model}/versions/{plan.champion}/ready"
    while True:
        code, _ = probes.get(path, token=token)
        if code == 200:
            return
        if code in (401, 403):
            raise CommandError("serving asks for a credential", f"put the token into the variable {TOKEN_VARIABLE}")
        state, why = _state(base, plan, token)
        if state == "UNAVAILABLE":
            raise Refused(
                f"serving refuses {plan.model} {plan.champion}: {why}; the last champion goes on answering",
                f"`hardcase rollback {plan.model}` puts the plan back",
            )
        if time.monotonic() > deadline:
            raise CommandError(f"{plan.model} {plan.champion} is {state.lower() or 'unknown'} after the wait")
        time.sleep(0.2)


def _state(base: str, plan: TrafficPlan, token: str | None) -> tuple[str, str]:
    code, body = probes.post_json(f"{base}/v2/repository/index", {}, token=token)
    if code == 200:
        for entry in json.loads(body):
            if (entry["name"], entry["version"]) == (plan.model, plan.champion):
                return str(entry["state"]), str(entry.get("reason") or "")
    return "", ""
