"""How far each replica is with a model's traffic plan: each is asked itself, not one of them behind the balancer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from deploy import probes
from deploy.addresses import addresses
from deploy.cli.context import Invocation
from deploy.errors import CommandError
from deploy.replica_list import read_targets
from export.contracts import codec
from export.contracts.traffic import TrafficPlan
from serving.traffic_report import ChallengerReport, ModelTraffic, TrafficReport, VersionReport

TOKEN_VARIABLE = "HARDCASE_TOKEN"
POLL_S = 0.1
_ASKED_AT_ONCE = 16


class Standing(StrEnum):
    """Where a replica stands."""

    CURRENT = "current"  # it does what the plan says
    LOADING = "loading"  # it has seen the plan, and loads what is missing
    OLD = "old plan"  # it has not looked yet
    REFUSED = "refused"  # it will not load a version; the one before goes on answering
    TRIPPED = "tripped"  # it took the challenger out, because that failed too often
    BEHIND = "behind"  # something is on its way that is neither loading nor refused
    ELSEWHERE = "elsewhere"  # the model belongs to another pool's replicas
    SILENT = "silent"  # no answer

    @property
    def final(self) -> bool:
        """Whether waiting changes nothing: somebody has to decide."""
        return self in (Standing.REFUSED, Standing.TRIPPED)


@dataclass(frozen=True, kw_only=True)
class ReplicaTraffic:
    """One replica. `reason` says why it is not current; `answering` is what answers requests that name no version."""

    address: str
    standing: Standing
    reason: str = ""
    pid: int = 0
    revision: int = 0
    answering: str | None = None
    since: str = ""
    versions: tuple[VersionReport, ...] = ()
    challenger: ChallengerReport | None = None


@dataclass(frozen=True, kw_only=True)
class TrafficStatus:
    """A model's plan and all replicas.

    Attributes:
        converged: Every replica that hosts the model does what the plan says, and there is one.
    """

    model: str
    plan: TrafficPlan
    converged: bool
    replicas: tuple[ReplicaTraffic, ...]

    @property
    def stuck(self) -> ReplicaTraffic | None:
        """A replica for which waiting is in vain."""
        return next((r for r in self.replicas if r.standing.final), None)


def find_replicas(invocation: Invocation, given: Sequence[str], discover: str | None) -> list[str]:
    """Addresses (host:port) of the replicas' own HTTP servers.

    Args:
        invocation: The settings and the state folder.
        given: Named by the caller; nothing else is looked for then.
        discover: URL of a Prometheus HTTP service discovery, such as the monitor's `/sd/prometheus`.

    Raises:
        CommandError: the discovery does not answer with a list of targets.
    """
    if given:
        return list(given)
    if discover is not None:
        code, body = probes.get(discover, token=os.environ.get(TOKEN_VARIABLE))
        try:
            return [str(t) for group in json.loads(body) for t in group["targets"]]
        except (ValueError, TypeError, KeyError):
            raise CommandError(f"{discover} answered {code} and no list of targets") from None
    running = read_targets(invocation.paths)
    if running:
        return running
    base = addresses(invocation.settings)["inference"]
    return [base.split("://", 1)[-1]] if probes.answers(f"{base}/v2/health/live") else []


def look(plan: TrafficPlan, replicas: Sequence[str]) -> TrafficStatus:
    """Ask all replicas at once.

    Raises:
        CommandError: they ask for a credential.
    """
    with ThreadPoolExecutor(max(1, min(_ASKED_AT_ONCE, len(replicas)))) as threads:
        found = tuple(threads.map(lambda address: _ask(address, plan), replicas))
    hosting = [r for r in found if r.standing is not Standing.ELSEWHERE]
    converged = bool(hosting) and all(r.standing is Standing.CURRENT for r in hosting)
    return TrafficStatus(model=plan.model, plan=plan, converged=converged, replicas=found)


def wait(
    plan: Callable[[], TrafficPlan],
    replicas: Callable[[], Sequence[str]],
    timeout_s: float,
    enough: Callable[[TrafficStatus], bool] = lambda status: status.converged or status.stuck is not None,
) -> TrafficStatus:
    """Look until it is enough, or the time is over; plan and replicas may change meanwhile."""
    deadline = time.monotonic() + timeout_s
    while True:
        status = look(plan(), replicas())
        if enough(status) or time.monotonic() > deadline:
            return status
        time.sleep(POLL_S)


def _ask(address: str, plan: TrafficPlan) -> ReplicaTraffic:
    code, body = probes.get(f"http://{address}/v2/repository/traffic", token=os.environ.get(TOKEN_VARIABLE))
    if code in (401, 403):
        raise CommandError("serving asks for a credential", f"put the token into the variable {TOKEN_VARIABLE}")
    if code != 200:
        said = f"it answers {code}" if code else "it does not answer"
        return ReplicaTraffic(address=address, standing=Standing.SILENT, reason=said)
    try:
        report = codec.loads(TrafficReport, body)
    except ValueError:
        return ReplicaTraffic(address=address, standing=Standing.SILENT, reason="its answer is not a traffic report")
    entry = next((m for m in report.models if m.model == plan.model), None)
    if entry is None:
        return ReplicaTraffic(
            address=address, standing=Standing.ELSEWHERE, reason="it does not host the model", pid=report.pid
        )
    standing, reason = _standing(entry, plan)
    return ReplicaTraffic(
        address=address,
        standing=standing,
        reason=reason,
        pid=report.pid,
        revision=entry.revision,
        answering=entry.answering,
        since=entry.since,
        versions=entry.versions,
        challenger=entry.challenger,
    )


def _standing(entry: ModelTraffic, plan: TrafficPlan) -> tuple[Standing, str]:
    if entry.revision < plan.revision:
        return Standing.OLD, f"it has seen revision {entry.revision}"
    if entry.followed:
        return Standing.CURRENT, ""
    refused = [v for v in entry.versions if v.state == "UNAVAILABLE" and v.version in plan.versions]
    if refused:
        return Standing.REFUSED, f"version {refused[0].version}: {refused[0].reason}"
    if entry.loading:
        return Standing.LOADING, ""
    if entry.challenger is not None and entry.challenger.tripped:
        return Standing.TRIPPED, f"version {entry.challenger.version}: {entry.challenger.tripped}"
    return Standing.BEHIND, ""
