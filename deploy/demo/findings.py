"""What the monitor found in the demo's traffic, asked through its public API, and whether the story's claims hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from deploy.demo.traffic import MODEL, Phase, Sent
from deploy.errors import CommandError
from deploy.monitor_client import MonitorClient

TOP = 50
READERS = 16
FLAGGED = frozenset({"low_confidence", "novelty"})


@dataclass(frozen=True, kw_only=True)
class PhaseResult:
    """One phase as measured: accuracy from feedback that the monitor joined; None without any."""

    key: str
    title: str
    harmful: bool
    requests: int
    failed: int
    labelled: int
    accuracy: float | None
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class SignalResult:
    """The largest value of one drift signal in the windows before and under the shift; None: not enough data."""

    kind: str
    method: str
    subject: str
    before: float | None
    under: float | None
    threshold: float | None
    exceeded_before: bool
    exceeded_under: bool


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """One flagged case of the shifted part. `correct` comes from the feedback that followed."""

    id: str
    record_id: str
    phase: str
    predicted: str | None
    label: str | None
    p_wrong: float | None
    reasons: list[str]
    correct: bool | None
    link: str
    picture: str | None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence that the demo makes, whether it holds, and the figures."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The demo's report."""

    run: str
    started_at: str
    seconds: float
    console: str
    phases: list[PhaseResult]
    signals: list[SignalResult]
    cases: list[CaseResult]
    flagged: int
    accounting: dict[str, Any]
    claims: list[Claim] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every claim holds."""
        return all(c.holds for c in self.claims)


def wait_until(done: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll four times a second.

    Raises:
        CommandError: it did not come true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise CommandError(f"{what} after {timeout_s:.0f} s", "`hardcase status` shows how far the monitor is")
        time.sleep(0.25)


def is_ingested(client: MonitorClient, sent: Sequence[Sent], *, labelled: bool = False) -> bool:
    """Whether the monitor has the last records of every phase (and their labels)."""
    for phase in sent:
        for record_id in phase.ids[-3:]:
            found = _record(client, record_id)
            if found is None or (labelled and found["correct_rows"] is None):
                return False
    return True


def flagged_cases(client: MonitorClient, sent: Sequence[Sent]) -> list[dict[str, Any]]:
    """Cases that scores opened in the harmful phases, most probably wrong first. Asked before any label is known."""
    harmful = [s for s in sent if s.phase.harmful]
    ids = {record_id for s in harmful for record_id in s.ids}
    query = {"from": _rfc3339(harmful[0].first_ns - 10**9), "to": _rfc3339(harmful[-1].last_ns + 2 * 10**9)}
    found = client.cases(model=MODEL, limit=5000, **query)
    return [c for c in found if c["record_id"] in ids and FLAGGED.intersection(c["reasons"])]


async def phase_results(
    base: str, token: str | None, sent: Sequence[Sent], advance: Callable[[int], None]
) -> list[PhaseResult]:
    """Accuracy of each phase, record by record, as the monitor joined answers and labels."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    limits = httpx.Limits(max_connections=READERS)
    gate = asyncio.Semaphore(READERS)
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60, trust_env=False, limits=limits) as client:

        async def one(record_id: str) -> dict[str, Any] | None:
            async with gate:
                response = await client.get(f"/api/records/{quote(record_id)}", params={"model": MODEL})
            advance(1)
            return response.json()["records"][0] if response.status_code == 200 else None

        results = []
        for phase in sent:
            found = [r for r in await asyncio.gather(*map(one, phase.ids)) if r is not None]
            judged = [r["correct_rows"] for r in found if r["correct_rows"] is not None]
            sure = [r["confidence"] for r in found if r["confidence"] is not None]
            results.append(
                PhaseResult(
                    key=phase.phase.key,
                    title=phase.phase.title,
                    harmful=phase.phase.harmful,
                    requests=len(phase.ids) + phase.failed,
                    failed=phase.failed,
                    labelled=len(judged),
                    accuracy=sum(judged) / len(judged) if judged else None,
                    confidence=sum(sure) / len(sure) if sure else None,
                )
            )
    return results


def signal_results(client: MonitorClient, sent: Sequence[Sent], window_s: int) -> list[SignalResult]:
    """Each drift signal's largest value in the windows of the healthy and of the shifted part."""
    harmful = [s for s in sent if s.phase.harmful]
    before = _signals(client, sent[0].first_ns - window_s * 10**9, sent[0].last_ns)
    under = _signals(client, harmful[0].first_ns - window_s * 10**9, harmful[-1].last_ns)
    results = []
    for key in sorted(set(before) | set(under)):
        b, u = before.get(key), under.get(key)
        known = u or b or {}
        results.append(
            SignalResult(
                kind=key[0],
                method=key[1],
                subject=key[2],
                before=b["value"] if b else None,
                under=u["value"] if u else None,
                threshold=known.get("threshold"),
                exceeded_before=bool(b and b["exceeded"]),
                exceeded_under=bool(u and u["exceeded"]),
            )
        )
    return sorted(results, key=lambda s: (not s.exceeded_under, -_excess(s)))


def _excess(signal: SignalResult) -> float:
    if signal.under is None or not signal.threshold:
        return 0.0
    return signal.under / signal.threshold


def _signals(client: MonitorClient, from_ns: int, to_ns: int) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The largest value of each signal over windows that begin in the range."""
    query = {"from": _rfc3339(from_ns), "to": _rfc3339(to_ns + 10**9), "scope": "window", "limit": 5000}
    largest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for signal in client.get(f"/api/models/{MODEL}/drift", **query)["signals"]:
        began_ns = datetime.fromisoformat(signal["start"]).timestamp() * 1e9
        if signal["value"] is None or began_ns <= from_ns:
            continue  # not enough data, or a window of something earlier
        key = (signal["kind"], signal["method"], signal["subject"])
        if key not in largest or signal["value"] > largest[key]["value"]:
            largest[key] = signal
    return largest


def case_results(client: MonitorClient, flagged: Sequence[dict[str, Any]], phases: Sequence[Phase]) -> list[CaseResult]:
    """The top of the list again, now that the labels are known."""
    results = []
    for case in flagged[:TOP]:
        now = client.case(case["id"])
        phase = next((p.key for p in phases if f"-{p.key}-" in now["record_id"]), "")
        results.append(
            CaseResult(
                id=now["id"],
                record_id=now["record_id"],
                phase=phase,
                predicted=now["predicted_label"],
                label=None if now["label"] is None else str(now["label"]),
                p_wrong=case["p_wrong"],
                reasons=case["reasons"],
                correct=now["correct"],
                link=client.case_page(now["id"]),
                picture=now["picture"],
            )
        )
    return results


def shifted_accuracy(findings: Findings) -> float | None:
    """Accuracy over all labelled requests of the harmful phases; None without any."""
    known = [(p.accuracy, p.labelled) for p in findings.phases if p.harmful and p.accuracy is not None]
    labelled = sum(n for _, n in known)
    return sum(a * n for a, n in known) / labelled if labelled else None


def percent(share: float | None) -> str:
    """0.123 to "12.3 %"."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _record(client: MonitorClient, record_id: str) -> dict[str, Any] | None:
    from deploy.errors import Missing

    try:
        found: dict[str, Any] = client.get(f"/api/records/{quote(record_id)}", model=MODEL)["records"][0]
    except Missing:
        return None
    return found


def _rfc3339(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
