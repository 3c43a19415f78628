"""What a replica tells of the traffic plans that it follows: which revision, who answers, what is refused and why.

`GET /v2/repository/traffic`. `hardcase traffic status` asks every replica and puts the answers side by side.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from export.contracts.traffic import ChallengerMode
from serving.evidence import Evidence
from serving.served import ServedModel, VersionState


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionReport:
    """A version that the replica hosts or tried to host. `reason` is public text, "" when there is nothing to say."""

    version: str
    state: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChallengerReport:
    """The plan's challenger on this replica.

    Attributes:
        mode: "shadow" or "canary".
        percent: Share of the requests that reach it.
        on_duty: False while it is loading, refused, or was taken out.
        tripped: Why it was taken out here; "" otherwise.
        since: RFC 3339, UTC: when the counting began.
        requests: Canary: requests that it answered or tried to.
        failures: Canary: those that count against it.
        fallbacks: Canary: requests of its share that the champion answered, by reason.
        shadow: Shadow: offered requests, by what became of them.
        rows: Shadow: rows compared.
        different_rows: Shadow: rows that differ, by how.
        max_abs_difference: Shadow: of all float outputs.
        champion_us_per_row, shadow_us_per_row: Shadow: time in the runtime for the rows that were compared; None before
            the first.
    """

    version: str
    mode: str
    percent: float
    on_duty: bool
    tripped: str
    since: str
    requests: int
    failures: int
    fallbacks: dict[str, int]
    shadow: dict[str, int]
    rows: int
    different_rows: dict[str, int]
    max_abs_difference: float
    champion_us_per_row: float | None
    shadow_us_per_row: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTraffic:
    """One model.

    Attributes:
        revision: Of the plan that the replica has seen; 0 without one.
        planned: The plan's champion.
        answering: The version that answers requests which name none; None when nothing does.
        since: RFC 3339, UTC: since when it does; "" when it does not.
        followed: The plan holds here as it is written: champion, challenger and pinned versions do what it says.
        loading: Something that the plan needs is being loaded: wait.
    """

    model: str
    revision: int
    planned: str | None
    answering: str | None
    since: str
    followed: bool
    loading: bool
    versions: tuple[VersionReport, ...]
    challenger: ChallengerReport | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficReport:
    """One replica. `pid` tells a restarted one from the one before it."""

    pid: int
    models: tuple[ModelTraffic, ...]


def traffic_report(models: Iterable[ServedModel]) -> TrafficReport:
    """The report of this process."""
    return TrafficReport(pid=os.getpid(), models=tuple(_model(m) for m in sorted(models, key=lambda m: m.name)))


def _model(served: ServedModel) -> ModelTraffic:
    plan, champion = served.plan, served.champion
    statuses = list(served.statuses())
    needed = set(plan.versions if plan else ())
    states = {s.version: s.state for s in statuses}
    challenger = _challenger(served, served.evidence) if served.evidence is not None else None
    ready = all(states.get(v) is VersionState.READY for v in needed)
    return ModelTraffic(
        model=served.name,
        revision=plan.revision if plan else 0,
        planned=plan.champion if plan else None,
        answering=champion.version if champion else None,
        since=_time(served.flipped_ns) if champion else "",
        followed=ready and not served.behind and (challenger is None or challenger.on_duty),
        loading=any(states.get(v, VersionState.LOADING) is VersionState.LOADING for v in needed),
        versions=tuple(VersionReport(version=s.version, state=s.state, reason=s.reason) for s in statuses),
        challenger=challenger,
    )


def _challenger(served: ServedModel, evidence: Evidence) -> ChallengerReport:
    rows = evidence.rows
    on_duty = served.shadow if evidence.mode is ChallengerMode.SHADOW else served.canary
    return ChallengerReport(
        version=evidence.challenger,
        mode=evidence.mode,
        percent=served.plan.challenger_percent if served.plan else 0.0,
        on_duty=on_duty is not None,
        tripped=evidence.tripped,
        since=_time(evidence.since_ns),
        requests=evidence.canary_requests,
        failures=evidence.breaker.failures,
        fallbacks={str(k): n for k, n in evidence.fallbacks.items() if n},
        shadow={str(k): n for k, n in evidence.shadow.items() if n},
        rows=rows,
        different_rows={str(k): n for k, n in evidence.different.items() if n},
        max_abs_difference=evidence.max_abs_difference,
        champion_us_per_row=round(evidence.champion_ns / rows / 1000, 3) if rows else None,
        shadow_us_per_row=round(evidence.shadow_ns / rows / 1000, 3) if rows else None,
    )


def _time(ns: int) -> str:
    text = datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
