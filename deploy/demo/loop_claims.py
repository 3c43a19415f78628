"""What the whole story claims, and whether its figures bear it out."""

from __future__ import annotations

from deploy.demo.findings import Claim, percent
from deploy.demo.told import Happened, Told
from monitoring.loop.contracts import Stage

MOST_LABELS = 200
WANTED_SHARE = 0.9
MOST_EXPOSED = 0.01
LEAST_REQUESTS = 100_000
MOST_S = 600.0
WITHDRAWN_S = 30.0


def judge_told(told: Told) -> list[Claim]:
    """The claims."""
    claims = [_answered(told), _alarm(told), _recovered(told), _turns(told), _exposed(told)]
    claims += [_withdrawn(told)] if any(t.fault == "dead_pixel" for t in told.turns) else []
    claims.append(_accounted(told))
    if not told.quick:
        claims.append(
            Claim(name="it takes ten minutes at most", holds=told.seconds <= MOST_S, detail=f"{told.seconds:.0f} s")
        )
    return claims


def _answered(told: Told) -> Claim:
    enough = told.quick or told.sent >= LEAST_REQUESTS
    return Claim(
        name="every request was answered",
        holds=told.failed == 0 and told.sent == told.answered and enough,
        detail=f"{told.sent:,} sent, {told.answered:,} answered, {told.failed:,} failed",
    )


def _alarm(told: Told) -> Claim:
    shift = next((e.at_s for e in told.events if e.kind is Happened.WORLD), None)
    alarm = next((e.at_s for e in told.events if e.kind is Happened.ALARM), None)
    good = shift is not None and alarm is not None and alarm > shift
    took = f"{alarm - shift:.0f} s after the shift" if shift is not None and alarm is not None else "it never fired"
    return Claim(name="the alarm fires, and not before the shift", holds=good, detail=took)


def _recovered(told: Told) -> Claim:
    good = bool(told.recoveries) and all(
        r.share is not None and r.share >= WANTED_SHARE and r.labels <= MOST_LABELS for r in told.recoveries
    )
    words = "; ".join(
        f"{r.scene}: {percent(r.before)} before, {percent(r.under)} under, {percent(r.after)} after, "
        f"{percent(r.share)} recovered with {r.labels} labels"
        for r in told.recoveries
    )
    return Claim(name=f"at least 90 % comes back with {MOST_LABELS} labels at most", holds=good, detail=words)


def _turns(told: Told) -> Claim:
    wanted = {
        "": Stage.PROMOTED.value,
        "shuffled": Stage.REJECTED.value,
        "dead_pixel": Stage.ROLLED_BACK.value,
    }
    good = bool(told.turns) and all(t.stage == wanted[t.fault] for t in told.turns)
    words = ", ".join(f"version {t.version or '?'} {t.stage.replace('_', ' ')}" for t in told.turns)
    return Claim(name="good candidates are promoted, bad ones are not", holds=good, detail=words)


def _exposed(told: Told) -> Claim:
    bad = sum(t.answered for t in told.turns if t.stage != Stage.PROMOTED.value)
    share = bad / told.answered if told.answered else None
    return Claim(
        name="at most 1 % of the answers come from candidates that failed",
        holds=share is not None and share <= MOST_EXPOSED,
        detail=f"{bad:,} of {told.answered:,}",
    )


def _withdrawn(told: Told) -> Claim:
    died = next(
        (e.at_s for e in told.events if e.kind is Happened.WORLD and "pixel" in e.text and "dies" in e.text), None
    )
    back = next((t.ended_s for t in told.turns if t.stage == Stage.ROLLED_BACK.value), None)
    took = None if died is None or back is None else back - died
    return Claim(
        name="a canary that fails is withdrawn within 30 s",
        holds=took is not None and 0 <= took <= WITHDRAWN_S,
        detail="it was not withdrawn" if took is None else f"{took:.1f} s after the pixel died",
    )


def _accounted(told: Told) -> Claim:
    return Claim(
        name="every request is accounted for",
        holds=bool(told.accounting.get("balanced")),
        detail=f"{told.accounting.get('requests')} requests, {told.accounting.get('captured')} captured",
    )
